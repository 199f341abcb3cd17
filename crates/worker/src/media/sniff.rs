//! Determines the type of a file from its first bytes, whatever its name says.
//!
//! This is a security measure: a playlist disguised as a video would make ffmpeg and players read whatever it names, including other
//! users' files.

/// How many bytes of a file are examined.
pub(crate) const HEAD: usize = 512;

/// What the first bytes of a file reveal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sniffed {
    /// A supported container, as its possible extensions, the most likely one first.
    Media(&'static [&'static str]),
    /// A document, a playlist or any other text.
    Text,
    /// A well-known format that is not accepted, such as a picture or an archive.
    Unsupported,
    /// Inconclusive; the name decides.
    Unknown,
}

/// How documents and playlists begin, in lower case. Binary data may follow.
const DOCUMENTS: [&[u8]; 7] = [b"#extm3u", b"ffconcat", b"<mpd", b"<?xml", b"<html", b"<!doctype", b"v=0\r\n"];

/// How formats begin that are not media, or that no supported player plays.
const UNSUPPORTED: [&[u8]; 12] = [
    b"\x89PNG\r\n",
    b"\xff\xd8\xff",
    b"GIF8",
    b"%PDF-",
    b"PK\x03\x04",
    b"7z\xbc\xaf\x27\x1c",
    b"Rar!",
    b"\x1f\x8b",
    b"\x7fELF",
    b"MZ",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",
    b".RMF",
];

const AAC: &[&str] = &["aac"];
const AVI: &[&str] = &["avi"];
const M4A: &[&str] = &["m4a", "mp4", "m4v", "mov", "3gp"];
const M4V: &[&str] = &["m4v", "mp4", "m4a", "mov", "3gp"];
const MKV: &[&str] = &["mkv", "webm", "mka"];
const MOV: &[&str] = &["mov", "mp4", "m4a", "m4v", "3gp"];
const MP3: &[&str] = &["mp3"];
const MP4: &[&str] = &["mp4", "m4a", "m4v", "mov", "3gp"];
const MPG: &[&str] = &["mpg"];
const OGG: &[&str] = &["ogg", "oga", "ogv", "opus"];
const OGV: &[&str] = &["ogv", "ogg"];
const OPUS: &[&str] = &["opus", "ogg", "oga", "ogv"];
/// AAC and FLAC may follow an ID3 tag as well.
const TAGGED: &[&str] = &["mp3", "aac", "flac"];
const THREE_GP: &[&str] = &["3gp", "mp4", "m4a", "m4v", "mov"];
const TS: &[&str] = &["ts"];
const WAV: &[&str] = &["wav"];
const WEBM: &[&str] = &["webm", "mkv", "mka"];

/// Containers that are identified by how they begin.
const SIGNATURES: [(&[u8], &[&str]); 5] = [
    (b"fLaC", &["flac"]),
    (b"ID3", TAGGED),
    (b"FLV\x01", &["flv"]),
    // MPEG-1 and MPEG-2 (ISO/IEC 13818-1, section 2.5.3.3; 13818-2, section 6.2.2.1).
    (b"\0\0\x01\xba", MPG),
    (b"\0\0\x01\xb3", MPG),
];

/// In bytes.
const TS_PACKET: usize = 188;

/// Determines the type of a file that begins with `head`.
pub(crate) fn sniff(head: &[u8]) -> Sniffed {
    if is_document(head) || is_text(head) || is_utf_16(head) {
        return Sniffed::Text;
    }
    if let Some(sniffed) = iso_media(head).or_else(|| riff(head)) {
        return sniffed;
    }
    if UNSUPPORTED.iter().any(|start| head.starts_with(start)) {
        return Sniffed::Unsupported;
    }
    let known = SIGNATURES.into_iter().find(|(start, _)| head.starts_with(start)).map(|(_, names)| names);
    let names = known
        .or_else(|| matroska(head))
        .or_else(|| ogg(head))
        .or_else(|| transport_stream(head))
        .or_else(|| audio_frames(head));
    names.map_or(Sniffed::Unknown, Sniffed::Media)
}

fn is_document(head: &[u8]) -> bool {
    let start = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start().to_ascii_lowercase();
    start.is_empty() || DOCUMENTS.iter().any(|document| start.starts_with(document))
}

/// Text contains no control characters except white space, and media always has some in its first bytes.
fn is_text(head: &[u8]) -> bool {
    !head.iter().any(|b| *b < 0x20 && !b.is_ascii_whitespace())
}

/// Recognises UTF-16 by its byte order mark (RFC 2781, section 3.2).
fn is_utf_16(head: &[u8]) -> bool {
    head.starts_with(b"\xff\xfe") || head.starts_with(b"\xfe\xff")
}

/// Recognises the boxes of MP4 and QuickTime (ISO/IEC 14496-12, section 4.3).
fn iso_media(head: &[u8]) -> Option<Sniffed> {
    let brand = match head.get(4..8)? {
        b"ftyp" => head.get(8..12)?,
        b"moov" | b"mdat" | b"wide" | b"free" | b"skip" => return Some(Sniffed::Media(MOV)),
        _ => return None,
    };
    Some(match brand {
        b"qt  " => Sniffed::Media(MOV),
        b"M4A " | b"M4B " => Sniffed::Media(M4A),
        b"M4V " => Sniffed::Media(M4V),
        b"heic" | b"heix" | b"mif1" | b"msf1" | b"avif" | b"avis" => Sniffed::Unsupported,
        [b'3', b'g', ..] => Sniffed::Media(THREE_GP),
        _ => Sniffed::Media(MP4),
    })
}

fn riff(head: &[u8]) -> Option<Sniffed> {
    if !head.starts_with(b"RIFF") {
        return None;
    }
    Some(match head.get(8..12)? {
        b"WAVE" => Sniffed::Media(WAV),
        b"AVI " => Sniffed::Media(AVI),
        _ => Sniffed::Unsupported,
    })
}

fn matroska(head: &[u8]) -> Option<&'static [&'static str]> {
    let names = if holds(head, b"webm") { WEBM } else { MKV };
    head.starts_with(b"\x1aE\xdf\xa3").then_some(names)
}

fn ogg(head: &[u8]) -> Option<&'static [&'static str]> {
    let names = if holds(head, b"\x80theora") {
        OGV
    } else if holds(head, b"OpusHead") {
        OPUS
    } else {
        OGG
    };
    head.starts_with(b"OggS").then_some(names)
}

/// Recognises packets that all begin with the same byte (ISO/IEC 13818-1, section 2.4.3.2).
fn transport_stream(head: &[u8]) -> Option<&'static [&'static str]> {
    let mut starts = head.iter().step_by(TS_PACKET);
    (head.len() > TS_PACKET && starts.all(|byte| *byte == 0x47)).then_some(TS)
}

/// Recognises frames without a container: AAC with ADTS headers (ISO/IEC 14496-3, section 1.A.3.2) or MPEG audio (11172-3, section
/// 2.4.1.3).
fn audio_frames(head: &[u8]) -> Option<&'static [&'static str]> {
    let &[0xff, second, third, ..] = head else { return None };
    let is_mpeg = second & 0xe0 == 0xe0 && second & 0x06 != 0 && third & 0xf0 != 0xf0 && third & 0x0c != 0x0c;
    if second & 0xf6 == 0xf0 { Some(AAC) } else { is_mpeg.then_some(MP3) }
}

fn holds(head: &[u8], what: &[u8]) -> bool {
    head.windows(what.len()).any(|part| part == what)
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
            assert_eq!(sniff(head.as_bytes()), Sniffed::Text, "{head:?}");
        }
        assert_eq!(sniff(b"\xff\xfe#\0E\0X\0T\0M\x003\0U\0"), Sniffed::Text);
    }

    #[test]
    fn containers_are_identified_by_their_first_bytes() {
        for (head, extension) in [
            (&b"\0\0\0\x20ftypisom\0\0\x02\0"[..], "mp4"),
            (b"\0\0\0\x14ftypqt  \0\0\x02\0", "mov"),
            (b"\0\0\0\x20ftypM4A \0\0\x02\0", "m4a"),
            (b"\0\0\0\x18ftyp3gp5\0\0\x02\0", "3gp"),
            (b"\0\0\0\x08wide\0\0\0\0mdat", "mov"),
            (b"\x1aE\xdf\xa3\x9fB\x86\x81\x01B\x82\x84webm", "webm"),
            (b"\x1aE\xdf\xa3\x9fB\x86\x81\x01B\x82\x88matroska", "mkv"),
            (b"OggS\0\x02\0\0\0\0OpusHead", "opus"),
            (b"OggS\0\x02\0\0\0\0\x80theora", "ogv"),
            (b"OggS\0\x02\0\0\0\0\x01vorbis", "ogg"),
            (b"ID3\x04\0\0", "mp3"),
            (b"fLaC\0\0\0\x22", "flac"),
            (b"RIFF\x24\0\0\0WAVEfmt ", "wav"),
            (b"RIFF\x24\0\0\0AVI LIST", "avi"),
            (b"FLV\x01\x05\0", "flv"),
            (b"\0\0\x01\xba\x44\0", "mpg"),
            (b"\xff\xfb\x90\x64\0\x0f", "mp3"),
            (b"\xff\xf1\x50\x80\0\x1f", "aac"),
        ] {
            assert!(
                matches!(sniff(head), Sniffed::Media([first, ..]) if *first == extension),
                "{head:?}: {:?}",
                sniff(head)
            );
        }
    }

    #[test]
    fn a_transport_stream_is_identified_by_several_packets() {
        let mut packets = [0; HEAD];
        for start in [0, 188, 376] {
            packets[start] = 0x47;
        }
        assert_eq!(sniff(&packets), Sniffed::Media(TS));
        assert_eq!(sniff(b"G@\x11\x10\0B\xf0"), Sniffed::Unknown, "one packet may be anything");
        assert_eq!(sniff(&[0; HEAD]), Sniffed::Unknown);
    }

    #[test]
    fn well_known_formats_that_are_not_media_are_not_accepted() {
        for head in [
            &b"\x89PNG\r\n\x1a\n"[..],
            b"\xff\xd8\xff\xe0\0\x10JFIF",
            b"GIF89a\0",
            b"%PDF-1.7\n\0",
            b"PK\x03\x04\x14\0",
            b"\x7fELF\x02\x01",
            b"MZ\x90\0",
            b"\x1f\x8b\x08\0",
            b"RIFF\x24\0\0\0WEBPVP8 ",
            b"\0\0\0\x1cftypavif\0\0\0\0",
            b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\0",
        ] {
            assert_eq!(sniff(head), Sniffed::Unsupported, "{head:?}");
        }
    }
}
