//! Invalid requests get a clear error and start nothing.

use serde_json::json;

use crate::{client::Request, origin::Origin, process::Worker};

#[test]
fn a_body_that_the_route_does_not_accept_starts_nothing() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    let malformed = ["", "{", "[]", "null", r#"["https://e.com"]"#, r#"{"url":"https://e.com","url":"https://e.org"}"#];
    let refused = [
        "{}",
        r#"{"url":1}"#,
        r#"{"url":"https://e.com","quality":"719p"}"#,
        r#"{"url":"https://e.com","quality":"bestvideo"}"#,
        r#"{"url":"https://e.com","format":"exe"}"#,
        r#"{"url":"https://e.com","format":"mp3"}"#,
        r#"{"url":"https://e.com","download_type":"both"}"#,
        r#"{"url":"https://e.com","download_type":"audio","format":"mp4"}"#,
        r#"{"url":"https://e.com","exec":"id"}"#,
        r#"{"url":"https://e.com","output":"../../x"}"#,
    ];
    for (bodies, status) in [(&malformed[..], 400), (&refused[..], 422)] {
        for body in bodies {
            let response = worker.post("ana", "/api/download", body);
            assert_eq!(response.status, status, "{body}");
            assert!(response.json()["detail"].is_string() && response.json()["code"].is_string(), "{body}");
        }
    }
    let text = Request::new("POST", "/api/download").header("content-type", "text/plain");
    let text = Request { body: Some(r#"{"url":"https://e.com"}"#), ..text };
    assert_eq!(text.signed("ana", worker.address).send(worker.address).status, 415);
    let long = format!("{{\"url\":\"https://e.com/{}\"}}", "x".repeat(20_000));
    assert_eq!(worker.post("ana", "/api/download", &long).status, 413);
    assert_eq!(worker.get("ana", "/api/downloads").body, b"[]");
}

#[test]
fn a_url_to_anything_but_a_public_host_is_refused_immediately() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    for url in [
        "-x",
        "--exec=id",
        "file:///etc/passwd",
        "ftp://example.com/x",
        "ytsearch:x",
        "example.com",
        "http://127.0.0.1/x",
        "http://127.1/x",
        "http://2130706433/x",
        "http://0x7f.1/x",
        "http://0177.0.0.1/x",
        "http://0/x",
        "http://10.0.0.1/x",
        "http://192.168.1.1/x",
        "http://172.16.0.1/x",
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]/x",
        "http://[::]/x",
        "http://[::ffff:127.0.0.1]/x",
        "http://[fe80::1]/x",
        "http://[fd00:ec2::254]/x",
        "http://[64:ff9b::7f00:1]/x",
        "http://localhost/x",
        "http://LOCALHOST./x",
        "http://nas.local/x",
        "http://metadata.google.internal/x",
        "http://user:pass@example.com/x",
        "http://127。0。0。1/x",
        "http://example.com\\\\@127.0.0.1/x",
    ] {
        for route in ["/api/download", "/api/info"] {
            let response = worker.post("ana", route, &json!({"url": url}).to_string());
            assert_eq!((response.status, &response.json()["code"]), (422, &json!("url_refused")), "{route} {url}");
        }
    }
    assert_eq!(worker.get("ana", "/api/downloads").body, b"[]");
}

#[test]
fn a_name_that_does_not_resolve_fails_the_task() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    let id = worker.download("ana", "https://does-not-exist.invalid/x");
    let task = worker.wait_for_status(&id, "error");
    assert_eq!(task["error_message"], "the host name could not be resolved");
}
