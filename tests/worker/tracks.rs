//! The progress of downloads with separate video and audio.

use crate::{media, origin::Origin, process::Worker};

#[test]
fn progress_covers_video_and_audio() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    let manifest = String::from_utf8(media::read("dash.mpd")).unwrap();
    let (picture, sound) = manifest.rsplit_once("chunk-").unwrap();
    origin.serve("apart.mpd", &format!("{picture}trickle/chunk-{sound}"));
    let id = worker.download("ana", &origin.url("apart.mpd"));
    let fetched = pieces_of_the_picture();
    // The video is complete, and so is the beginning of the audio, the rest of which never arrives.
    let task = worker.wait_for(&id, |task| task["downloaded_bytes"].as_u64().unwrap() > fetched);
    let progress = task["progress"].as_f64().unwrap();
    assert!((50.0..99.9).contains(&progress), "the video is most of the download, but not all: {task}");
    assert_eq!(worker.delete("ana", &format!("/api/downloads/{id}")).status, 200);
}

fn pieces_of_the_picture() -> u64 {
    let files = std::fs::read_dir(media::folder()).unwrap().flatten();
    let pieces = files.filter(|file| file.file_name().to_str().unwrap().contains("-stream0"));
    pieces.map(|file| file.metadata().unwrap().len()).sum()
}
