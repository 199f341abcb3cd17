//! Differences between the library and the database at startup.

use std::fs;

use crate::{media, origin::Origin, process::Worker};

const UNKNOWN: &str = "550e8400-e29b-41d4-a716-446655440000";

#[test]
fn orphans_are_reported_and_never_removed() {
    let origin = Origin::start();
    let mut worker = Worker::start(&origin);
    let kept = worker.completed("ana", &origin.url("sample.mp4"));
    let kept = kept["id"].as_str().unwrap();
    let running = worker.download("ana", &origin.url("stall/sample.mp4"));
    worker.wait_for_partial(&running, 1);
    fs::create_dir(worker.media(UNKNOWN)).unwrap();
    fs::write(worker.media(UNKNOWN).join("media.mp4"), "x").unwrap();
    fs::write(worker.media("video.mp4"), "x").unwrap();
    worker.kill();
    worker.start_again();
    let log = worker.log();
    let orphans: Vec<&str> = log.lines().filter(|line| line.contains("orphan")).collect();
    assert_eq!(orphans.len(), 2, "{orphans:?}");
    for name in [UNKNOWN, "video.mp4"] {
        assert!(orphans.iter().any(|line| line.contains(&format!("data/media/{name}"))), "{orphans:?}");
    }
    assert!(worker.media(UNKNOWN).join("media.mp4").exists() && worker.media("video.mp4").exists());
    assert_eq!(worker.get("admin", &format!("/api/download/{UNKNOWN}/file")).status, 404);
    assert_eq!(worker.get("ana", &format!("/api/download/{kept}/file")).status, 200);
    worker.wait_for_status(&running, "completed");
}

#[test]
fn a_download_whose_file_is_missing_says_so_until_it_returns() {
    let origin = Origin::start();
    let mut worker = Worker::start(&origin);
    let task = worker.completed("ana", &origin.url("sample.mp4"));
    let id = task["id"].as_str().unwrap();
    let file = format!("/api/download/{id}/file");
    let aside = worker.dir.path().join("aside");
    worker.kill();
    fs::rename(worker.media(id), &aside).unwrap();
    for _ in 0..2 {
        worker.start_again();
        let lost = worker.task(id).unwrap();
        assert_eq!((&lost["status"], &lost["filename"]), (&"error".into(), &"".into()));
        assert_eq!(lost["error_message"], "the file is no longer on this server");
        assert_eq!(worker.get("ana", &file).status, 404);
        worker.kill();
    }
    fs::rename(&aside, worker.media(id)).unwrap();
    worker.start_again();
    assert_eq!(worker.task(id), Some(task.clone()));
    assert_eq!(worker.get("ana", &file).body, media::read("sample.mp4"));
}
