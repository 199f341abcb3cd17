//! Full and read-only disks, tested with small file systems.

use std::{fs, thread};

use serde_json::{Value, json};

use crate::{
    disk::Disk,
    media,
    origin::Origin,
    process::{Setup, Worker, eventually, processes_of},
    streams::{finished, index, is_clean, stand_in},
    town::run,
};

/// Starts a worker on a file system of its own. Returns `None` and reports a skip if this user cannot mount one.
fn with_disk(origin: &Origin, size: &str, extra: &'static str) -> Option<(Worker, Disk)> {
    if !Disk::can_be_mounted() {
        return None;
    }
    let mut worker = Worker::with(origin, &Setup { extra, ..Setup::default() });
    assert!(worker.terminate());
    let disk = Disk::mount(&worker.dir.path().join("data/media"), size);
    worker.start_again();
    Some((worker, disk))
}

fn refused(worker: &Worker, url: &str) -> (u16, Value) {
    let response = worker.post("ana", "/api/download", &json!({ "url": url }).to_string());
    (response.status, response.json()["code"].clone())
}

#[test]
fn a_disk_that_fills_ends_running_downloads_before_the_reserve_is_used_and_refuses_new_ones() {
    let origin = Origin::start();
    let Some((worker, disk)) = with_disk(&origin, "32M", "disk_reserve = \"8MiB\"") else { return };
    let kept = worker.completed("bob", &origin.url("sample.mp4"));
    let running = worker.download("ana", &origin.url("stall/sample.mp4"));
    worker.wait_for_partial(&running, 1);
    disk.leave(7 << 20);
    let task = worker.wait_for_status(&running, "error");
    assert_eq!(task["error_message"], "the disk is full");
    let again = |request: &String| request.starts_with("stall/sample.mp4 from");
    assert!(!origin.requests().iter().any(again), "it was ended and did not resume where the source had stalled");
    assert_eq!(processes_of(&running), [0_u32; 0]);
    eventually("the removal of its folder", || (!worker.job(&running).exists()).then_some(()));
    assert!(disk.free() >= 7 << 20, "the reserve was left alone");
    assert_eq!(refused(&worker, &origin.url("sample.mp4")), (507, json!("disk_full")));
    let file = worker.get("bob", &format!("/api/download/{}/file", kept["id"].as_str().unwrap()));
    assert_eq!((file.status, file.body), (200, media::read("sample.mp4")), "existing files are served");
    disk.empty();
    worker.completed("ana", &origin.url("sample.mp4"));
}

#[test]
fn a_completely_full_disk_fails_the_task_which_leaves_nothing_behind() {
    let origin = Origin::start();
    let Some((worker, disk)) = with_disk(&origin, "16M", "disk_reserve = \"0B\"") else { return };
    let before = disk.free();
    let id = worker.download("ana", &origin.url("endless/video.mp4"));
    assert_eq!(worker.wait_for_status(&id, "error")["error_message"], "the disk is full");
    eventually("free space again", || (disk.free() >= before).then_some(()));
    worker.completed("ana", &origin.url("sample.mp4"));
}

#[test]
fn the_disk_of_the_database_counts_as_well() {
    let origin = Origin::start();
    let worker = Worker::with(&origin, &Setup { extra: "disk_reserve = \"900TiB\"", ..Setup::default() });
    assert_eq!(refused(&worker, &origin.url("sample.mp4")), (507, json!("disk_full")));
    drop(worker);
    let Some((mut worker, _media)) = with_disk(&origin, "64M", "disk_reserve = \"16MiB\"") else { return };
    assert!(worker.terminate());
    // The media folder has enough space, but the data folder has not.
    let elsewhere = worker.dir.path().join("media");
    fs::create_dir(&elsewhere).unwrap();
    let roomy = Disk::mount(&elsewhere, "64M");
    worker.reconfigure("disk_reserve", "media_dir = \"media\"\ndisk_reserve");
    let data = worker.dir.path().join("data");
    let key = fs::read(data.join("secrets/worker.key")).unwrap();
    let tight = Disk::mount(&data, "8M");
    fs::create_dir(data.join("secrets")).unwrap();
    fs::write(data.join("secrets/worker.key"), key).unwrap();
    run("chmod", &["600", data.join("secrets/worker.key").to_str().unwrap()]);
    worker.start_again();
    assert!(roomy.free() > 16 << 20);
    assert_eq!(refused(&worker, &origin.url("sample.mp4")), (507, json!("disk_full")));
    tight.remount("size=32M");
    worker.completed("ana", &origin.url("sample.mp4"));
}

#[test]
fn a_read_only_disk_refuses_downloads_and_keeps_serving_files() {
    let origin = Origin::start();
    let Some((mut worker, disk)) = with_disk(&origin, "32M", "disk_reserve = \"8MiB\"") else { return };
    let kept = worker.completed("ana", &origin.url("sample.mp4"));
    let file = format!("/api/download/{}/file", kept["id"].as_str().unwrap());
    let stream = index(kept["id"].as_str().unwrap());
    assert_eq!(worker.get("ana", &stream).status, 200);
    let other = worker.completed("ana", &origin.url("a/sample.mp4"));
    let unprepared = index(other["id"].as_str().unwrap());
    disk.remount("ro");
    for _ in 0..2 {
        assert_eq!(refused(&worker, &origin.url("sample.mp4")), (507, json!("disk_read_only")));
        assert_eq!(worker.get("ana", &file).body, media::read("sample.mp4"));
        assert_eq!(worker.get("ana", &stream).status, 200, "a prepared stream is served");
        let refused = worker.get("ana", &unprepared);
        assert_eq!((refused.status, &refused.json()["code"]), (507, &json!("disk_read_only")));
        // The worker also starts on a read-only disk.
        assert!(worker.terminate());
        worker.start_again();
    }
    disk.remount("rw");
    worker.completed("ana", &origin.url("sample.mp4"));
}

#[test]
fn a_disk_that_fills_ends_a_stream_that_is_being_prepared() {
    let origin = Origin::start();
    let dir = tempfile::tempdir().unwrap();
    let extra = stand_in(dir.path(), "sleep 600") + "disk_reserve = \"16MiB\"";
    let Some((worker, disk)) = with_disk(&origin, "64M", extra.leak()) else { return };
    let id = finished(&worker, &origin, &media::read("sample.mp4"));
    thread::scope(|scope| {
        let viewer = scope.spawn(|| worker.get("ana", &index(&id)));
        eventually("a run", || worker.log().contains("a stream is being prepared").then_some(()));
        disk.leave(8 << 20);
        let response = viewer.join().unwrap();
        assert_eq!((response.status, &response.json()["code"]), (507, &json!("disk_full")));
    });
    is_clean(&worker, &id);
}
