//! The playlist of a single-file stream (RFC 8216): parsed from ffmpeg's output and rewritten for players.

use std::fmt::Write;

use thiserror::Error;

/// The text is not a playlist of a single file, or does not match its file.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("not a playlist of a single file")]
pub struct NotAPlaylist;

/// The layout of a media file: a header, followed by segments without gaps.
#[derive(Debug, PartialEq, Eq)]
pub struct Playlist {
    /// The length of the header, in bytes, which players need before any segment (section 4.3.2.5).
    head: u64,
    segments: Vec<Segment>,
}

#[derive(Debug, PartialEq, Eq)]
struct Segment {
    micros: u64,
    bytes: u64,
}

/// No video, and so no segment, is longer: ten hours, in seconds.
const MAX_SECONDS: f64 = 36_000.0;

impl Playlist {
    /// Parses ffmpeg's playlist of a file of `length` bytes.
    pub fn read(text: &str, length: u64) -> Result<Self, NotAPlaylist> {
        let mut head = None;
        let mut micros = None;
        let mut end = 0;
        let mut segments = Vec::new();
        for line in text.lines() {
            if let Some(attributes) = line.strip_prefix("#EXT-X-MAP:") {
                let range = attributes.split_once("BYTERANGE=\"").and_then(|(_, rest)| rest.strip_suffix('"'));
                let bytes =
                    range.and_then(|range| follows(range, end)).filter(|_| head.is_none()).ok_or(NotAPlaylist)?;
                head = Some(bytes);
                end = bytes;
            } else if let Some(info) = line.strip_prefix("#EXTINF:") {
                micros = Some(in_micros(info.trim_end_matches(',')).ok_or(NotAPlaylist)?);
            } else if let Some(range) = line.strip_prefix("#EXT-X-BYTERANGE:") {
                let bytes = follows(range, end).ok_or(NotAPlaylist)?;
                end += bytes;
                segments.push(Segment { micros: micros.take().ok_or(NotAPlaylist)?, bytes });
            }
        }
        let head = head.filter(|_| !segments.is_empty() && end <= length).ok_or(NotAPlaylist)?;
        Ok(Self { head, segments })
    }

    /// Returns the playlist for players, with the media file at `uri`.
    #[must_use]
    pub fn write(&self, uri: &str) -> String {
        let longest = self.segments.iter().map(|segment| segment.micros).max().unwrap_or_default();
        let mut text = format!(
            "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:{}\n#EXT-X-PLAYLIST-TYPE:VOD\n#EXT-X-INDEPENDENT-SEGMENTS\n\
             #EXT-X-MAP:URI=\"{uri}\",BYTERANGE=\"{}@0\"\n",
            longest.div_ceil(1_000_000).max(1),
            self.head
        );
        let mut at = self.head;
        for Segment { micros, bytes } in &self.segments {
            let seconds = micros / 1_000_000;
            let rest = micros % 1_000_000;
            // Writing to a String cannot fail.
            let _ = write!(text, "#EXTINF:{seconds}.{rest:06},\n#EXT-X-BYTERANGE:{bytes}@{at}\n{uri}\n");
            at += bytes;
        }
        text.push_str("#EXT-X-ENDLIST\n");
        text
    }
}

/// Returns the length of a range like `1314@0`, if it starts at `end`.
fn follows(range: &str, end: u64) -> Option<u64> {
    let (bytes, at) = range.split_once('@')?;
    let bytes: u64 = bytes.parse().ok()?;
    let at: u64 = at.parse().ok()?;
    (at == end && bytes > 0 && end.checked_add(bytes).is_some()).then_some(bytes)
}

fn in_micros(seconds: &str) -> Option<u64> {
    let seconds: f64 = seconds.parse().ok()?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "neither negative nor large")]
    (0.0..=MAX_SECONDS).contains(&seconds).then(|| (seconds * 1e6).round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OF_FFMPEG: &str = "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:0\n#EXT-X-PLAYLIST-TYPE:VOD\n\
        #EXT-X-MAP:URI=\"stream.mp4\",BYTERANGE=\"1314@0\"\n#EXTINF:2.000000,\n#EXT-X-BYTERANGE:122830@1314\nstream.mp4\n\
        #EXTINF:1.980469,\n#EXT-X-BYTERANGE:129262@124144\nstream.mp4\n#EXT-X-ENDLIST\n";

    #[test]
    fn the_playlist_of_ffmpeg_is_rewritten() {
        let playlist = Playlist::read(OF_FFMPEG, 253_406).unwrap();
        let written = playlist.write("x.mp4?a=1");
        assert_eq!(
            written,
            "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:2\n#EXT-X-PLAYLIST-TYPE:VOD\n#EXT-X-INDEPENDENT-SEGMENTS\n\
             #EXT-X-MAP:URI=\"x.mp4?a=1\",BYTERANGE=\"1314@0\"\n#EXTINF:2.000000,\n#EXT-X-BYTERANGE:122830@1314\nx.mp4?a=1\n\
             #EXTINF:1.980469,\n#EXT-X-BYTERANGE:129262@124144\nx.mp4?a=1\n#EXT-X-ENDLIST\n"
        );
        assert_eq!(Playlist::read(&written, 253_406), Ok(playlist));
    }

    #[test]
    fn ranges_must_be_contiguous_and_within_the_file() {
        assert_eq!(Playlist::read(OF_FFMPEG, 253_405), Err(NotAPlaylist), "beyond the end of the file");
        for (from, to) in [
            ("1314@0", "1314@1"),
            ("122830@1314", "122830@1315"),
            ("122830@1314", "122830"),
            ("129262@124144", "0@124144"),
            ("129262@124144", "18446744073709551615@124144"),
            ("#EXTINF:1.980469", "#EXTINF:-1"),
            ("#EXTINF:1.980469", "#EXTINF:nan"),
            ("#EXTINF:1.980469", "#EXTINF:1e300"),
            ("#EXTINF:1.980469,\n", ""),
            ("#EXT-X-MAP:URI=\"stream.mp4\",BYTERANGE=\"1314@0\"\n", ""),
        ] {
            let text = OF_FFMPEG.replacen(from, to, 1);
            assert_ne!(text, OF_FFMPEG);
            assert_eq!(Playlist::read(&text, u64::MAX), Err(NotAPlaylist), "{to}");
        }
        assert_eq!(Playlist::read("", 1), Err(NotAPlaylist));
    }
}
