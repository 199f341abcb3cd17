//! A playlist refers only to consecutive parts of its one file.

use sallyport_worker::streaming::hls::playlist::Playlist;

/// Input: eight bytes for the file's length, then ffmpeg's output.
pub fn run(data: &[u8]) {
    let Some((length, text)) = data.split_first_chunk::<8>() else { return };
    let (length, Ok(text)) = (u64::from_be_bytes(*length), std::str::from_utf8(text)) else { return };
    let Ok(playlist) = Playlist::read(text, length) else { return };
    let written = playlist.write("stream.mp4");
    let uris = written.lines().filter(|line| !line.starts_with('#'));
    assert!(uris.clone().count() > 0 && uris.clone().all(|uri| uri == "stream.mp4"), "{written}");
    let mut end = 0;
    for range in written.lines().filter_map(range) {
        let (bytes, at) = range.split_once('@').unwrap();
        let (bytes, at): (u64, u64) = (bytes.parse().unwrap(), at.parse().unwrap());
        assert!(at == end && bytes > 0, "{written}");
        end += bytes;
    }
    assert!(0 < end && end <= length, "{written}");
    assert_eq!(Playlist::read(&written, length), Ok(playlist));
}

fn range(line: &str) -> Option<&str> {
    let head = line.strip_prefix("#EXT-X-MAP:URI=\"stream.mp4\",BYTERANGE=\"").and_then(|rest| rest.strip_suffix('"'));
    head.or_else(|| line.strip_prefix("#EXT-X-BYTERANGE:"))
}
