//! Language tags (`en`, `pt-BR`; BCP 47), as sites use them for subtitles.

use std::{fmt, str::FromStr};

use serde::Deserialize;
use thiserror::Error;

/// The longest tag (RFC 5646, section 4.4.1).
const MAX_TAG: usize = 35;

/// What yt-dlp reads as "every language". No site that it supports has the language with this tag.
const EVERY: &str = "all";

/// A tag of letters and digits separated by hyphens, in its original case. It is safe in a file name and in a regular expression.
#[derive(Clone, Debug)]
pub(crate) struct Language(String);

/// Up to [`MAX`](Self::MAX) distinct languages, in the order given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub(crate) struct Languages(Vec<Language>);

/// The error for an invalid language or list of languages.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum InvalidLanguage {
    #[error("not a language; write its tag, like en or pt-BR")]
    Tag,
    #[error("too many languages; {max} at most", max = Languages::MAX)]
    TooMany,
}

impl Language {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns true if this language, as a range, matches `tag`: `en` matches `en` and `en-US` (basic filtering, RFC 4647, section 3.3.1).
    pub(crate) fn covers(&self, tag: &Self) -> bool {
        let (start, rest) = tag.0.split_at_checked(self.0.len()).unwrap_or_default();
        start.eq_ignore_ascii_case(&self.0) && (rest.is_empty() || rest.starts_with('-'))
    }
}

/// Tags are case-insensitive (RFC 5646, section 2.1.1).
impl PartialEq for Language {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for Language {}

impl FromStr for Language {
    type Err = InvalidLanguage;

    fn from_str(text: &str) -> Result<Self, InvalidLanguage> {
        let is_subtag = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric());
        let good = text.len() <= MAX_TAG && !text.eq_ignore_ascii_case(EVERY) && text.split('-').all(is_subtag);
        if good { Ok(Self(text.to_owned())) } else { Err(InvalidLanguage::Tag) }
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Languages {
    /// The maximum number of languages in one list.
    pub(crate) const MAX: usize = 8;

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Language> {
        self.0.iter()
    }

    /// Returns the language with this tag.
    pub(crate) fn find(&self, language: &Language) -> Option<&Language> {
        self.0.iter().find(|known| *known == language)
    }

    /// Returns the language with this tag, or else the first that `range` covers.
    pub(crate) fn best(&self, range: &Language) -> Option<&Language> {
        self.find(range).or_else(|| self.0.iter().find(|tag| range.covers(tag)))
    }

    /// Collects languages, dropping duplicates and those beyond [`MAX`](Self::MAX).
    pub(crate) fn of(languages: impl IntoIterator<Item = Language>) -> Self {
        let mut list = Self::default();
        for language in languages {
            let _ = list.add(language);
        }
        list
    }

    fn add(&mut self, language: Language) -> Result<(), InvalidLanguage> {
        if self.find(&language).is_some() {
            return Ok(());
        }
        if self.0.len() == Self::MAX {
            return Err(InvalidLanguage::TooMany);
        }
        self.0.push(language);
        Ok(())
    }
}

impl TryFrom<Vec<String>> for Languages {
    type Error = InvalidLanguage;

    fn try_from(tags: Vec<String>) -> Result<Self, InvalidLanguage> {
        let mut list = Self::default();
        for tag in tags {
            list.add(tag.parse()?)?;
        }
        Ok(list)
    }
}

/// Formats the list as it is stored and passed to yt-dlp.
impl fmt::Display for Languages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tags: Vec<&str> = self.iter().map(Language::as_str).collect();
        f.write_str(&tags.join(","))
    }
}

impl FromStr for Languages {
    type Err = InvalidLanguage;

    fn from_str(text: &str) -> Result<Self, InvalidLanguage> {
        let tags = text.split(',').filter(|tag| !tag.is_empty()).map(str::to_owned);
        tags.collect::<Vec<_>>().try_into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_cannot_be_a_pattern_a_path_or_an_option() {
        for tag in ["en", "pt-BR", "zh-Hant-TW", "es-419", "a-en", "x"] {
            assert_eq!(tag.parse::<Language>().unwrap().as_str(), tag);
        }
        let long = "a".repeat(36);
        for text in [
            "", "-en", "en-", "en--us", "en.*", ".*", "all", "ALL", "en,es", "../x", "en/x", "en_US", "é", "e n", &long,
        ] {
            assert_eq!(text.parse::<Language>(), Err(InvalidLanguage::Tag), "{text:?}");
        }
    }

    #[test]
    fn rfc4647_a_range_covers_the_tags_that_begin_with_it() {
        let covers = |range: &str, tag: &str| range.parse::<Language>().unwrap().covers(&tag.parse().unwrap());
        for (range, tag) in [("en", "en"), ("en", "EN-us"), ("de-CH", "de-ch-1996"), ("zh", "zh-Hant-TW")] {
            assert!(covers(range, tag), "{range} {tag}");
        }
        for (range, tag) in [("en", "eng"), ("en-US", "en"), ("de-de", "de-1996"), ("n", "en")] {
            assert!(!covers(range, tag), "{range} {tag}");
        }
        let list: Languages = "en-GB,en-US,en,fr-CA".parse().unwrap();
        let best = |range: &str| list.best(&range.parse().unwrap()).map(Language::as_str);
        assert_eq!((best("en"), best("fr"), best("es")), (Some("en"), Some("fr-CA"), None));
    }

    #[test]
    fn a_list_has_each_language_once_and_a_limited_length() {
        let list = |tags: &[&str]| Languages::try_from(tags.iter().map(|&tag| tag.to_owned()).collect::<Vec<_>>());
        let two = list(&["en", "pt-BR", "EN"]).unwrap();
        assert_eq!(two.to_string(), "en,pt-BR");
        assert_eq!(two.to_string().parse::<Languages>().unwrap(), two);
        assert_eq!("".parse::<Languages>().unwrap(), Languages::default());
        assert_eq!(list(&["a", "b", "c", "d", "e", "f", "g", "h", "i"]), Err(InvalidLanguage::TooMany));
        assert!(list(&["a", "b", "c", "d", "e", "f", "g", "h", "A"]).is_ok());
        assert_eq!(list(&["en", "x.*"]), Err(InvalidLanguage::Tag));
    }
}
