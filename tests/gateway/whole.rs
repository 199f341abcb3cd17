//! End to end: `init`, `up`, a real download by yt-dlp through TLS, and playing the file through a signed link.

use std::{
    fs,
    io::{Read, Write},
};

use serde_json::{Value, json};

use crate::{
    client::Request,
    instance::{Instance, eventually, free_addresses, yt_dlp},
    media,
    origin::Origin,
    places,
};

/// Starts gateway and worker under `up`, allowed to download from the origin.
pub(crate) fn up(origin: &Origin) -> Instance {
    up_with(origin, |_| ())
}

/// Like [`up`], after `change` has modified the folder.
pub(crate) fn up_with(origin: &Origin, change: impl FnOnce(&Instance)) -> Instance {
    let mut i = made(origin, change);
    i.start_role("up");
    i
}

pub(crate) fn made(origin: &Origin, change: impl FnOnce(&Instance)) -> Instance {
    let i = Instance::made(&[]);
    let [worker] = free_addresses::<1>();
    i.replace("listen = \"127.0.0.1:8001\"", &format!("listen = \"{worker}\""));
    i.replace("upstream = \"127.0.0.1:8001\"", &format!("upstream = \"{worker}\""));
    i.replace("yt_dlp = \"yt-dlp\"", &format!("yt_dlp = \"{}\"", yt_dlp().display()));
    i.replace("allow_private = []", &format!("allow_private = [\"{}\"]", origin.address));
    change(&i);
    i
}

pub(crate) fn start_download(i: &Instance, url: &str) -> String {
    let response = i.post("/api/download", &json!({ "url": url }).to_string());
    assert_eq!(response.status, 200, "{response:?}");
    response.json()["id"].as_str().unwrap().to_owned()
}

pub(crate) fn task(i: &Instance, id: &str) -> Value {
    let response = i.get("/api/downloads");
    assert_eq!(response.status, 200, "{response:?}");
    response.json().as_array().unwrap().iter().find(|task| task["id"] == id).unwrap().clone()
}

pub(crate) fn completed(i: &Instance, id: &str) -> Value {
    eventually("the download", || {
        let task = task(i, id);
        assert_ne!(task["status"], "error", "{task}");
        (task["status"] == "completed").then_some(task)
    })
}

pub(crate) fn stream_path(task: &Value) -> String {
    format!("/api/stream/{}", task["filename"].as_str().unwrap())
}

#[test]
fn an_mp4_an_hls_and_a_dash_source_are_downloaded_and_played() {
    let origin = Origin::start();
    let i = up(&origin);
    for source in ["sample.mp4", "hls.m3u8", "dash.mpd"] {
        let id = start_download(&i, &origin.url(source));
        let task = completed(&i, &id);
        let streamed = i.get(&stream_path(&task));
        assert_eq!(streamed.status, 200);
        assert_eq!(streamed.body.len() as u64, task["filesize"].as_u64().unwrap());
        assert_eq!(media::probe(&streamed.body), ("h264,aac".to_owned(), 6), "{source}");
        assert_eq!(i.get(&format!("/api/download/{id}/file")).body, streamed.body);
        if source == "sample.mp4" {
            assert!(streamed.body == media::read(source), "the file equals the source byte for byte");
        }

        let made = i.post("/.sallyport/links", &json!({ "path": stream_path(&task) }).to_string());
        assert_eq!(made.status, 201, "{made:?}");
        let url = made.json()["url"].as_str().unwrap().to_owned();
        let link = url.split_once("localhost").unwrap().1;
        let from = streamed.body.len() / 2;
        let to = streamed.body.len() / 2 + 9_999;
        let part = i.send(&Request::new("GET", link).header("Range", &format!("bytes={from}-{to}")));
        assert_eq!(part.status, 206);
        assert!(part.body == streamed.body[from..=to], "a range in the middle is exact");
        assert_eq!(part.header("content-range"), Some(&*format!("bytes {from}-{to}/{}", streamed.body.len())));
    }
}

#[test]
fn several_files_are_sent_as_one_archive_also_by_a_signed_link() {
    let origin = Origin::start();
    let i = up(&origin);
    let ids = ["sample.mp4", "hls.m3u8"].map(|source| {
        let id = start_download(&i, &origin.url(source));
        completed(&i, &id);
        id
    });
    let target = format!("/api/v2/zip?ids={},{}", ids[0], ids[1]);
    let made = i.post("/.sallyport/links", &json!({ "path": target }).to_string());
    assert_eq!(made.status, 201, "{made:?}");
    let url = made.json()["url"].as_str().unwrap().to_owned();
    let link = url.split_once("localhost").unwrap().1;
    let whole = media::read("sample.mp4");
    for response in [i.get(&target), i.send(&Request::new("GET", link))] {
        assert_eq!((response.status, response.header("content-type")), (200, Some("application/zip")));
        assert!(response.body.starts_with(b"PK\x03\x04") && response.body.windows(4).any(|four| four == b"PK\x05\x06"));
        assert!(
            response.body.windows(whole.len()).any(|part| part == whole),
            "the archive contains the first file unchanged"
        );
    }
    let other = link.replace(&ids[1], &ids[0]);
    assert_eq!(i.send(&Request::new("GET", &other)).status, 403, "a link opens only what was signed");
    i.command(&["user", "add", "ana"]);
    let ana = i.new_key(&["--user", "ana"]);
    assert_eq!(i.send(&Request::new("GET", &target).key(&ana)).status, 404);
    assert_eq!(i.send(&Request::new("GET", &target)).status, 401);
}

#[test]
fn the_api_description_is_available_to_its_users() {
    let origin = Origin::start();
    let i = up(&origin);
    let described = i.get("/api/v2/openapi.json");
    assert_eq!((described.status, described.header("content-type")), (200, Some("application/json")));
    let copy = fs::read_to_string(places::project().join("docs/openapi.json")).unwrap();
    assert_eq!(described.json(), serde_json::from_str::<Value>(&copy).unwrap());
    assert_eq!(i.send(&Request::new("GET", "/api/v2/openapi.json")).status, 401);
    let only_media = i.new_key(&["--scope", "media:read"]);
    assert_eq!(i.send(&Request::new("GET", "/api/v2/openapi.json").key(&only_media)).status, 403);
}

#[test]
fn subtitles_are_served_through_the_gateway_also_by_a_signed_link() {
    let origin = Origin::start();
    let i = up(&origin);
    origin.serve("en.vtt", "WEBVTT\n\n00:01.000 --> 00:02.000\nHello\n");
    origin.serve("page.html", "<video src=sample.mp4><track kind=subtitles srclang=en src=en.vtt></video>");
    let order = json!({"url": origin.url("page.html"), "subtitles": ["en", "es"], "automatic_subtitles": false});
    let response = i.post("/api/download", &order.to_string());
    assert_eq!(response.status, 200, "{response:?}");
    let id = response.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(completed(&i, &id)["subtitles"], json!(["en"]));
    let list = i.get(&format!("/api/v2/downloads/{id}/subtitles"));
    let target = list.json()[0]["url"].as_str().unwrap().to_owned();
    let made = i.post("/.sallyport/links", &json!({ "path": target }).to_string());
    assert_eq!(made.status, 201, "{made:?}");
    let url = made.json()["url"].as_str().unwrap().to_owned();
    for response in [i.get(&target), i.send(&Request::new("GET", url.split_once("localhost").unwrap().1))] {
        assert_eq!((response.status, response.header("content-type")), (200, Some("text/vtt; charset=utf-8")));
        assert_eq!(response.body, b"WEBVTT\n\n00:00:01.000 --> 00:00:02.000\nHello\n");
    }
    assert_eq!(i.send(&Request::new("GET", &target)).status, 401);
    let refused = json!({"url": origin.url("page.html"), "subtitles": ["en.*"]});
    assert_eq!(i.post("/api/download", &refused.to_string()).status, 422);
}

#[test]
fn users_see_only_their_own_files() {
    let origin = Origin::start();
    let i = up(&origin);
    i.command(&["user", "add", "ana"]);
    let ana = i.new_key(&["--user", "ana"]);
    let task = completed(&i, &start_download(&i, &origin.url("sample.mp4")));
    let get = |path: &str| i.send(&Request::new("GET", path).key(&ana));
    assert_eq!(get("/api/downloads").body, b"[]");
    assert_eq!(get(&stream_path(&task)).status, 404);
    assert_eq!(get(&format!("/api/download/{}/file", task["id"].as_str().unwrap())).status, 404);
    let link = i.send(
        &Request::new("POST", "/.sallyport/links").key(&ana).json(&json!({ "path": stream_path(&task) }).to_string()),
    );
    let url = link.json()["url"].as_str().unwrap().to_owned();
    assert_eq!(
        i.send(&Request::new("GET", url.split_once("localhost").unwrap().1)).status,
        404,
        "her link opens only what she may open"
    );
}

/// Starts an instance with these limits for users; returns it with the key of a user.
fn up_with_limits(origin: &Origin, limits: &str) -> (Instance, String) {
    let i = up_with(origin, |i| {
        i.replace("concurrent_downloads_per_user = 2", "concurrent_downloads_per_user = 4");
        i.replace("concurrent_downloads = 2", "concurrent_downloads = 4");
        let statement = "statement = true # the worker answers only what the gateway signed\n";
        i.replace_in("policies/worker.toml", statement, &format!("{statement}\n[upstream.limits]\n{limits}\n"));
    });
    i.command(&["user", "add", "ana"]);
    let ana = i.new_key(&["--user", "ana"]);
    (i, ana)
}

#[test]
fn only_as_many_downloads_run_and_wait_as_the_policy_allows_a_user() {
    let origin = Origin::start();
    let (i, ana) = up_with_limits(&origin, "concurrent_downloads = 1\nwaiting_downloads = 1");
    let order = |path: &str| {
        let body = json!({ "url": origin.url(path) }).to_string();
        i.send(&Request::new("POST", "/api/download").key(&ana).json(&body))
    };
    let first = order("stall/sample.mp4").json()["id"].as_str().unwrap().to_owned();
    eventually("her first download", || (task(&i, &first)["status"] == "downloading").then_some(()));
    let second = order("a/sample.mp4").json()["id"].as_str().unwrap().to_owned();
    let third = order("b/sample.mp4");
    assert_eq!((third.status, &third.json()["code"]), (503, &json!("queue_full")));

    let administrators: Vec<_> = (0..2).map(|n| start_download(&i, &origin.url(&format!("{n}/sample.mp4")))).collect();
    for id in &administrators {
        completed(&i, id);
    }
    assert_eq!((&task(&i, &first)["status"], &task(&i, &second)["status"]), (&json!("downloading"), &json!("pending")));
    let cancelled = i.send(&Request::new("DELETE", &format!("/api/downloads/{first}")).key(&ana));
    assert_eq!(cancelled.status, 200);
    completed(&i, &second);
}

#[test]
fn no_file_is_larger_than_the_policy_allows_its_user() {
    let origin = Origin::start();
    let (i, ana) = up_with_limits(&origin, "max_filesize = \"100KiB\"");
    let body = json!({ "url": origin.url("sample.mp4") }).to_string();
    let ordered = i.send(&Request::new("POST", "/api/download").key(&ana).json(&body)).json();
    let large = eventually("the end of her download", || {
        let task = task(&i, ordered["id"].as_str().unwrap());
        (task["status"] == "error").then_some(task)
    });
    assert!(large["error_message"].as_str().unwrap().contains("larger than the limit"), "{large}");
    let own = completed(&i, &start_download(&i, &origin.url("sample.mp4")));
    assert!(own["filesize"].as_u64().unwrap() > 100 << 10, "the limit does not apply to administrators");
}

#[test]
fn the_worker_answers_only_the_gateway() {
    let origin = Origin::start();
    let i = up(&origin);
    let config = fs::read_to_string(i.path("config.toml")).unwrap();
    let worker = config.split_once("[worker]").unwrap().1.split('"').nth(1).unwrap().parse().unwrap();
    let get = |extra: &str| {
        let request = format!("GET /api/downloads HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{extra}\r\n");
        crate::client::send_plain(worker, request.as_bytes()).status
    };
    assert_eq!(get(""), 401);
    assert_eq!(get("Remote-User: admin\r\n"), 401);
    assert_eq!(get("X-Sallyport-Statement: v1.e30.AAAA\r\n"), 401);
    assert_eq!(get(&format!("X-API-Key: {}\r\n", i.key())), 401);
}

#[test]
fn files_of_a_removed_user_do_not_pass_to_a_new_user_with_that_name() {
    let origin = Origin::start();
    let i = up(&origin);
    let add = || {
        i.command(&["user", "add", "ana"]);
        i.new_key(&["--user", "ana"])
    };
    let order = |key: &str, path: &str| {
        let body = json!({ "url": origin.url(path) }).to_string();
        i.send(&Request::new("POST", "/api/download").key(key).json(&body)).json()["id"].as_str().unwrap().to_owned()
    };
    let listed = |key: &str| i.send(&Request::new("GET", "/api/downloads").key(key)).json().as_array().unwrap().clone();
    let ana = add();
    let old = order(&ana, "sample.mp4");
    let stream = stream_path(&completed(&i, &old));
    let opens = |key: &str, target: &str| i.send(&Request::new("GET", target).key(key)).status;
    assert_eq!((listed(&ana).len(), opens(&ana, &stream)), (1, 200));

    i.command(&["user", "remove", "ana"]);
    let ana = add();
    assert_eq!((listed(&ana).len(), opens(&ana, &stream)), (0, 404));
    assert_eq!(i.send(&Request::new("DELETE", &format!("/api/downloads/{old}/remove")).key(&ana)).status, 404);
    let new = order(&ana, "a/sample.mp4");
    let own = stream_path(&completed(&i, &new));
    assert_eq!((listed(&ana).len(), opens(&ana, &own), opens(i.key(), &stream)), (1, 200, 200));
    assert_eq!(listed(i.key()).len(), 2, "an administrator sees both");
}

#[test]
fn a_removed_administrator_no_longer_receives_events() {
    let origin = Origin::start();
    let i = up(&origin);
    i.command(&["user", "add", "eva", "--role", "admin"]);
    let token = i.new_token(&["--user", "eva"]);
    let mut stream = crate::client::connect(i.tls, &i.authority(), rustls::ALL_VERSIONS).unwrap();
    let head = format!("GET /api/v2/events?all=1 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut seen = String::new();
    let mut buffer = [0; 4096];
    while !seen.contains("event: reset") {
        let n = stream.read(&mut buffer).unwrap();
        assert!(n > 0, "{seen}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..n]));
    }
    i.command(&["user", "remove", "eva"]);
    let removed = std::time::Instant::now();
    while matches!(stream.read(&mut buffer), Ok(1..)) {
        assert!(removed.elapsed() < std::time::Duration::from_secs(8), "it continues");
    }
}
