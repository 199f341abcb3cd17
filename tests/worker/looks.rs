//! Information, search and trending.

use serde_json::json;

use crate::{origin::Origin, process::Worker};

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
