//! Downloads behind the egress guard: they reach public hosts, and find no way to any other.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{
    origin::Origin,
    process::{Setup, Worker},
    stand_in::python_yt_dlp,
    town::{Canary, PUBLIC, Town},
};

/// Sets up a network with a public host, `videos.example.com`, that children can reach, and canaries that they must not reach.
fn town() -> Option<(Town, Origin, Canary)> {
    let town = Town::enter()?;
    let origin = Origin::at(&format!("{PUBLIC}:80"));
    town.name("videos.example.com", &[&[PUBLIC]]);
    let canary = Canary::new();
    canary.at(&[
        "127.0.0.1:80",
        "[::1]:80",
        "10.0.0.5:80",
        "192.168.1.1:80",
        "169.254.169.254:80",
        "100.64.0.9:80",
        "[fd00::5]:80",
        "127.0.0.1:443",
        "10.0.0.5:443",
        "169.254.169.254:443",
        "93.184.216.35:8080",
    ]);
    Some((town, origin, canary))
}

#[test]
fn a_video_is_downloaded_from_a_public_host() {
    let Some((_town, origin, canary)) = town() else { return };
    let worker = Worker::with(&Origin::start(), &Setup::default());
    let task = worker.completed("ana", "http://videos.example.com/sample.mp4");
    assert!(task["filesize"].as_u64().unwrap() > 100_000, "{task}");
    assert!(origin.requests().iter().any(|request| request.contains("sample.mp4")));
    let log = worker.log();
    assert!(log.contains("egress job=") && log.contains("videos.example.com"), "the hosts are in the log: {log}");
    assert!(canary.seen().is_empty());
}

#[test]
fn no_redirect_and_no_manifest_reaches_a_private_host() {
    let Some((_town, origin, canary)) = town() else { return };
    let worker = Worker::with(&Origin::start(), &Setup::default());
    let inside = [
        "http://127.0.0.1/a.mp4",
        "http://[::1]/a.mp4",
        "http://10.0.0.5/a.mp4",
        "http://192.168.1.1/a.mp4",
        "http://169.254.169.254/latest/meta-data/a.mp4",
        "http://100.64.0.9/a.mp4",
        "http://[fd00::5]/a.mp4",
        "https://10.0.0.5/a.mp4",
        "http://93.184.216.35:8080/a.mp4",
        "http://0x7f.1/a.mp4",
        "http://2130706433/a.mp4",
    ];
    let worker_itself = format!("http://{}/api/downloads", worker.address);
    let mut orders = Vec::new();
    for (i, place) in inside.iter().copied().chain([&*worker_itself]).enumerate() {
        origin.redirect(&format!("r{i}.mp4"), place);
        origin.serve(
            &format!("m{i}.m3u8"),
            &format!("#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\n{place}\n#EXT-X-ENDLIST\n"),
        );
        orders.extend([format!("r{i}.mp4"), format!("m{i}.m3u8")]);
    }
    let ids: Vec<_> =
        orders.iter().map(|name| worker.download("ana", &format!("http://videos.example.com/{name}"))).collect();
    for id in ids {
        let task = worker.wait_for_status(&id, "error");
        assert!(!task["error_message"].as_str().unwrap().is_empty());
    }
    assert_eq!(canary.seen(), Vec::<String>::new());
    assert!(!worker.log().contains("unsigned"), "not even the worker itself: {}", worker.log());
}

#[test]
fn a_name_that_resolves_differently_at_the_second_lookup_leads_nowhere() {
    let Some((town, _origin, canary)) = town() else { return };
    let worker = Worker::with(&Origin::start(), &Setup::default());
    // The worker resolves the name first, then the guard: each judges its own result.
    for (i, responses) in [&[&[PUBLIC][..], &["10.0.0.5"]][..], &[&[PUBLIC], &["169.254.169.254"]]].iter().enumerate() {
        let name = format!("rebind{i}.example.com");
        town.name(&name, responses);
        let id = worker.download("ana", &format!("http://{name}/sample.mp4"));
        worker.wait_for_status(&id, "error");
    }
    assert_eq!(canary.seen(), Vec::<String>::new());
}

#[test]
fn a_malicious_child_finds_no_way_around_the_guard() {
    let Some((_town, _origin, canary)) = town() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (yt_dlp, readable) = python_yt_dlp(dir.path(), include_str!("python/bypasses_guard.py"));
    let worker = Worker::with(&Origin::start(), &Setup { yt_dlp, extra: readable.leak(), ..Setup::default() });
    let before = canary.seen();
    assert_eq!(worker.get("ana", "/api/search?q=x").json()["results"], json!([]));
    // Long enough for a connection or a datagram, which must not come.
    thread::sleep(Duration::from_millis(300));
    assert_eq!((before, canary.seen()), (vec![], vec![]));
}

#[test]
fn a_host_that_trickles_forever_and_one_that_never_ends_are_cut_off() {
    let Some((_town, origin, _canary)) = town() else { return };
    let setup = Setup { extra: "max_filesize = \"1MiB\"\njob_timeout = \"20s\"", ..Setup::default() };
    let worker = Worker::with(&Origin::start(), &setup);
    let start = Instant::now();
    let ids = ["trickle/video.mp4", "endless/video.mp4"]
        .map(|name| worker.download("ana", &format!("http://videos.example.com/{name}")));
    for id in ids {
        worker.wait_for_status(&id, "error");
    }
    assert!(start.elapsed() < Duration::from_secs(35), "{:?}", start.elapsed());
    assert!(origin.requests().len() < 40, "{:?}", origin.requests());
}
