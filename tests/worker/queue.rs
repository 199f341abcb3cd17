//! The order in which users' downloads run.

use serde_json::json;

use crate::{
    origin::Origin,
    process::{Setup, Worker},
};

const SHARES: Setup = Setup {
    yt_dlp: std::path::PathBuf::new(),
    extra: "concurrent_downloads = 2\nconcurrent_downloads_per_user = 1",
    wrapper: &[],
};

#[test]
fn a_user_with_many_tasks_does_not_delay_others() {
    let origin = Origin::start();
    let worker = Worker::with(&origin, &Setup { yt_dlp: crate::process::yt_dlp(), ..SHARES });
    let ana: Vec<_> = (0..20).map(|_| worker.download("ana", &origin.url("stall/sample.mp4"))).collect();
    worker.wait_for_status(&ana[0], "downloading");
    // One slot stays free all the time, but not for ana.
    let bob = worker.completed("bob", &origin.url("sample.mp4"));
    assert_eq!(bob["status"], "completed");
    let statuses = |what: &str| ana.iter().filter(|id| worker.task(id).unwrap()["status"] == what).count();
    assert_eq!((statuses("downloading"), statuses("pending")), (1, 19));
    assert_eq!(worker.delete("ana", &format!("/api/downloads/{}", ana[0])).status, 200);
    worker.wait_for_status(&ana[1], "downloading");
}

#[test]
fn downloads_run_in_the_order_of_their_priority() {
    let origin = Origin::start();
    let worker = Worker::with(&origin, &Setup { yt_dlp: crate::process::yt_dlp(), ..SHARES });
    let order = |path: &str, priority: &str| {
        let order = json!({"url": origin.url(path), "priority": priority}).to_string();
        let response = worker.post("ana", "/api/download", &order);
        assert_eq!(response.status, 200, "{:?}", response.json());
        response.json()["id"].as_str().unwrap().to_owned()
    };
    let first = worker.download("ana", &origin.url("stall/sample.mp4"));
    worker.wait_for_status(&first, "downloading");
    let ids = [order("low/sample.mp4", "low"), order("sample.mp4", "normal"), order("high/sample.mp4", "high")];
    worker.delete("ana", &format!("/api/downloads/{first}"));
    for id in &ids {
        worker.wait_for_status(id, "completed");
    }
    let mut requested = origin.requests();
    requested.retain(|path| !path.starts_with("stall"));
    requested.dedup();
    assert_eq!(requested, ["high/sample.mp4", "sample.mp4", "low/sample.mp4"]);
    let wrong = json!({"url": origin.url("x"), "priority": "urgent"}).to_string();
    assert_eq!(worker.post("ana", "/api/download", &wrong).status, 422);
}

#[test]
fn one_users_tasks_do_not_fill_the_queue() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    let order = json!({"url": origin.url("stall/sample.mp4")}).to_string();
    let full =
        (0..510).map(|_| worker.post("ana", "/api/download", &order)).find(|response| response.status != 200).unwrap();
    assert_eq!((full.status, &full.json()["code"]), (503, &json!("queue_full")));
    assert_eq!(worker.post("bob", "/api/download", &order).status, 200);
}
