//! Downloads that make room for those of other users.

use std::{thread::sleep, time::Duration};

use crate::{
    origin::Origin,
    process::{Setup, Worker, eventually},
};

#[test]
fn downloads_that_are_next_to_idle_make_room_for_another_users_and_keep_what_they_have() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    // A byte a second is no stall.
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
fn a_user_with_several_downloads_makes_room_for_one_who_has_none_however_fast_they_are() {
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
fn a_download_may_be_as_slow_as_it_likes_where_the_owner_says_so_and_alone() {
    let origin = Origin::start();
    let extra = "min_download_rate = \"0\"\nconcurrent_downloads = 1";
    let worker = Worker::with(&origin, &Setup { extra, ..Setup::default() });
    let anas = worker.download("ana", &origin.url("trickle/a.mp4"));
    worker.wait_for_status(&anas, "downloading");
    let bobs = worker.download("bob", &origin.url("sample.mp4"));
    sleep(Duration::from_secs(25));
    assert_eq!(worker.task(&bobs).unwrap()["status"], "pending");
    worker.delete("ana", &format!("/api/downloads/{anas}"));
    worker.wait_for_status(&bobs, "completed");
}

#[test]
fn one_that_is_cancelled_while_it_makes_room_stays_cancelled() {
    let origin = Origin::start();
    let worker = Worker::with(&origin, &Setup { extra: "concurrent_downloads = 1", ..Setup::default() });
    let anas = worker.download("ana", &origin.url("trickle/a.mp4"));
    worker.wait_for_status(&anas, "downloading");
    let bobs = worker.download("bob", &origin.url("trickle/b.mp4"));
    worker.wait_for_status(&bobs, "downloading");
    let task = worker.task(&anas).unwrap();
    assert_eq!(task["status"], "pending", "{task}");
    assert_eq!(worker.delete("ana", &format!("/api/downloads/{anas}")).status, 200);
    eventually("an end to her folder", || (!worker.job(&anas).exists()).then_some(()));
    assert_eq!(worker.task(&anas).unwrap()["status"], "cancelled");
}
