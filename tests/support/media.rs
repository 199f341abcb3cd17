//! Real media, created once with ffmpeg: an MP4 file, and the same as HLS and as DASH.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::places::scratch;

/// The folder that holds all media.
pub(crate) fn folder() -> PathBuf {
    let target = &scratch();
    let ready = target.join("worker-media");
    if !ready.exists() {
        let making = tempfile::tempdir_in(target).unwrap().keep();
        make(&making);
        // Another test may have been faster.
        if fs::rename(&making, &ready).is_err() {
            fs::remove_dir_all(&making).unwrap();
        }
    }
    ready
}

/// The bytes of one file.
pub(crate) fn read(name: &str) -> Vec<u8> {
    fs::read(folder().join(name)).unwrap()
}

/// Returns the streams that ffprobe finds, such as `h264,aac`, and the duration in whole seconds.
pub(crate) fn probe(bytes: &[u8]) -> (String, u64) {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), bytes).unwrap();
    let entries = "stream=codec_name:format=duration";
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-show_entries", entries, "-of", "default=nk=1:nw=1"])
        .arg(file.path())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    let duration: f64 = lines.pop().unwrap().parse().unwrap();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few seconds")]
    (lines.join(","), duration.round() as u64)
}

fn make(folder: &Path) {
    let video = "-f lavfi -i testsrc2=size=320x180:rate=15:duration=6 -f lavfi -i sine=frequency=440:duration=6 \
        -c:v libx264 -preset ultrafast -g 30 -keyint_min 30 -sc_threshold 0 -pix_fmt yuv420p -c:a aac \
        -movflags +faststart sample.mp4";
    ffmpeg(folder, video);
    ffmpeg(folder, "-i sample.mp4 -c copy -f hls -hls_time 2 -hls_list_size 0 -hls_segment_filename h%03d.ts hls.m3u8");
    ffmpeg(folder, "-i sample.mp4 -map 0:v -map 0:a -c copy -f dash -seg_duration 2 -use_template 1 dash.mpd");
}

fn ffmpeg(folder: &Path, args: &str) {
    let status =
        Command::new("ffmpeg").args(["-v", "error"]).args(args.split_whitespace()).current_dir(folder).status();
    assert!(status.unwrap().success(), "ffmpeg {args}");
}
