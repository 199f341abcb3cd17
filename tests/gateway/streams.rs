//! HLS through the gateway, as players use it: with a key in each request, or with only a signed link to the playlist.

use std::process::{Command, Output};

use serde_json::json;

use crate::{
    client::Request,
    instance::Instance,
    origin::Origin,
    whole::{completed, up_with},
};

/// Downloads a video in a container that browsers do not play.
fn video(i: &Instance, origin: &Origin) -> String {
    let order = json!({"url": origin.url("sample.mp4"), "format": "mkv"});
    let id = i.post("/api/download", &order.to_string()).json()["id"].as_str().unwrap().to_owned();
    completed(i, &id);
    id
}

/// Creates a link; returns its id, and the path and query of its URL.
fn link(i: &Instance, path: &str) -> (String, String) {
    let made = i.post("/.sallyport/links", &json!({ "path": path }).to_string());
    assert_eq!(made.status, 201, "{made:?}");
    let url = made.json()["url"].as_str().unwrap().to_owned();
    (made.json()["id"].as_str().unwrap().to_owned(), url.split_once("localhost").unwrap().1.to_owned())
}

/// Runs ffmpeg as a player, and returns what it receives of each stream.
fn play(i: &Instance, target: &str, headers: &[&str]) -> Output {
    Command::new("ffmpeg")
        .args(["-v", "error", "-tls_verify", "1", "-ca_file"])
        .arg(i.path("certs/ca.pem"))
        .args(headers)
        .args(["-i", &format!("https://localhost:{}{target}", i.tls.port())])
        .args(["-map", "0", "-c", "copy", "-f", "streamhash", "-"])
        .output()
        .unwrap()
}

#[test]
fn a_player_needs_a_key_or_a_link_to_the_playlist_and_gets_every_packet() {
    let origin = Origin::start();
    let i = up_with(&origin, |_| ());
    let id = video(&i, &origin);
    let playlist = format!("/api/v2/hls/{id}/index.m3u8");
    let file = i.path(&format!("data/media/{id}/media.mkv"));
    let copy = ["-map", "0", "-c", "copy", "-f", "streamhash", "-"];
    let own = Command::new("ffmpeg").args(["-v", "error", "-i"]).arg(file).args(copy).output().unwrap().stdout;
    assert_eq!(own.split(|byte| *byte == b'\n').count(), 3, "video and audio");

    let key = format!("X-API-Key: {}\r\n", i.key());
    let by_key = play(&i, &playlist, &["-headers", &key]);
    assert!(by_key.status.success() && by_key.stdout == own, "{by_key:?}");
    let (_, target) = link(&i, &playlist);
    let by_link = play(&i, &target, &[]);
    assert!(by_link.status.success() && by_link.stdout == own, "{by_link:?}");
    assert!(!play(&i, &playlist, &[]).status.success());
}

#[test]
fn a_link_to_a_playlist_opens_its_video_and_no_other() {
    let origin = Origin::start();
    let i = up_with(&origin, |_| ());
    let id = video(&i, &origin);
    let other = video(&i, &origin);
    let (link_id, target) = link(&i, &format!("/api/v2/hls/{id}/index.m3u8"));
    let get = |target: &str| i.send(&Request::new("GET", target)).status;
    let list = i.send(&Request::new("GET", &target));
    let text = String::from_utf8(list.body).unwrap();
    let uri = text.lines().find(|line| line.starts_with("stream.mp4?")).unwrap_or_else(|| panic!("{text}")).to_owned();
    assert!(text.lines().all(|line| line.starts_with('#') || line == uri), "{text}");
    assert_eq!(list.status, 200);
    let stream = format!("/api/v2/hls/{id}/{uri}");
    assert_eq!(get(&stream), 200);
    let by_key = i.get(&format!("/api/v2/hls/{id}/index.m3u8"));
    assert!(!String::from_utf8(by_key.body).unwrap().contains('?'), "a client with a key needs no link");

    for opens_nothing in [
        stream.replace(&id, &other),
        stream.replace("stream.mp4", "index.m3u8"),
        stream.replace(&format!("hls/{id}/stream.mp4"), &format!("downloads/{id}/subtitles/en.vtt")),
        stream.replace(&format!("/api/v2/hls/{id}/stream.mp4"), &format!("/api/download/{id}/file")),
        stream.replace("sp_user=admin", "sp_user=ana"),
        stream.replace("sp_exp=1", "sp_exp=2"),
        target.replace("index.m3u8", "stream.mp4"),
    ] {
        assert_ne!(opens_nothing, stream);
        assert_eq!(get(&opens_nothing), 403, "{opens_nothing}");
    }
    let (_, own) = link(&i, &format!("/api/v2/hls/{id}/stream.mp4"));
    assert_eq!(get(&own), 200, "a link to the video alone works as well");

    i.command(&["link", "revoke", &link_id]);
    assert_eq!((get(&target), get(&stream)), (410, 410), "it is revoked together with the link derived from it");
    assert_eq!(get(&own), 200);
    i.command(&["user", "add", "ana"]);
    let ana = i.new_key(&["--user", "ana"]);
    let playlist = format!("/api/v2/hls/{id}/index.m3u8");
    assert_eq!(i.send(&Request::new("GET", &playlist).key(&ana)).status, 404);
    let hers =
        i.send(&Request::new("POST", "/.sallyport/links").key(&ana).json(&json!({ "path": playlist }).to_string()));
    let hers = hers.json()["url"].as_str().unwrap().split_once("localhost").unwrap().1.to_owned();
    assert_eq!(get(&hers), 404, "her link opens only what she may open");
}
