//! The options of a download: quality, kind, container and priority, each from a closed list.

use std::{fmt, str::FromStr};

use serde::Deserialize;
use thiserror::Error;
use utoipa::ToSchema;

/// The names of every [`Quality`].
pub(crate) const QUALITIES: [&str; 8] = ["best", "2160p", "1440p", "1080p", "720p", "480p", "360p", "240p"];

/// The kinds that an [`Output`] is parsed from.
pub(crate) const KINDS: [&str; 2] = ["video", "audio"];

/// The formats that an [`Output`] is parsed from: three for video, then three for audio.
pub(crate) const FORMATS: [&str; 6] = ["mp4", "mkv", "webm", "m4a", "mp3", "opus"];

/// The highest video quality to download.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) enum Quality {
    /// No limit.
    Best,
    /// At most this many lines.
    Height(u16),
}

/// The error for a quality that is not on the list.
#[derive(Debug, Error)]
#[error("unknown quality; write best, 2160p, 1440p, 1080p, 720p, 480p, 360p or 240p")]
pub(crate) struct UnknownQuality;

/// What to keep of the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// Video and audio, in this container if one was requested.
    Video(Option<VideoFormat>),
    /// Audio only, in this container if one was requested.
    Audio(Option<AudioFormat>),
}

/// A container for video and audio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VideoFormat {
    Mp4,
    Mkv,
    Webm,
}

/// A container for audio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AudioFormat {
    M4a,
    Mp3,
    Opus,
}

/// The error for a kind or format that is not on the list, or for a format of the other kind.
#[derive(Debug, Error)]
pub(crate) enum UnknownOutput {
    #[error("unknown download_type; write video or audio")]
    Kind,
    #[error("unknown format; write mp4, mkv or webm for video, m4a, mp3 or opus for audio")]
    Format,
}

/// The priority of a download.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Priority {
    /// After all normal and high downloads of all users.
    Low,
    #[default]
    Normal,
    /// Before all other downloads of the same owner.
    High,
}

impl Priority {
    /// Returns the number that is stored; a higher one goes first.
    pub(crate) fn rank(self) -> i64 {
        match self {
            Self::Low => -1,
            Self::Normal => 0,
            Self::High => 1,
        }
    }

    pub(crate) fn of_rank(rank: i64) -> Self {
        match rank {
            ..0 => Self::Low,
            0 => Self::Normal,
            1.. => Self::High,
        }
    }
}

impl Default for Quality {
    fn default() -> Self {
        Self::Height(720)
    }
}

impl FromStr for Quality {
    type Err = UnknownQuality;

    fn from_str(text: &str) -> Result<Self, UnknownQuality> {
        match text {
            "best" => Ok(Self::Best),
            "2160p" => Ok(Self::Height(2160)),
            "1440p" => Ok(Self::Height(1440)),
            "1080p" => Ok(Self::Height(1080)),
            "720p" => Ok(Self::Height(720)),
            "480p" => Ok(Self::Height(480)),
            "360p" => Ok(Self::Height(360)),
            "240p" => Ok(Self::Height(240)),
            _ => Err(UnknownQuality),
        }
    }
}

impl TryFrom<String> for Quality {
    type Error = UnknownQuality;

    fn try_from(text: String) -> Result<Self, UnknownQuality> {
        text.parse()
    }
}

impl fmt::Display for Quality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Best => f.write_str("best"),
            Self::Height(lines) => write!(f, "{lines}p"),
        }
    }
}

impl Output {
    /// Parses the two fields of the API.
    pub(crate) fn parse(kind: &str, format: Option<&str>) -> Result<Self, UnknownOutput> {
        match (kind, format) {
            ("video", None) => Ok(Self::Video(None)),
            ("video", Some("mp4")) => Ok(Self::Video(Some(VideoFormat::Mp4))),
            ("video", Some("mkv")) => Ok(Self::Video(Some(VideoFormat::Mkv))),
            ("video", Some("webm")) => Ok(Self::Video(Some(VideoFormat::Webm))),
            ("audio", None) => Ok(Self::Audio(None)),
            ("audio", Some("m4a")) => Ok(Self::Audio(Some(AudioFormat::M4a))),
            ("audio", Some("mp3")) => Ok(Self::Audio(Some(AudioFormat::Mp3))),
            ("audio", Some("opus")) => Ok(Self::Audio(Some(AudioFormat::Opus))),
            ("video" | "audio", Some(_)) => Err(UnknownOutput::Format),
            _ => Err(UnknownOutput::Kind),
        }
    }

    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::Video(_) => "video",
            Self::Audio(_) => "audio",
        }
    }

    pub(crate) fn format(self) -> Option<&'static str> {
        match self {
            Self::Video(format) => format.map(VideoFormat::extension),
            Self::Audio(format) => format.map(AudioFormat::extension),
        }
    }
}

impl VideoFormat {
    pub(crate) fn extension(self) -> &'static str {
        match self {
            Self::Mp4 => "mp4",
            Self::Mkv => "mkv",
            Self::Webm => "webm",
        }
    }
}

impl AudioFormat {
    pub(crate) fn extension(self) -> &'static str {
        match self {
            Self::M4a => "m4a",
            Self::Mp3 => "mp3",
            Self::Opus => "opus",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_parses_as_it_is_stored() {
        for quality in QUALITIES {
            assert_eq!(quality.parse::<Quality>().unwrap().to_string(), quality);
        }
        for (kind, formats) in KINDS.into_iter().zip(FORMATS.chunks(3)) {
            for &format in formats {
                let output = Output::parse(kind, Some(format)).unwrap();
                assert_eq!((output.kind(), output.format()), (kind, Some(format)));
            }
        }
    }

    #[test]
    fn anything_off_the_lists_is_refused() {
        for quality in ["", "720", "720P", "719p", "bestvideo+bestaudio", " 720p", "-1p", "all"] {
            assert!(quality.parse::<Quality>().is_err(), "{quality:?}");
        }
        for (kind, format) in [("video", "mp3"), ("audio", "mp4"), ("video", "exe"), ("both", "mp4"), ("", "mp4")] {
            assert!(Output::parse(kind, Some(format)).is_err(), "{kind} {format}");
        }
    }
}
