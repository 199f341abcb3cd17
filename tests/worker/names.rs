//! Variants in the input of clients: URLs with white space around them, and names in either Unicode normal form.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;

use crate::{origin::Origin, process::Worker};

#[test]
fn white_space_around_a_url_is_no_part_of_it() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    let url = origin.url("sample.mp4");
    let pasted = [format!(" \t{url}\r\n"), format!("{url}\n"), format!("\u{a0}{url}\u{2028}")];
    for pasted in pasted.map(|url| json!({ "url": url }).to_string()) {
        let response = worker.post("ana", "/api/download", &pasted);
        assert_eq!(response.status, 200, "{:?}", response.json());
        let task = worker.wait_for_status(response.json()["id"].as_str().unwrap(), "completed");
        assert_eq!(task["url"], url);
        assert_eq!(worker.post("ana", "/api/info", &pasted).status, 200);
    }
    for broken in ["https://exam\nple.com/", "https://example.com/a b"] {
        let response = worker.post("ana", "/api/download", &json!({ "url": broken }).to_string());
        assert_eq!((response.status, &response.json()["code"]), (422, &json!("url_refused")), "{broken}");
    }
}

#[test]
fn a_name_is_found_in_either_normal_form_and_keeps_its_joiners() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    let title = "Canci\u{f3}n \u{645}\u{6cc}\u{200c}\u{62e}\u{648}\u{627}\u{647}\u{645} \u{ac00}";
    origin.serve(
        "page.html",
        &format!("<html><head><title>{title}</title></head><body><video src=sample.mp4></video></body></html>"),
    );
    let task = worker.completed("ana", &origin.url("page.html"));
    let name = task["filename"].as_str().unwrap();
    assert!(name.starts_with(title), "{name}");
    // The form that macOS uses.
    let decomposed = name.replace('\u{f3}', "o\u{301}").replace('\u{ac00}', "\u{1100}\u{1161}");
    let stream =
        |name: &str| worker.get("ana", &format!("/api/stream/{}", utf8_percent_encode(name, NON_ALPHANUMERIC)));
    let composed = stream(name);
    let decomposed = stream(&decomposed);
    assert_eq!((composed.status, decomposed.status), (200, 200));
    assert!(composed.body == decomposed.body);
    let other = name.replace('\u{f3}', "o");
    assert_eq!(stream(&other).status, 404, "a different name is not found");
}
