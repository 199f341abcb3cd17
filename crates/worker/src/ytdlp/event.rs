//! Parses yt-dlp's output. The templates in `command` make each line JSON after a letter.

use std::path::PathBuf;

use serde::Deserialize;

use super::{run::Line, tracks::Tracks};
use crate::tasks::{description::Description, progress::Progress};

/// Longer titles are cut before they are stored. In characters.
const MAX_TITLE: usize = 500;

/// Something that happened in a download.
#[derive(Debug, PartialEq)]
pub(crate) enum Event {
    /// The source is announced and starts at this Unix time, in seconds, if known.
    Announced(Option<f64>),
    /// The source is live now.
    Live,
    /// The metadata of the source is known.
    Described(Description),
    /// The source comes in several tracks.
    Tracks(Tracks),
    /// The download has progressed.
    Progress(Progress),
    /// ffmpeg is running.
    Processing,
    /// The result is complete, at this path.
    Reported(PathBuf),
}

#[derive(Deserialize)]
struct Metadata {
    title: Option<String>,
    width: Option<f64>,
    height: Option<f64>,
    abr: Option<f64>,
    filesize: Option<f64>,
    filesize_approx: Option<f64>,
}

#[derive(Deserialize)]
struct Downloaded {
    status: Option<String>,
    #[serde(rename = "downloaded_bytes")]
    bytes: Option<f64>,
    total_bytes: Option<f64>,
    total_bytes_estimate: Option<f64>,
    speed: Option<f64>,
    eta: Option<f64>,
}

#[derive(Deserialize)]
struct AnnouncedStart {
    at: Option<f64>,
}

#[derive(Deserialize)]
struct Liveness {
    live_status: Option<String>,
}

#[derive(Deserialize)]
struct PostProcessed {
    postprocessor: String,
}

#[derive(Deserialize)]
struct ResultFile {
    filepath: PathBuf,
}

impl Event {
    /// Parses a line; `None` if it is not an event.
    pub(crate) fn parse(line: &Line) -> Option<Self> {
        match line {
            Line::Out(text) => Self::parse_output(text),
            Line::Err(text) => Self::parse_step(text),
        }
    }

    fn parse_output(text: &str) -> Option<Self> {
        match text.split_once(' ')? {
            ("B", json) => Some(Self::Described(parse_json::<Metadata>(json)?.into())),
            ("T", json) => Some(Self::Tracks(Tracks::new(parse_json(json)?))),
            ("P", json) => Some(Self::Progress(parse_json::<Downloaded>(json)?.into())),
            ("U", json) => Some(Self::Announced(parse_json::<AnnouncedStart>(json)?.at)),
            ("L", json) => {
                let is_live = parse_json::<Liveness>(json)?.live_status.is_some_and(|status| status == "is_live");
                is_live.then_some(Self::Live)
            }
            ("A", json) => Some(Self::Reported(parse_json::<ResultFile>(json)?.filepath)),
            _ => None,
        }
    }

    fn parse_step(text: &str) -> Option<Self> {
        let step: PostProcessed = parse_json(text.strip_prefix("Q ")?)?;
        (step.postprocessor != "MoveFiles").then_some(Self::Processing)
    }
}

impl From<Metadata> for Description {
    fn from(reported: Metadata) -> Self {
        // The shorter side: the width of a portrait video.
        let lines =
            reported.height.map(|height| reported.width.filter(|width| *width > 0.0).map_or(height, |w| w.min(height)));
        let format_note = match (lines, reported.abr) {
            (Some(lines), _) if lines > 0.0 => format!("{lines:.0}p"),
            (_, Some(abr)) if abr > 0.0 => format!("{abr:.0}kbps"),
            _ => String::new(),
        };
        Self {
            title: title(reported.title),
            format_note,
            filesize: to_bytes(reported.filesize.or(reported.filesize_approx)).unwrap_or(0),
        }
    }
}

impl From<Downloaded> for Progress {
    fn from(reported: Downloaded) -> Self {
        let finished = reported.status.is_some_and(|status| status == "finished");
        let whole_of_it = reported.total_bytes.filter(|_| finished);
        let downloaded = reported.bytes.or(whole_of_it).unwrap_or(0.0).max(0.0);
        let total = reported.total_bytes.or(reported.total_bytes_estimate).filter(|total| *total > 0.0);
        let percent = total.map_or(0.0, |total| (downloaded / total * 100.0).clamp(0.0, 100.0));
        let positive = |value: Option<f64>| value.filter(|v| v.is_finite() && *v >= 0.0);
        Self {
            percent,
            downloaded: to_bytes(Some(downloaded)).unwrap_or(0),
            total: to_bytes(total),
            speed: positive(reported.speed),
            eta: positive(reported.eta),
            finished,
        }
    }
}

/// Cuts a title to its limit.
pub(super) fn title(reported: Option<String>) -> String {
    reported.unwrap_or_default().chars().take(MAX_TITLE).collect()
}

fn parse_json<'a, T: Deserialize<'a>>(json: &'a str) -> Option<T> {
    serde_json::from_str(json).ok()
}

/// Converts a size, which yt-dlp sometimes gives as a fraction.
pub(super) fn to_bytes(number: Option<f64>) -> Option<u64> {
    let number = number.filter(|n| n.is_finite() && *n >= 0.0)?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative, and `as` saturates")]
    Some(number as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn out(text: &str) -> Option<Event> {
        Event::parse(&Line::Out(text.to_owned()))
    }

    fn err(text: &str) -> Option<Event> {
        Event::parse(&Line::Err(text.to_owned()))
    }

    #[test]
    fn progress_is_read_from_its_json() {
        let line = r#"P {"status":"downloading","downloaded_bytes":512,"total_bytes":2048,"speed":100.5,"eta":15}"#;
        let expected = Progress {
            percent: 25.0,
            downloaded: 512,
            total: Some(2048),
            speed: Some(100.5),
            eta: Some(15.0),
            finished: false,
        };
        assert_eq!(out(line), Some(Event::Progress(expected)));
        let unknown = Progress { downloaded: 512, ..Progress::default() };
        let line = r#"P {"downloaded_bytes":512,"total_bytes_estimate":0.0,"eta":null}"#;
        assert_eq!(out(line), Some(Event::Progress(unknown)));
    }

    #[test]
    fn a_description_names_height_or_bit_rate() {
        let described = |title: &str, format_note: &str, filesize| {
            Some(Event::Described(Description { title: title.into(), format_note: format_note.into(), filesize }))
        };
        assert_eq!(out(r#"B {"title":"T","height":1080,"filesize_approx":9.7}"#), described("T", "1080p", 9));
        let upright = r#"B {"title":"T","width":1080,"height":1920,"filesize":9}"#;
        assert_eq!(out(upright), described("T", "1080p", 9));
        assert_eq!(out(r#"B {"title":null,"abr":128.4}"#), described("", "128kbps", 0));
    }

    #[test]
    fn the_result_and_the_steps_after_the_download_are_distinguished() {
        assert_eq!(out(r#"A {"filepath":"/j/out/media.mp4"}"#), Some(Event::Reported("/j/out/media.mp4".into())));
        assert_eq!(err(r#"Q {"status":"started","postprocessor":"Merger"}"#), Some(Event::Processing));
        assert_eq!(err(r#"Q {"status":"started","postprocessor":"MoveFiles"}"#), None);
        assert_eq!(err("WARNING: x"), None);
        assert_eq!(err("ERROR: x"), None);
        assert_eq!(out(r#"U {"at": 1.5}"#), Some(Event::Announced(Some(1.5))));
        assert_eq!(out(r#"U {"at": null}"#), Some(Event::Announced(None)));
        assert_eq!(out(r#"L {"live_status": "is_live"}"#), Some(Event::Live));
        assert_eq!(out(r#"L {"live_status": "was_live"}"#), None);
        for noise in ["", "A", "A NA", "P {", "B []", "hello world"] {
            assert_eq!(out(noise), None, "{noise}");
        }
    }
}
