//! Which of several renditions a quality selects.

use serde_json::json;

use crate::{origin::Origin, process::Worker};

/// Serves a master playlist with renditions of these sizes, each in a folder named after it.
fn master(origin: &Origin, name: &str, sizes: &[&str]) -> String {
    let variant = |size: &&str| {
        let bandwidth = size.replace('x', "0");
        format!(
            "#EXT-X-STREAM-INF:BANDWIDTH={bandwidth},RESOLUTION={size},CODECS=\"avc1.64000d,mp4a.40.2\"\n{size}/hls.m3u8\n"
        )
    };
    origin.serve(name, &format!("#EXTM3U\n{}", sizes.iter().map(variant).collect::<String>()));
    origin.url(name)
}

/// Returns the renditions of which a segment was fetched, and the task's format note.
fn taken(worker: &Worker, origin: &Origin, url: &str, quality: &str) -> (Vec<String>, String) {
    let before = origin.requests().len();
    let order = json!({"url": url, "quality": quality});
    let id = worker.post("ana", "/api/download", &order.to_string()).json()["id"].as_str().unwrap().to_owned();
    let task = worker.wait_for_status(&id, "completed");
    let first = |request: &String| request.strip_suffix("/h000.ts").map(str::to_owned);
    let sizes = origin.requests()[before..].iter().filter_map(first).collect();
    (sizes, task["format_note"].as_str().unwrap().to_owned())
}

#[test]
fn a_quality_limits_the_shorter_side_and_the_smallest_is_the_fallback() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    let upright = master(&origin, "upright.m3u8", &["360x640", "720x1280", "1080x1920", "1440x2560"]);
    let lying = master(&origin, "lying.m3u8", &["640x360", "1280x720", "1920x1080"]);
    for (url, quality, expected, note) in [
        (&upright, "1080p", "1080x1920", "1080p"),
        (&upright, "480p", "360x640", "360p"),
        (&upright, "240p", "360x640", "360p"),
        (&upright, "best", "1440x2560", "1440p"),
        (&lying, "720p", "1280x720", "720p"),
        (&lying, "240p", "640x360", "360p"),
    ] {
        let (sizes, said) = taken(&worker, &origin, url, quality);
        assert_eq!((sizes, &*said), (vec![expected.to_owned()], note), "{url} {quality}");
    }
}
