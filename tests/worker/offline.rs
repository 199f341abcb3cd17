//! Search, trending and information without a network: the response is clear and comes soon.

use std::{
    fs,
    net::UdpSocket,
    time::{Duration, Instant},
};

use rustix::thread::UnshareFlags;
use serde_json::json;

use crate::{
    client::Response,
    origin::Origin,
    process::Worker,
    skips::skipped,
    town::{Town, run, unshare},
};

/// Less than a request may take (`info_timeout`): a few attempts, each of which waits for a name.
const SOON: Duration = Duration::from_secs(55);

fn is_unreachable(what: &str, fetch: impl FnOnce() -> Response) {
    let start = Instant::now();
    let response = fetch();
    println!("{what}: {} in {:?}", response.status, start.elapsed());
    let body = response.json();
    assert_eq!((response.status, &body["code"]), (502, &json!("upstream_unreachable")), "{what}: {body}");
    let detail = body["detail"].as_str().unwrap();
    assert!(detail.starts_with(what) && detail.ends_with("could not be reached"), "{detail}");
    assert!(start.elapsed() < SOON, "{what}: {:?}", start.elapsed());
}

/// Tries each of the three routes with the real yt-dlp.
fn all_are_unreachable() {
    let worker = Worker::start(&Origin::start());
    is_unreachable("Search", || worker.get("ana", "/api/search?q=video"));
    is_unreachable("Trending", || worker.get("ana", "/api/trending"));
    for url in ["https://videos.example.com/a", "http://93.184.216.99/a.mp4", "https://93.184.216.99/a"] {
        is_unreachable("Information", || worker.post("ana", "/api/info", &json!({ "url": url }).to_string()));
    }
    is_unreachable("Information", || worker.get("ana", "/api/search?q=https://93.184.216.99/a"));
}

#[test]
fn without_name_resolution_nothing_is_reached() {
    let Some(_town) = Town::enter() else { return };
    all_are_unreachable();
}

#[test]
fn without_any_network_nothing_is_reached() {
    if unshare(UnshareFlags::NEWNET).is_err() {
        skipped("only root can create a network for a test");
        return;
    }
    run("ip", &["link", "set", "lo", "up"]);
    all_are_unreachable();
}

/// The situation behind a router whose line is down.
#[test]
fn with_a_silent_name_server_nothing_is_reached() {
    if unshare(UnshareFlags::NEWNET | UnshareFlags::NEWNS).is_err() {
        skipped("only root can create a network for a test");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let resolver = dir.path().join("resolv.conf");
    fs::write(&resolver, "nameserver 127.0.0.1\n").unwrap();
    run("mount", &["--make-rprivate", "/"]);
    run("mount", &["--bind", resolver.to_str().unwrap(), "/etc/resolv.conf"]);
    run("ip", &["link", "set", "lo", "up"]);
    let _silent = UdpSocket::bind("127.0.0.1:53").unwrap();
    let worker = Worker::start(&Origin::start());
    is_unreachable("Search", || worker.get("ana", "/api/search?q=video"));
    is_unreachable("Trending", || worker.get("ana", "/api/trending"));
    is_unreachable("Information", || worker.post("ana", "/api/info", r#"{"url": "https://videos.example.com/a"}"#));
}
