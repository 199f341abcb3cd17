//! Announced videos. A test extractor imitates sites that have them.

use std::fs;

use rusqlite::Connection;
use sallyport_core::clock;
use serde_json::{Value, json};

use crate::{
    media,
    origin::Origin,
    process::{Worker, eventually},
    retries::requests_for,
};

/// A plugin of yt-dlp, whose extractor reads what it says about a video from the page.
const EXTRACTOR: &str = include_str!("python/premiere_plugin.py");

fn worker(origin: &Origin) -> Worker {
    let worker = Worker::start(origin);
    let folder = worker.dir.path().join("data/yt-dlp/test/yt_dlp_plugins/extractor");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("premiere.py"), EXTRACTOR).unwrap();
    worker
}

#[test]
fn a_premiere_waits_for_its_time_and_is_then_downloaded() {
    let origin = Origin::start();
    let worker = worker(&origin);
    let announced = json!({"live_status": "is_upcoming", "release_timestamp": clock::unix_now() + 6});
    origin.serve("premiere/one", &announced.to_string());
    let id = worker.download("ana", &origin.url("premiere/one"));
    let waiting = worker.wait_for(&id, |task| {
        assert_ne!(task["status"], "error", "{task} {}", worker.log());
        task["status"] == "pending" && task["error_message"] != ""
    });
    assert!(waiting["error_message"].as_str().unwrap().starts_with("announced: begins at 2"), "{waiting}");
    origin.serve("premiere/one", &json!({"live_status": "not_live", "url": origin.url("sample.mp4")}).to_string());
    let task = worker.wait_for_status(&id, "completed");
    assert_eq!((&task["title"], &task["error_message"]), (&json!("Premiere"), &json!("")));
    assert!(worker.get("ana", &format!("/api/download/{id}/file")).body == media::read("sample.mp4"));
    // Once when it was requested and once at its time, only for the download itself.
    assert_eq!(requests_for(&origin, "premiere/one"), 2, "{:?}", origin.requests());
}

/// Restarts the worker so that a task that waits for its time runs at once.
fn skip_the_wait(worker: &mut Worker, id: &str) {
    worker.kill();
    let db = Connection::open(worker.dir.path().join("data/worker.db")).unwrap();
    assert_eq!(db.execute("UPDATE task SET not_before = 0 WHERE id = ?1 AND status = 'pending'", [id]).unwrap(), 1);
    drop(db);
    worker.start_again();
}

#[test]
fn a_premiere_that_is_live_at_its_time_is_waited_for_and_a_live_stream_is_refused() {
    let origin = Origin::start();
    let mut worker = worker(&origin);
    let live = json!({"live_status": "is_live", "url": origin.url("sample.mp4")}).to_string();
    origin.serve("premiere/live", &live);
    let task = worker.wait_for_status(&worker.download("ana", &origin.url("premiere/live")), "error");
    assert!(task["error_message"].as_str().unwrap().ends_with("or live"), "{task}");

    origin.serve(
        "premiere/one",
        &json!({"live_status": "is_upcoming", "release_timestamp": clock::unix_now() + 6}).to_string(),
    );
    let id = worker.download("ana", &origin.url("premiere/one"));
    let says = |words: &'static str| {
        move |task: &Value| {
            assert_ne!(task["status"], "error", "{task}");
            task["status"] == "pending" && task["error_message"].as_str().unwrap().starts_with(words)
        }
    };
    worker.wait_for(&id, says("announced: begins at 2"));
    origin.serve("premiere/one", &live);
    worker.wait_for(&id, says("announced: is live now"));
    // It is still live at the next attempt, after a restart.
    skip_the_wait(&mut worker, &id);
    eventually("another attempt", || (requests_for(&origin, "premiere/one") == 3).then_some(()));
    worker.wait_for(&id, says("announced: is live now"));
    origin.serve("premiere/one", &json!({"live_status": "was_live", "url": origin.url("sample.mp4")}).to_string());
    skip_the_wait(&mut worker, &id);
    worker.wait_for_status(&id, "completed");
    assert!(worker.get("ana", &format!("/api/download/{id}/file")).body == media::read("sample.mp4"));
}

#[test]
fn a_video_announced_without_a_time_or_far_ahead_waits_without_using_up_attempts() {
    let origin = Origin::start();
    let worker = worker(&origin);
    let far = json!({"live_status": "is_upcoming", "release_timestamp": clock::unix_now() + 90 * 86_400});
    for (name, announced) in [("some", json!({"live_status": "is_upcoming"})), ("far", far)] {
        let path = format!("premiere/{name}");
        origin.serve(&path, &announced.to_string());
        let id = worker.download("ana", &origin.url(&path));
        let task = worker.wait_for(&id, |task| task["error_message"] != "");
        let expected = if name == "some" { "announced: has not begun" } else { "the announced start is too far" };
        assert!(task["error_message"].as_str().unwrap().starts_with(expected), "{task}");
        if name == "some" {
            assert_eq!(worker.delete("ana", &format!("/api/downloads/{id}")).status, 200);
            eventually("an empty job folder", || (!worker.job(&id).exists()).then_some(()));
        }
    }
    // A video that is neither announced nor available is an error, as without the plugin.
    origin.serve("premiere/none", "{}");
    let id = worker.download("ana", &origin.url("premiere/none"));
    let task = worker.wait_for_status(&id, "error");
    assert!(task["error_message"].as_str().unwrap().contains("Premieres in a few moments"), "{task}");
}
