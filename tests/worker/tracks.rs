//! Progress of what comes as picture and sound apart.

use crate::{media, origin::Origin, process::Worker};

#[test]
fn progress_covers_picture_and_sound() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    let manifest = String::from_utf8(media::read("dash.mpd")).unwrap();
    let (picture, sound) = manifest.rsplit_once("chunk-").unwrap();
    origin.serve("apart.mpd", &format!("{picture}trickle/chunk-{sound}"));
    let id = worker.download("ana", &origin.url("apart.mpd"));
    let fetched = pieces_of_the_picture();
    // The picture is here, and the beginning of the sound, the rest of which never comes.
    let task = worker.wait_for(&id, |task| task["downloaded_bytes"].as_u64().unwrap() > fetched);
    let progress = task["progress"].as_f64().unwrap();
    assert!((50.0..99.9).contains(&progress), "the picture is most of it, and not all: {task}");
    assert_eq!(worker.delete("ana", &format!("/api/downloads/{id}")).status, 200);
}

fn pieces_of_the_picture() -> u64 {
    let files = std::fs::read_dir(media::folder()).unwrap().flatten();
    let pieces = files.filter(|file| file.file_name().to_str().unwrap().contains("-stream0"));
    pieces.map(|file| file.metadata().unwrap().len()).sum()
}
