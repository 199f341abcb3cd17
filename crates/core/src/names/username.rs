//! User names, which identities, signed statements and owners have in common.

use std::{fmt, str::FromStr};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

/// The suffix of a name derived from a subject that is not a valid name.
const SUBJECT_SUFFIX: &str = "@sub";

/// The number of characters of the subject that such a name keeps.
const MAX_READABLE: usize = 24;

/// The number of bytes of the subject's digest in such a name, which distinguish it from others.
const DIGEST_BYTES: usize = 16;

/// A user's name: 1 to 64 of the characters `a-z A-Z 0-9 . _ @ -`, of which the first is a letter or a digit.
///
/// These characters need no escaping in a header, a log line, a path or a query.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UserName(String);

/// The error for a string that is not a valid user name.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("a user name has 1 to 64 letters, digits and . _ @ -, and starts with a letter or a digit")]
pub struct InvalidUserName;

impl UserName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the user name for an identity provider's `subject`, which may have any characters; None for an empty subject.
    ///
    /// A subject that is a valid name is that user. Any other gets a name that keeps its readable part and ends in its digest and `@sub`:
    /// `auth0|5f7c8ec7` becomes `auth0_5f7c8ec7.<32 hexadecimal digits>@sub`. A subject that already ends in `@sub` is treated the same way, so
    /// that no subject yields the name derived from another one.
    #[must_use]
    pub fn of_subject(subject: &str) -> Option<Self> {
        if subject.is_empty() {
            return None;
        }
        match subject.parse() {
            Ok(name) if !subject.ends_with(SUBJECT_SUFFIX) => Some(name),
            _ => Some(Self::derived(subject)),
        }
    }

    fn derived(subject: &str) -> Self {
        let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
        let readable: String = subject.chars().map(plain).take(MAX_READABLE).collect();
        let digest = Sha256::digest(subject);
        let digest = HEXLOWER.encode(digest.get(..DIGEST_BYTES).unwrap_or(&digest));
        // The first character must be a letter or a digit.
        let first = if readable.starts_with(|c: char| c.is_ascii_alphanumeric()) { "" } else { "x" };
        Self(format!("{first}{readable}.{digest}{SUBJECT_SUFFIX}"))
    }
}

impl FromStr for UserName {
    type Err = InvalidUserName;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let ok = (1..=64).contains(&name.len())
            && name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._@-".contains(&b));
        if ok { Ok(Self(name.to_owned())) } else { Err(InvalidUserName) }
    }
}

impl TryFrom<String> for UserName {
    type Error = InvalidUserName;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        name.parse()
    }
}

impl From<UserName> for String {
    fn from(name: UserName) -> Self {
        name.0
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_break_out_of_a_header_or_a_path_are_refused() {
        for name in ["", ".", "..", "-x", "a b", "a/b", "a\nb", "a\"b", "é", &"x".repeat(65)] {
            assert_eq!(name.parse::<UserName>(), Err(InvalidUserName), "{name:?}");
        }
    }

    #[test]
    fn a_subject_that_is_a_name_is_that_user() {
        for name in ["ana", "ana@example.com", "507f1f77bcf86cd799439011", "ana@sub.example"] {
            assert_eq!(UserName::of_subject(name).unwrap().as_str(), name);
        }
        assert_eq!(UserName::of_subject(""), None);
    }

    #[test]
    fn every_other_subject_gets_a_unique_and_valid_name() {
        let subjects = [
            "auth0|5f7c8ec7c33c6c004bbafe82",
            "auth0_5f7c8ec7c33c6c004bbafe82 ",
            "https://id.example/users/7",
            "Zoë",
            "../../etc/passwd",
            "..",
            "-x",
            "a\r\nRemote-User: admin",
            "admin\0",
            "admin ",
            " admin",
            &"x".repeat(65),
            &"x".repeat(66),
            &"é".repeat(4_000),
        ];
        let mut names: Vec<_> = subjects.iter().map(|s| UserName::of_subject(s).unwrap()).collect();
        assert_eq!(names[0].as_str(), "auth0_5f7c8ec7c33c6c004b.41aa487887e3c45c19b2448b2f036552@sub");
        for name in &names {
            assert_eq!(name.as_str().parse().as_ref(), Ok(name), "it is a name");
        }
        // A subject never yields the name derived from another one.
        names.extend(names.clone().iter().map(|name| UserName::of_subject(name.as_str()).unwrap()));
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 2 * subjects.len());
    }

    #[test]
    fn ordinary_names_and_mail_addresses_pass() {
        for name in ["a", "admin", "ana.maria_2", "ana@example.com", &"x".repeat(64)] {
            assert!(name.parse::<UserName>().is_ok(), "{name:?}");
        }
    }
}
