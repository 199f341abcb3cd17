//! Determines the container of a file from its first bytes and its name.

use std::path::Path;

use super::{
    AcceptError,
    sniff::{self, Sniffed},
};
use crate::tasks::media_type::MediaType;

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

/// Returns the type of a file that begins with `head`. The file's name only chooses among the extensions of its container, unless the
/// first bytes are inconclusive.
pub(super) fn of(path: &Path, head: &[u8]) -> Result<MediaType, AcceptError> {
    let extension = path.extension().unwrap_or_default().to_str().unwrap_or_default().to_ascii_lowercase();
    let named: Option<MediaType> = extension.parse().ok();
    if named.is_none() && !TELL_NOTHING.contains(&extension.as_str()) {
        return Err(AcceptError::UnknownType);
    }
    match sniff::sniff(head) {
        Sniffed::Text => Err(AcceptError::NotMedia),
        Sniffed::Unsupported => Err(AcceptError::UnknownType),
        Sniffed::Unknown => named.ok_or(AcceptError::UnknownType),
        Sniffed::Media(names) => {
            let named = named.filter(|named| names.contains(&named.extension()));
            let likely = || names.iter().find_map(|name| name.parse().ok());
            named.or_else(likely).ok_or(AcceptError::UnknownType)
        }
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
            assert_eq!(of(Path::new(name), head).unwrap().extension(), extension, "{name}");
        }
    }
}
