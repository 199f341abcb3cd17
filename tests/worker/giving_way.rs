//! Downloads that give way to those of other users.

use std::{thread::sleep, time::Duration};

use serde_json::json;

use crate::{
    origin::Origin,
    process::{Setup, Worker, eventually},
    stand_in::python_yt_dlp,
};

#[test]
fn downloads_that_are_almost_idle_give_way_to_another_users_and_keep_what_they_have() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    // One byte per second does not count as a stall.
    let anas = ["a", "b"].map(|n| worker.download("ana", &origin.url(&format!("trickle/{n}.mp4"))));
    for id in &anas {
        worker.wait_for_status(id, "downloading");
    }
    let bobs = worker.download("bob", &origin.url("sample.mp4"));
    assert_eq!(worker.task(&bobs).unwrap()["status"], "pending");
    worker.wait_for(&bobs, |task| task["status"] != "pending");
    worker.wait_for_status(&bobs, "completed");
    for id in &anas {
        worker.wait_for_status(id, "downloading");
        let task = worker.task(id).unwrap();
        assert_eq!(task["error_message"], "", "nothing has failed: {task}");
    }
}

#[test]
fn a_user_with_several_downloads_gives_way_to_one_who_has_none_however_fast_they_are() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    let anas = ["steady/a.mp4", "steady/b.mp4"].map(|path| worker.download("ana", &origin.url(path)));
    for id in &anas {
        worker.wait_for_status(id, "downloading");
    }
    let bobs = worker.download("bob", &origin.url("sample.mp4"));
    worker.wait_for(&bobs, |task| task["status"] != "pending");
    worker.wait_for_status(&bobs, "completed");
    assert_eq!(worker.task(&anas[0]).unwrap()["status"], "downloading", "her first one was left alone");
}

#[test]
fn a_single_slow_download_never_gives_way_if_no_minimum_rate_is_configured() {
    let origin = Origin::start();
    let extra = "min_download_rate = \"0\"\nconcurrent_downloads = 1";
    let worker = Worker::with(&origin, &Setup { extra, ..Setup::default() });
    let anas = worker.download("ana", &origin.url("trickle/a.mp4"));
    worker.wait_for_status(&anas, "downloading");
    let bobs = worker.download("bob", &origin.url("sample.mp4"));
    // Longer than a download takes to give way, which must not happen.
    sleep(Duration::from_secs(25));
    assert_eq!(worker.task(&bobs).unwrap()["status"], "pending");
    worker.delete("ana", &format!("/api/downloads/{anas}"));
    worker.wait_for_status(&bobs, "completed");
}

#[test]
fn a_download_that_is_cancelled_after_giving_way_stays_cancelled() {
    let origin = Origin::start();
    let worker = Worker::with(&origin, &Setup { extra: "concurrent_downloads = 1", ..Setup::default() });
    let anas = worker.download("ana", &origin.url("trickle/a.mp4"));
    worker.wait_for_status(&anas, "downloading");
    let bobs = worker.download("bob", &origin.url("trickle/b.mp4"));
    worker.wait_for_status(&bobs, "downloading");
    let task = worker.task(&anas).unwrap();
    assert_eq!(task["status"], "pending", "{task}");
    assert_eq!(worker.delete("ana", &format!("/api/downloads/{anas}")).status, 200);
    eventually("the removal of her folder", || (!worker.job(&anas).exists()).then_some(()));
    assert_eq!(worker.task(&anas).unwrap()["status"], "cancelled");
}

#[test]
fn the_freed_slot_goes_to_the_user_it_was_freed_for_whoever_had_a_turn_last() {
    let origin = Origin::start();
    let worker = Worker::with(&origin, &Setup { extra: "concurrent_downloads = 3", ..Setup::default() });
    let anas = ["steady/a.mp4", "steady/b.mp4"].map(|path| worker.download("ana", &origin.url(path)));
    for id in &anas {
        worker.wait_for_status(id, "downloading");
    }
    worker.completed("bob", &origin.url("sample.mp4"));
    let eves = worker.download("eve", &origin.url("steady/c.mp4"));
    worker.wait_for_status(&eves, "downloading");
    let bobs = worker.download("bob", &origin.url("sample.mp4"));
    assert_eq!(worker.task(&bobs).unwrap()["status"], "pending");
    worker.wait_for_status(&bobs, "completed");
    for id in [&anas[0], &eves] {
        assert_eq!(worker.task(id).unwrap()["status"], "downloading");
    }
}

#[test]
fn no_download_gives_way_to_one_of_low_priority() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    let anas = ["a", "b"].map(|n| worker.download("ana", &origin.url(&format!("trickle/{n}.mp4"))));
    for id in &anas {
        worker.wait_for_status(id, "downloading");
    }
    let order = json!({"url": origin.url("sample.mp4"), "priority": "low"}).to_string();
    let bobs = worker.post("bob", "/api/download", &order).json()["id"].as_str().unwrap().to_owned();
    // Longer than a download takes to give way, which must not happen.
    sleep(Duration::from_secs(25));
    assert!(!worker.log().contains("gives way"), "{}", worker.log());
    assert_eq!(worker.task(&bobs).unwrap()["status"], "pending");
    worker.delete("ana", &format!("/api/downloads/{}", anas[0]));
    worker.wait_for_status(&bobs, "completed");
}

/// Depending on the URL: waits as if it were merging, fails immediately, or downloads slowly.
const BY_URL: &str = include_str!("python/manner_by_url.py");

#[test]
fn a_download_that_is_being_merged_does_not_keep_another_from_giving_way() {
    let origin = Origin::start();
    let dir = tempfile::tempdir().unwrap();
    let (yt_dlp, readable) = python_yt_dlp(dir.path(), BY_URL);
    let extra = format!("{readable}\nstall_timeout = \"5m\"").leak();
    let worker = Worker::with(&origin, &Setup { yt_dlp, extra, ..Setup::default() });
    let merged = worker.download("ana", &origin.url("merged.mp4"));
    worker.wait_for_status(&merged, "processing");
    let slow = worker.download("ana", &origin.url("slow.mp4"));
    worker.wait_for_status(&slow, "downloading");
    let bobs = worker.download("bob", &origin.url("brief.mp4"));
    assert_eq!(worker.task(&bobs).unwrap()["status"], "pending");
    assert_eq!(worker.wait_for_status(&bobs, "error")["error_message"], "it was its turn");
    assert_eq!(worker.task(&merged).unwrap()["status"], "processing");
}
