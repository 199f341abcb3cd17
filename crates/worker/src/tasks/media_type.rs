//! The media containers that are accepted and served.

use std::str::FromStr;

use thiserror::Error;

/// A container that is accepted and served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MediaType {
    extension: &'static str,
    content_type: &'static str,
}

/// The error for an extension that is not served.
#[derive(Debug, Error)]
#[error("not a media extension")]
pub(crate) struct UnknownMediaType;

const TYPES: [MediaType; 20] = [
    MediaType { extension: "mp4", content_type: "video/mp4" },
    MediaType { extension: "mkv", content_type: "video/x-matroska" },
    MediaType { extension: "webm", content_type: "video/webm" },
    MediaType { extension: "m4a", content_type: "audio/mp4" },
    MediaType { extension: "mp3", content_type: "audio/mpeg" },
    MediaType { extension: "opus", content_type: "audio/ogg" },
    MediaType { extension: "ogg", content_type: "audio/ogg" },
    MediaType { extension: "oga", content_type: "audio/ogg" },
    MediaType { extension: "aac", content_type: "audio/aac" },
    MediaType { extension: "flac", content_type: "audio/flac" },
    MediaType { extension: "wav", content_type: "audio/wav" },
    MediaType { extension: "mka", content_type: "audio/x-matroska" },
    MediaType { extension: "m4v", content_type: "video/mp4" },
    MediaType { extension: "mov", content_type: "video/quicktime" },
    MediaType { extension: "3gp", content_type: "video/3gpp" },
    MediaType { extension: "flv", content_type: "video/x-flv" },
    MediaType { extension: "ts", content_type: "video/mp2t" },
    MediaType { extension: "avi", content_type: "video/x-msvideo" },
    MediaType { extension: "ogv", content_type: "video/ogg" },
    MediaType { extension: "mpg", content_type: "video/mpeg" },
];

impl MediaType {
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        TYPES.into_iter()
    }

    /// Returns every content type that a file can be sent with.
    pub(crate) fn content_types() -> impl Iterator<Item = &'static str> + Clone {
        TYPES.into_iter().map(Self::content_type)
    }

    pub(crate) fn extension(self) -> &'static str {
        self.extension
    }

    pub(crate) fn content_type(self) -> &'static str {
        self.content_type
    }
}

impl FromStr for MediaType {
    type Err = UnknownMediaType;

    fn from_str(extension: &str) -> Result<Self, UnknownMediaType> {
        TYPES.into_iter().find(|media| media.extension == extension).ok_or(UnknownMediaType)
    }
}
