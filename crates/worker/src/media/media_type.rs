//! The media containers that are accepted and served, and how a file's container is determined.

use std::{path::Path, str::FromStr};

use thiserror::Error;

use super::{
    AcceptError,
    sniff::{self, Seen},
};

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

/// Other extensions of these containers, and those that yt-dlp uses for files of unknown type. A file with such a name is accepted if its
/// first bytes identify it.
const TELL_NOTHING: [&str; 16] = [
    "",
    "unknown_video",
    "bin",
    "dat",
    "mpeg",
    "mpe",
    "m2v",
    "vob",
    "m2t",
    "m2ts",
    "mts",
    "qt",
    "f4v",
    "3g2",
    "divx",
    "weba",
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

    /// Returns the type of a file that begins with `head`. The file's name only chooses among the extensions of its container, unless the
    /// first bytes are inconclusive.
    pub(crate) fn of(path: &Path, head: &[u8]) -> Result<Self, AcceptError> {
        let extension = path.extension().unwrap_or_default().to_str().unwrap_or_default().to_ascii_lowercase();
        let named: Option<Self> = extension.parse().ok();
        if named.is_none() && !TELL_NOTHING.contains(&extension.as_str()) {
            return Err(AcceptError::UnknownType);
        }
        match sniff::see(head) {
            Seen::Text => Err(AcceptError::NotMedia),
            Seen::NotKept => Err(AcceptError::UnknownType),
            Seen::Unknown => named.ok_or(AcceptError::UnknownType),
            Seen::Media(names) => {
                let named = named.filter(|named| names.contains(&named.extension));
                let likely = || names.iter().find_map(|name| name.parse().ok());
                named.or_else(likely).ok_or(AcceptError::UnknownType)
            }
        }
    }
}

impl FromStr for MediaType {
    type Err = UnknownMediaType;

    fn from_str(extension: &str) -> Result<Self, UnknownMediaType> {
        TYPES.into_iter().find(|media| media.extension == extension).ok_or(UnknownMediaType)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIDEO: &[u8] = b"\0\0\0\x20ftypisom\0\0\x02\0";

    #[test]
    fn a_file_is_what_its_first_bytes_say_whatever_it_is_called() {
        for (name, head, extension) in [
            ("media.MP4", VIDEO, "mp4"),
            ("media.MOV", b"\0\0\0\x14ftypqt  \0\0\x02\0", "mov"),
            ("media.unknown_video", VIDEO, "mp4"),
            ("media", VIDEO, "mp4"),
            ("media.mp4", b"\x1aE\xdf\xa3\x9fB\x86\x81\x01B\x82\x84webm", "webm"),
            ("media.m4a", VIDEO, "m4a"),
            ("media.aac", b"ID3\x04\0\0\0\0\0\x3f", "aac"),
            ("media.mpeg", b"\0\0\x01\xba\x44\0", "mpg"),
            ("media.ogv", b"OggS\0\x02\0\0\0\0\x80theora", "ogv"),
            ("media.mp4", b"\0\0\0\0 something else", "mp4"),
        ] {
            assert_eq!(MediaType::of(Path::new(name), head).unwrap().extension(), extension, "{name}");
        }
    }
}
