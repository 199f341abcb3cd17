//! Playlists: one request, a download for each video, and the playlist as their sum.

use serde_json::{Value, json};

use crate::{
    events::{Stream, is},
    media,
    origin::Origin,
    process::{Setup, Worker, eventually},
    retries::requests_for,
};

/// Serves a feed with these links at `name`; returns its URL.
pub(crate) fn feed(origin: &Origin, name: &str, links: &[String]) -> String {
    let item =
        |(link, number): (&String, usize)| format!("<item><title>Video {number}</title><link>{link}</link></item>");
    let items = links.iter().zip(1..).map(item).collect::<Vec<_>>().concat();
    origin.serve(
        name,
        &format!("<?xml version=\"1.0\"?><rss version=\"2.0\"><channel><title>My list</title>{items}</channel></rss>"),
    );
    origin.url(name)
}

/// Requests a playlist and returns its id.
pub(crate) fn order(worker: &Worker, url: &str, more: &Value) -> String {
    let mut order = json!({"url": url, "playlist": true});
    order.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let response = worker.post("ana", "/api/download", &order.to_string());
    assert_eq!(response.status, 200, "{:?}", response.json());
    assert_eq!(response.json()["is_playlist"], true);
    response.json()["id"].as_str().unwrap().to_owned()
}

/// The videos of a playlist, in order.
pub(crate) fn videos_of(worker: &Worker, list: &str) -> Vec<Value> {
    let all = worker.get("ana", "/api/downloads").json();
    let mut videos: Vec<_> =
        all.as_array().unwrap().iter().filter(|task| task["playlist_id"] == list).cloned().collect();
    videos.sort_by_key(|video| video["playlist_index"].as_u64());
    videos
}

pub(crate) fn ended(worker: &Worker, list: &str) -> Value {
    worker.wait_for(list, |task| matches!(task["status"].as_str(), Some("completed" | "error" | "cancelled")))
}

pub(crate) fn wait_for_videos(worker: &Worker, list: &str, count: usize) -> Vec<Value> {
    eventually("the videos of a playlist", || Some(videos_of(worker, list)).filter(|videos| videos.len() == count))
}

pub(crate) fn id(task: &Value) -> &str {
    task["id"].as_str().unwrap()
}

#[test]
fn a_playlist_becomes_a_download_for_each_of_its_videos_and_ends_with_the_last() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    let links = ["a/sample.mp4", "b/sample.mp4", "c/missing.mp4"].map(|path| origin.url(path));
    let list = order(&worker, &feed(&origin, "feed.xml", &links), &json!({"quality": "480p"}));
    let whole = ended(&worker, &list);
    assert_eq!(
        (&whole["status"], &whole["title"], &whole["error_message"]),
        (&json!("completed"), &json!("My list"), &json!("1 of 3 downloads failed"))
    );
    let counts = [&whole["is_playlist"], &whole["playlist_index"], &whole["playlist_total"], &whole["progress"]];
    assert_eq!(counts, [&json!(true), &json!(3), &json!(3), &json!(100.0)]);
    let videos = videos_of(&worker, &list);
    let seen: Vec<_> =
        videos.iter().map(|video| (video["status"].as_str().unwrap(), video["url"].as_str().unwrap())).collect();
    assert_eq!(seen, [("completed", &*links[0]), ("completed", &*links[1]), ("error", &*links[2])]);
    for (video, index) in videos.iter().zip(1..) {
        assert_eq!((&video["playlist_index"], &video["playlist_total"]), (&json!(index), &json!(3)));
        assert_eq!((&video["is_playlist"], &video["quality"]), (&json!(false), &json!("480p")));
    }
    let file = worker.get("ana", &format!("/api/download/{}/file", id(&videos[1])));
    assert!(file.body == media::read("sample.mp4"));
    assert_eq!(worker.get("ana", &format!("/api/download/{list}/file")).status, 404, "a playlist has no file");
    assert_eq!(whole["filesize"], json!(2 * media::read("sample.mp4").len()));
    assert!(!worker.job(&list).exists());
}

#[test]
fn videos_without_pages_of_their_own_are_distinguished_by_their_index() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    origin.serve(
        "page.html",
        "<html><head><title>Two</title></head><body><video src=sample.mp4></video><video src=hls.m3u8></video></body></html>",
    );
    let list = order(&worker, &origin.url("page.html"), &json!({}));
    assert_eq!(ended(&worker, &list)["status"], "completed");
    let videos = videos_of(&worker, &list);
    assert_eq!(videos.len(), 2);
    let requested = |what: &str| origin.requests().iter().filter(|path| path.starts_with(what)).count();
    assert!(requested("sample.mp4") >= 1 && requested("hls.m3u8") >= 1, "{:?}", origin.requests());
    assert!(worker.get("ana", &format!("/api/download/{}/file", id(&videos[0]))).body == media::read("sample.mp4"));
}

#[test]
fn the_episodes_of_a_podcast_are_downloaded_by_their_index_in_its_feed() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    let item = |name: &str| {
        let url = origin.url(&format!("{name}/sample.mp4"));
        format!("<item><title>Episode {name}</title><guid>{name}-id</guid><enclosure url=\"{url}\"/></item>")
    };
    let feed = |names: &[&str]| {
        let items: String = names.iter().map(|name| item(name)).collect();
        format!("<?xml version=\"1.0\"?><rss version=\"2.0\"><channel><title>Podcast</title>{items}</channel></rss>")
    };
    origin.serve("podcast.xml", &feed(&["a", "b", "c"]));
    let url = origin.url("podcast.xml");
    let list = order(&worker, &url, &json!({}));
    let whole = ended(&worker, &list);
    assert_eq!((&whole["status"], &whole["error_message"]), (&json!("completed"), &json!("")));
    for (video, name) in videos_of(&worker, &list).iter().zip(["a", "b", "c"]) {
        assert_eq!((&video["title"], &video["url"]), (&json!(format!("Episode {name}")), &json!(url)));
        assert!(requests_for(&origin, &format!("{name}/sample.mp4")) >= 1);
    }
    // A new first episode appears before the old ones are fetched, so that every index changes.
    origin.serve("podcast.xml", &feed(&["stall", "b"]));
    let running = worker.download("ana", &origin.url("stall/x/sample.mp4"));
    let blocking = worker.download("ana", &origin.url("stall/y/sample.mp4"));
    for id in [&running, &blocking] {
        worker.wait_for_partial(id, 1);
    }
    // The playlist itself has no slot while two of ana's downloads run.
    let list = order(&worker, &url, &json!({}));
    assert_eq!(worker.delete("ana", &format!("/api/downloads/{running}")).status, 200);
    let waiting = wait_for_videos(&worker, &list, 2);
    worker.wait_for(id(&waiting[0]), |task| task["status"] == "downloading");
    origin.serve("podcast.xml", &feed(&["new", "stall", "b"]));
    assert_eq!(worker.delete("ana", &format!("/api/downloads/{blocking}")).status, 200);
    let task = worker.wait_for_status(id(&waiting[1]), "error");
    assert!(task["error_message"].as_str().unwrap().contains("the playlist has changed"), "{task}");
}

/// Extractors for a site whose channels list tabs, which list videos.
const CHANNEL: &str = include_str!("python/channel_plugin.py");

#[test]
fn a_channel_expands_to_the_videos_of_its_tabs() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    plug_in(&worker, CHANNEL);
    let videos = ["a/sample.mp4", "b/sample.mp4", "c/sample.mp4"].map(|path| origin.url(path));
    origin.serve("tabs/videos", &videos[..2].join("\n"));
    origin.serve("tabs/shorts", &videos[2]);
    let tabs = ["tabs/videos", "tabs/gone", "tabs/shorts"].map(|path| origin.url(path));
    origin.serve("channel/one", &tabs.join("\n"));
    let list = order(&worker, &origin.url("channel/one"), &json!({}));
    let whole = ended(&worker, &list);
    assert_eq!(
        (&whole["status"], &whole["title"], &whole["error_message"]),
        (&json!("completed"), &json!("Channel"), &json!("1 of 4 downloads failed"))
    );
    let tasks = videos_of(&worker, &list);
    let seen: Vec<_> = tasks.iter().map(|video| (&video["status"], video["url"].as_str().unwrap())).collect();
    let completed = &json!("completed");
    let error = &json!("error");
    let expected = [(completed, &*videos[0]), (completed, &videos[1]), (error, &tabs[1]), (completed, &videos[2])];
    assert_eq!(seen, expected, "a missing tab is an entry with an error");
}

#[test]
fn a_limit_counts_the_videos_of_all_tabs() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    plug_in(&worker, CHANNEL);
    let videos = ["a/sample.mp4", "b/sample.mp4", "c/sample.mp4"].map(|path| origin.url(path));
    origin.serve("tabs/videos", &videos[..2].join("\n"));
    origin.serve("tabs/shorts", &videos[2..].join("\n"));
    let tabs = ["tabs/videos", "tabs/shorts"].map(|path| origin.url(path));
    origin.serve("channel/one", &tabs.join("\n"));
    for (limit, expected) in [(1, 1), (2, 2), (3, 3), (4, 3)] {
        let list = order(&worker, &origin.url("channel/one"), &json!({ "playlist_limit": limit }));
        assert_eq!(ended(&worker, &list)["playlist_total"], expected);
    }
}

/// Adds extractors to the worker's yt-dlp.
fn plug_in(worker: &Worker, extractors: &str) {
    let folder = worker.dir.path().join("data/yt-dlp/test/yt_dlp_plugins/extractor");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("test.py"), extractors).unwrap();
}

#[test]
fn an_entry_whose_title_is_cut_is_found_by_its_index() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    // More bytes than a stored title may have, but fewer characters than are read.
    let title = "\u{6620}\u{753b}".repeat(200);
    let enclosure = format!("<enclosure url=\"{}\"/>", origin.url("a/sample.mp4"));
    let channel = format!("<title>Podcast</title><item><title>{title}</title><guid>a-id</guid>{enclosure}</item>");
    origin.serve(
        "podcast.xml",
        &format!("<?xml version=\"1.0\"?><rss version=\"2.0\"><channel>{channel}</channel></rss>"),
    );
    let list = order(&worker, &origin.url("podcast.xml"), &json!({}));
    let whole = ended(&worker, &list);
    let videos = videos_of(&worker, &list);
    assert_eq!((videos.len(), &whole["status"]), (1, &json!("completed")), "{videos:?}");
    let stored = videos[0]["title"].as_str().unwrap();
    assert!(title.starts_with(stored) && (900..=1_000).contains(&stored.len()), "{}", stored.len());
}

#[test]
fn a_request_for_a_playlist_that_is_one_video_downloads_that_video() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    let task = ended(&worker, &order(&worker, &origin.url("sample.mp4"), &json!({})));
    assert_eq!((&task["status"], &task["is_playlist"]), (&json!("completed"), &json!(false)));
    assert!(worker.get("ana", &format!("/api/download/{}/file", id(&task))).body == media::read("sample.mp4"));
}

#[test]
fn unless_a_playlist_is_requested_its_first_video_is_downloaded() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    let url = feed(&origin, "feed.xml", &["a/sample.mp4", "b/sample.mp4"].map(|path| origin.url(path)));
    let task = worker.completed("ana", &url);
    assert_eq!((&task["is_playlist"], &task["playlist_id"]), (&json!(false), &Value::Null));
    assert!(!origin.requests().iter().any(|path| path.starts_with("b/")));
}

#[test]
fn a_forbidden_url_in_a_playlist_is_an_entry_with_an_error_and_is_never_requested() {
    let origin = Origin::start();
    let inside = Origin::start();
    let worker = Worker::start(&origin);
    let links = [
        origin.url("sample.mp4"),
        inside.url("sample.mp4"),
        format!("http://localhost:{}/sample.mp4", inside.address.port()),
        "http://169.254.169.254/latest/meta-data".to_owned(),
        "file:///etc/passwd".to_owned(),
        format!("http://{}/api/downloads", worker.address),
        format!("https://example.com/{}", "ñ".repeat(5_000)),
    ];
    let list = order(&worker, &feed(&origin, "feed.xml", &links), &json!({}));
    assert_eq!(ended(&worker, &list)["status"], "completed");
    let videos = videos_of(&worker, &list);
    assert_eq!((videos.len(), &videos[0]["status"]), (links.len(), &json!("completed")));
    for video in &videos[1..] {
        assert_eq!(video["status"], "error", "{video}");
        assert!(!video["error_message"].as_str().unwrap().is_empty() && video["url"].as_str().unwrap().len() <= 2_048);
    }
    assert_eq!(inside.requests(), Vec::<String>::new());
}

#[test]
fn a_playlist_of_a_hundred_thousand_is_refused_and_nothing_of_it_is_fetched() {
    let origin = Origin::start();
    let setup = Setup { extra: "max_playlist = 3", ..Setup::default() };
    let worker = Worker::with(&origin, &setup);
    let links: Vec<_> = (0..100_000).map(|n| origin.url(&format!("{n}/sample.mp4"))).collect();
    let url = feed(&origin, "long.xml", &links);
    let whole = ended(&worker, &order(&worker, &url, &json!({})));
    assert_eq!(whole["status"], "error");
    assert!(whole["error_message"].as_str().unwrap().contains("more than 3"), "{whole}");
    assert!(!origin.requests().iter().any(|path| path.ends_with("sample.mp4")));
}

#[test]
fn the_first_videos_of_a_playlist_that_is_too_long_can_be_requested() {
    let origin = Origin::start();
    let setup = Setup { extra: "max_playlist = 3", ..Setup::default() };
    let worker = Worker::with(&origin, &setup);
    let links: Vec<_> = (0..5).map(|n| origin.url(&format!("{n}/sample.mp4"))).collect();
    let list = order(&worker, &feed(&origin, "feed.xml", &links), &json!({"playlist_limit": 2}));
    assert_eq!(ended(&worker, &list)["status"], "completed");
    let urls: Vec<_> =
        videos_of(&worker, &list).iter().map(|video| video["url"].as_str().unwrap().to_owned()).collect();
    assert_eq!(urls, links[..2]);
}

#[test]
fn an_empty_playlist_is_an_error() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    let list = ended(&worker, &order(&worker, &feed(&origin, "feed.xml", &[]), &json!({})));
    assert_eq!((&list["status"], &list["error_message"]), (&json!("error"), &json!("the playlist has no videos")));
}

#[test]
fn a_limit_that_makes_no_sense_is_refused() {
    let origin = Origin::start();
    let setup = Setup { extra: "max_playlist = 3", ..Setup::default() };
    let worker = Worker::with(&origin, &setup);
    for order in [
        json!({"playlist_limit": 2}),
        json!({"playlist": true, "playlist_limit": 4}),
        json!({"playlist": true, "playlist_limit": 0}),
        json!({"playlist": true, "playlist_limit": -1}),
        json!({"playlist": true, "playlist_limit": "2"}),
        json!({"playlist": "yes"}),
    ] {
        let mut order = order;
        order["url"] = origin.url("sample.mp4").into();
        let response = worker.post("ana", "/api/download", &order.to_string());
        assert_eq!((response.status, &response.json()["code"]), (422, &json!("invalid_value")), "{order}");
    }
    assert_eq!(worker.get("ana", "/api/downloads").json(), json!([]));
}

#[test]
fn followers_get_a_reset_when_a_playlist_expands_and_then_events_for_each_video() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    let mut stream = Stream::open(&worker, "ana", None);
    stream.until(|event| event.name == "reset");
    let links = ["a/sample.mp4", "b/sample.mp4"].map(|path| origin.url(path));
    let list = order(&worker, &feed(&origin, "feed.xml", &links), &json!({}));
    let before = stream.until(|event| event.name == "reset");
    assert!(before.iter().all(|event| event.data.get("id").is_none_or(|id| *id == list)), "{before:?}");
    assert_eq!(videos_of(&worker, &list).len(), 2, "the new list has them");
    let events = stream.until(|event| is("completed")(event) && event.data["id"] == list);
    let tally: Vec<_> = events.iter().filter(|event| event.data["id"] == list).map(|event| &event.data).collect();
    let counts: Vec<_> = tally.iter().filter_map(|data| data["playlist_index"].as_u64()).collect();
    assert_eq!((counts.first(), counts.last(), counts.is_sorted()), (Some(&0), Some(&2), true), "{counts:?}");
    assert_eq!(events.iter().filter(|event| is("completed")(event)).count(), 3);
}

#[test]
fn a_playlist_survives_kills_at_any_moment() {
    let origin = Origin::start();
    let mut worker = Worker::start(&origin);
    let links: Vec<_> = (0..4).map(|n| origin.url(&format!("{n}/sample.mp4"))).collect();
    let list = order(&worker, &feed(&origin, "feed.xml", &links), &json!({}));
    for count in 0..4 {
        eventually("another video", || {
            let done = videos_of(&worker, &list).iter().filter(|video| video["status"] == "completed").count();
            (done >= count).then_some(())
        });
        worker.kill();
        worker.start_again();
    }
    assert_eq!(ended(&worker, &list)["status"], "completed");
    let videos = videos_of(&worker, &list);
    assert_eq!(videos.len(), 4, "each video once: {videos:?}");
    for video in videos {
        assert!(worker.get("ana", &format!("/api/download/{}/file", id(&video))).body == media::read("sample.mp4"));
    }
    assert!(worker.terminate());
    worker.start_again();
    assert_eq!(worker.task(&list).unwrap()["status"], "completed", "a playlist has no file that could be missing");
}

#[test]
fn a_playlist_that_cannot_be_reached_is_retried() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    feed(&origin, "feed.xml", &[origin.url("sample.mp4"), origin.url("a/sample.mp4")]);
    let list = order(&worker, &origin.url("fail2/feed.xml"), &json!({}));
    assert_eq!(ended(&worker, &list)["status"], "completed");
    assert_eq!(videos_of(&worker, &list).len(), 2);
}

#[test]
fn a_playlist_with_more_videos_than_may_wait_is_refused() {
    let origin = Origin::start();
    let setup = Setup { extra: "max_playlist = 500\nconcurrent_downloads = 1", ..Setup::default() };
    let worker = Worker::with(&origin, &setup);
    let links: Vec<_> = (0..300).map(|n| origin.url(&format!("stall/{n}/sample.mp4"))).collect();
    let url = feed(&origin, "feed.xml", &links);
    let first = order(&worker, &url, &json!({}));
    let running = wait_for_videos(&worker, &first, 300);
    let second = order(&worker, &url, &json!({"priority": "high"}));
    assert_eq!(worker.delete("ana", &format!("/api/downloads/{}", id(&running[0]))).status, 200);
    let refused = ended(&worker, &second);
    assert_eq!(refused["status"], "error");
    assert!(refused["error_message"].as_str().unwrap().contains("room"), "{refused}");
    assert!(videos_of(&worker, &second).is_empty());
}
