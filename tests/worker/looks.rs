//! Information, search and trending.

use std::thread;

use serde_json::json;

use crate::{
    origin::Origin,
    process::{Setup, Worker, eventually, fake_yt_dlp, processes_of},
};

#[test]
fn a_pages_information_has_no_media_addresses() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    let url = origin.url("dash.mpd");
    let answer = worker.post("ana", "/api/info", &json!({"url": url}).to_string());
    let info = answer.json();
    assert_eq!((answer.status, &info["title"], &info["url"]), (200, &json!("dash"), &json!(url)));
    assert_eq!(info["formats"].as_array().unwrap().len(), 2);
    assert!(info["formats"][0].get("url").is_none());

    let found = worker.get("ana", &format!("/api/search?q={url}")).json();
    assert_eq!((&found["results"][0]["title"], &found["query"]), (&json!("dash"), &json!(url)));
    let missing = worker.post("ana", "/api/info", &json!({"url": origin.url("missing.mp4")}).to_string());
    assert_eq!((missing.status, &missing.json()["code"]), (422, &json!("upstream_refused")));
}

#[test]
fn a_search_that_makes_no_sense_is_refused() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    for query in ["", "?q=", "?q=%0a", "?q=x&max_results=0", "?q=x&max_results=51", "?q=x&max_results=a", "?q=x&z=1"] {
        assert_eq!(worker.get("ana", &format!("/api/search{query}")).status, 422, "{query}");
    }
    let private = worker.get("ana", "/api/search?q=http://127.0.0.1/x");
    assert_eq!((private.status, &private.json()["code"]), (422, &json!("url_refused")));
}

#[test]
fn few_looks_run_at_a_time_and_none_for_long() {
    let origin = Origin::start();
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup { yt_dlp: fake_yt_dlp(dir.path(), "sleep 300"), extra: "info_timeout = \"5s\"" };
    let worker = Worker::with(&origin, &setup);
    let looks = format!("{}/look-", worker.job("").display()).replace("//", "/");
    let look = || worker.get("ana", "/api/search?q=x");
    thread::scope(|scope| {
        let patient = [scope.spawn(look), scope.spawn(look)];
        eventually("two children", || (processes_of(&looks).len() >= 4).then_some(()));
        let busy = look();
        assert_eq!((busy.status, &busy.json()["code"]), (503, &json!("busy")));
        for answer in patient.map(|p| p.join().unwrap()) {
            assert_eq!((answer.status, &answer.json()["code"]), (504, &json!("upstream_timeout")));
        }
    });
}
