//! Playlists that are cancelled and removed, as a whole and video by video.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::{
    origin::Origin,
    playlists::{ended, feed, id, order, videos_of, wait_for_videos},
    process::{Worker, eventually, processes_of},
};

#[test]
fn cancelling_a_playlist_cancels_all_its_videos() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    let links: Vec<_> = (0..6).map(|n| origin.url(&format!("stall/{n}/sample.mp4"))).collect();
    let list = order(&worker, &feed(&origin, "feed.xml", &links), &json!({}));
    let running = eventually("two running downloads", || {
        let running: Vec<_> =
            videos_of(&worker, &list).into_iter().filter(|video| video["status"] == "downloading").collect();
        (running.len() == 2).then_some(running)
    });
    assert_eq!(worker.delete("ana", &format!("/api/downloads/{list}")).status, 200);
    let answered = Instant::now();
    for video in &running {
        eventually("the end of the child", || processes_of(id(video)).is_empty().then_some(()));
    }
    assert!(answered.elapsed() < Duration::from_secs(2), "{:?}", answered.elapsed());
    assert_eq!(worker.task(&list).unwrap()["status"], "cancelled");
    let videos = videos_of(&worker, &list);
    assert!(videos.len() == 6 && videos.iter().all(|video| video["status"] == "cancelled"), "{videos:?}");
    assert_eq!(worker.delete("ana", &format!("/api/downloads/{list}")).status, 200, "cancelling twice is no error");
}

#[test]
fn removing_a_playlist_removes_all_its_videos() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    let links = ["a/sample.mp4", "stall/sample.mp4", "stall/b/sample.mp4"].map(|path| origin.url(path));
    let list = order(&worker, &feed(&origin, "feed.xml", &links), &json!({}));
    let videos = eventually("one completed video", || {
        let videos = videos_of(&worker, &list);
        videos.iter().any(|video| video["status"] == "completed").then_some(videos)
    });
    assert_eq!(
        worker.delete("bob", &format!("/api/downloads/{list}/remove")).status,
        404,
        "it belongs to another user"
    );
    assert_eq!(worker.delete("ana", &format!("/api/downloads/{list}/remove")).status, 200);
    assert_eq!(worker.get("ana", "/api/downloads").json(), json!([]));
    for video in &videos {
        assert!(!worker.media(id(video)).exists() && !worker.job(id(video)).exists(), "{video}");
        assert_eq!(processes_of(id(video)), Vec::<u32>::new());
    }
}

#[test]
fn a_playlist_is_removed_with_the_last_of_its_videos() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    let links = ["a/sample.mp4", "b/sample.mp4"].map(|path| origin.url(path));
    let list = order(&worker, &feed(&origin, "feed.xml", &links), &json!({}));
    ended(&worker, &list);
    let videos = videos_of(&worker, &list);
    assert_eq!(worker.delete("ana", &format!("/api/downloads/{}/remove", id(&videos[0]))).status, 200);
    assert_eq!(worker.task(&list).unwrap()["status"], "completed");
    assert_eq!(worker.delete("ana", &format!("/api/downloads/{}/remove", id(&videos[1]))).status, 200);
    assert_eq!(worker.task(&list), None);
}

#[test]
fn a_playlist_whose_videos_are_cancelled_one_by_one_is_cancelled() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    let links = ["stall/a/sample.mp4", "stall/b/sample.mp4"].map(|path| origin.url(path));
    let list = order(&worker, &feed(&origin, "feed.xml", &links), &json!({}));
    for video in wait_for_videos(&worker, &list, 2) {
        assert_eq!(worker.task(&list).unwrap()["status"], "downloading");
        assert_eq!(worker.delete("ana", &format!("/api/downloads/{}", id(&video))).status, 200);
    }
    assert_eq!(worker.task(&list).unwrap()["status"], "cancelled");
}
