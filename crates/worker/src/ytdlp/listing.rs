//! Parses the videos of a playlist, as yt-dlp prints them with the template in `command`.

use serde::Deserialize;

use super::{event::title, run::Line};

/// One video of a playlist, or the only video of a page without one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListedVideo {
    /// The video's own page; none if the video exists only on the playlist's page.
    pub(crate) url: Option<String>,
    pub(crate) title: String,
    /// The position, from 1; none if the page has no playlist.
    pub(crate) index: Option<u32>,
    pub(crate) list_title: String,
    /// The page of the video's playlist, if that is nested in the requested one.
    pub(crate) list_page: Option<String>,
    /// Whether a download of the video has this title, whatever the video's own page says.
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

impl ListedVideo {
    /// Parses a line; `None` if it does not describe a video.
    pub(crate) fn parse(line: &Line) -> Option<Self> {
        let Line::Out(text) = line else { return None };
        let printed: Printed = serde_json::from_str(text.strip_prefix("E ")?).ok()?;
        // For an entry that yt-dlp has already loaded, `url` is that of the media file, which may soon expire.
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

    fn listed(json: &str) -> Option<ListedVideo> {
        ListedVideo::parse(&Line::Out(format!("E {json}")))
    }

    #[test]
    fn a_video_is_identified_by_its_own_page_if_it_has_one() {
        let page = listed(
            r#"{"url":"https://e.com/a","title":"A","playlist_index":1,"playlist_title":"L","_type":"url_transparent"}"#,
        )
        .unwrap();
        let expected = ListedVideo {
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
    fn lines_that_describe_no_video_are_ignored() {
        for json in ["", "[]", "{", r#"{"playlist_index":-1}"#, r#"{"url":7}"#] {
            assert_eq!(listed(json), None, "{json}");
        }
        assert_eq!(ListedVideo::parse(&Line::Err("E {}".into())), None);
    }
}
