//! Paths: ambiguous ones never arrive, unambiguous ones arrive byte for byte.

use crate::{canary::Canary, client::Request, frames::first_frame, instance::Instance};

/// These paths are under a route with one free segment, so that only the path itself can be the reason for a denial.
const REFUSED: &[&str] = &[
    "/api/stream/..",
    "/api/stream/../x",
    "/api/stream/.",
    "/api/stream/./x",
    "/api/stream//x",
    "//api/stream/x",
    "/api//stream/x",
    "/api/stream/%2e%2e",
    "/api/stream/%2E%2E%2Fx",
    "/api/stream/.%2e",
    "/api/stream/%2e",
    "/api/stream/a%2fb",
    "/api/stream/a%2Fb",
    "/api/stream/%252e%252e",
    "/api/stream/a%252fb",
    "/api/stream/a%255cb",
    "/api/stream/%25252e",
    "/api/stream/a%5cb",
    "/api/stream/a\\b",
    "/api/stream/..\\x",
    "/api/stream/a%00b",
    "/api/stream/a%0a",
    "/api/stream/a%0d%0aX:y",
    "/api/stream/a%7f",
    "/api/stream/%c0%ae%c0%ae",
    "/api/stream/%c0%af",
    "/api/stream/%e0%80%ae",
    "/api/stream/%25c0%25ae",
    "/api/stream/%ff",
    "/api/stream/..;/x",
    "/api/stream/x;v=1",
    "/api/stream/a%",
    "/api/stream/a%2",
    "/api/stream/a%zz",
    "/api/stream/%u002e",
    "/api/stream/%ef%bc%8e%ef%bc%8e",
    "/api/stream/%e2%80%a5",
    "/api/stream/...",
    "/api/stream/..%c2%85",
    "/api/stream/..%ef%bc%8f..%ef%bc%8fx",
    // Titles contain such characters, so file names may (titles.rs), but nothing else.
    "/api/thumbnails/a%ef%bc%8fb",
    "/api/thumbnails/a%ef%bc%bcb",
    "/api/thumbnails/a%c2%85b",
];

/// These cannot even be written in a request line.
const UNWRITABLE: &[&str] =
    &["/api/stream/é", "/api/stream/a b", "/api/stream/a\tb", "/api/stream/a#b", "/api/stream/\u{1}"];

#[test]
fn every_spelling_of_traversal_is_refused_and_none_arrives() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    for path in REFUSED.iter().chain(UNWRITABLE) {
        let response = i.get(path);
        assert_eq!((response.status, response.code().as_str()), (400, "bad_path"), "{path}");
        assert!(response.header("x-request-id").is_some(), "{path}");
    }
    assert_eq!(i.get(&format!("/api/stream/{}", "a".repeat(9_000))).status, 414);
    assert!(canary.seen().is_empty(), "{:?}", canary.seen());
}

#[test]
fn the_same_rules_apply_to_http2() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    for path in REFUSED.iter().filter(|p| !p.contains('\\')) {
        let output = std::process::Command::new("curl")
            .args([
                "-s",
                "-o",
                "/dev/null",
                "-w",
                "%{http_code} %{http_version}",
                "--http2",
                "--path-as-is",
                "--cacert",
            ])
            .arg(i.authority())
            .args([
                "-H",
                &format!("X-API-Key: {}", i.key()),
                "--resolve",
                &format!("localhost:{}:127.0.0.1", i.tls.port()),
            ])
            .arg(format!("https://localhost:{}{path}", i.tls.port()))
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "400 2", "{path}");
    }
    assert!(canary.seen().is_empty(), "{:?}", canary.seen());
}

#[test]
fn over_http2_a_fragment_is_removed_before_the_path_is_judged_and_never_arrives() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    let link = i.command(&["link", "create", "/api/stream/a.mp4"])["url"].as_str().unwrap().to_owned();
    let link = link.split_once("localhost").unwrap().1.split_once('/').unwrap().1;
    let (target, query) = link.split_once('?').unwrap();
    let with_key = [
        "/api/downloads#",
        "/api/downloads#b",
        "/api/downloads?a=1#?b=2",
        "/api/downloads#/../api/download",
        "/nowhere#/api/downloads",
        "/api/stream/..#/a",
        "#/api/downloads",
    ];
    let without = [format!("/{target}#?{query}"), format!("/{link}#b"), "/api/downloads#".into()];
    let fetch = |path: &str, more: &[(&str, &str)]| {
        let head = [(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", path)];
        first_frame(&i, &[&head[..], more].concat())
    };
    for path in with_key {
        fetch(path, &[("x-api-key", i.key())]);
    }
    for path in &without {
        fetch(path, &[]);
    }
    let arrived: Vec<_> = canary.seen().iter().map(|seen| seen.target().to_owned()).collect();
    let [list, video] = ["/api/downloads", "/api/stream/a.mp4"].map(str::to_owned);
    assert_eq!(arrived, [list.clone(), list.clone(), format!("{list}?a=1"), list, video]);
}

#[test]
fn titles_arrive_byte_for_byte() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    let paths = [
        "/api/stream/a%23b%3Fc.mp4",
        "/api/stream/100%25%20real.mp4",
        "/api/stream/caf%C3%A9%20%F0%9F%8E%AC.mp4",
        "/api/stream/Title%20[id].mp4",
        "/api/stream/Wait%E2%80%A6.mp4",
        "/api/stream/a%E2%A7%B8b.mp4",
        "/api/stream/a..b",
        "/api/stream/a%3Bb",
        "/api/thumbnails/%25F0%259F%258E%25AC",
        "/api/thumbnails/100%2525",
        "/api/stream/a%EF%BC%8Fb%C2%85.mp4",
        "/api/stream/it's(1)!.mp4?t=%2e%2e",
    ];
    for path in paths {
        assert_eq!(i.get(path).status, 200, "{path}");
    }
    let arrived: Vec<String> = canary.seen().iter().map(|seen| seen.target().to_owned()).collect();
    assert_eq!(arrived, paths);
}

#[test]
fn an_absolute_target_is_judged_by_its_path_and_arrives_in_origin_form() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    let request = |path: &str| Request::new("GET", &format!("https://localhost{path}")).key(i.key());
    assert_eq!(i.send(&request("/api/downloads?x=1")).status, 200);
    assert_eq!(i.send(&request("/api/stream/..%2fx")).status, 400);
    assert_eq!(canary.only().target(), "/api/downloads?x=1");
}
