//! Tells media from text by a file's first bytes. A playlist that calls itself a video would make ffmpeg and players
//! read whatever it names, other users' files included.

/// How many bytes of a file are looked at.
pub(crate) const HEAD: usize = 512;

/// Documents and playlists, in lower case, that may follow binary noise or a byte order mark.
const DOCUMENTS: [&[u8]; 7] = [b"#extm3u", b"ffconcat", b"<mpd", b"<?xml", b"<html", b"<!doctype", b"v=0\r\n"];

/// True when a file that begins with `head` cannot be a document, a playlist or any other text.
pub(crate) fn looks_like_media(head: &[u8]) -> bool {
    let start = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start().to_ascii_lowercase();
    !start.is_empty() && !DOCUMENTS.iter().any(|document| start.starts_with(document)) && !is_text(head)
}

/// Text has no control characters but white space, and media always has some within its head.
fn is_text(head: &[u8]) -> bool {
    !head.iter().any(|b| *b < 0x20 && !b.is_ascii_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn playlists_and_pages_are_not_media() {
        for head in [
            "#EXTM3U\n",
            "\u{feff}#EXTM3U",
            "  \n#extm3u",
            "ffconcat version 1.0\nfile x",
            "<MPD xmlns",
            "<?xml version",
            "<!DOCTYPE html>",
            "<html>\0",
            "#EXTM3U\0\0\0",
            "file 'x.mp4'\n",
            "v=0\r\no=- 0",
            "",
            "\n\n",
        ] {
            assert!(!looks_like_media(head.as_bytes()), "{head:?}");
        }
    }

    #[test]
    fn containers_are_media() {
        for head in [
            &b"\0\0\0\x20ftypisom\0\0\x02\0"[..],
            b"\x1aE\xdf\xa3\x9fB\x86\x81\x01",
            b"OggS\0\x02",
            b"ID3\x04\0\0",
            b"fLaC\0\0\0\x22",
            b"RIFF\x24\0\0\0WAVEfmt ",
            b"G@\x11\x10\0B\xf0",
            b"\xff\xfb\x90\x64\0\x0f",
        ] {
            assert!(looks_like_media(head), "{head:?}");
        }
    }
}
