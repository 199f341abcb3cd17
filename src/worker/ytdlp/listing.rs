//! A film of a list, as the template of `command` has yt-dlp print it.

use serde::Deserialize;

use super::{event::title, run::Line};

/// One film of a list; or the only one, where the page has no list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    /// Its own page; none where all there is of it is on the list's.
    pub(crate) url: Option<String>,
    pub(crate) title: String,
    /// From 1; none where the page has no list.
    pub(crate) index: Option<u32>,
    pub(crate) list_title: String,
    /// The page of its list, if this is a list within the one that was asked for.
    pub(crate) list_page: Option<String>,
    /// Whether a download of it has this title, whatever its own page says.
    pub(crate) keeps_title: bool,
}

#[derive(Deserialize)]
struct Printed {
    url: Option<String>,
    title: Option<String>,
    playlist_index: Option<u32>,
    playlist_title: Option<String>,
    playlist_webpage_url: Option<String>,
    #[serde(rename = "_type")]
    kind: Option<String>,
}

impl Listed {
    /// Reads a line; none when it names no film.
    pub(crate) fn of(line: &Line) -> Option<Self> {
        let Line::Out(text) = line else { return None };
        let printed: Printed = serde_json::from_str(text.strip_prefix("E ")?).ok()?;
        // Of what yt-dlp has read already, this is the address of the medium, which may soon be good for nothing.
        let is_page = printed.kind.as_deref().is_some_and(|kind| matches!(kind, "url" | "url_transparent"));
        Some(Self {
            url: printed.url.filter(|_| is_page),
            title: title(printed.title),
            index: printed.playlist_index,
            list_title: title(printed.playlist_title),
            list_page: printed.playlist_webpage_url,
            keeps_title: printed.kind.as_deref() != Some("url"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(json: &str) -> Option<Listed> {
        Listed::of(&Line::Out(format!("E {json}")))
    }

    #[test]
    fn a_film_is_named_by_its_page_where_it_has_one() {
        let page = listed(
            r#"{"url":"https://e.com/a","title":"A","playlist_index":1,"playlist_title":"L","_type":"url_transparent"}"#,
        )
        .unwrap();
        let expected = Listed {
            url: Some("https://e.com/a".into()),
            title: "A".into(),
            index: Some(1),
            list_title: "L".into(),
            list_page: None,
            keeps_title: true,
        };
        assert_eq!(page, expected);
        let inline = listed(r#"{"url":"https://e.com/a.mp4","title":null,"playlist_index":2}"#).unwrap();
        assert_eq!((inline.url, inline.index), (None, Some(2)));
        assert_eq!(listed(r#"{"url":"https://e.com/a.mp4","title":"one"}"#).unwrap().index, None);
    }

    #[test]
    fn what_is_no_film_is_none() {
        for json in ["", "[]", "{", r#"{"playlist_index":-1}"#, r#"{"url":7}"#] {
            assert_eq!(listed(json), None, "{json}");
        }
        assert_eq!(Listed::of(&Line::Err("E {}".into())), None);
    }
}
