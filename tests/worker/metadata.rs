//! Lookups: information, search and trending.

use std::{collections::BTreeSet, ffi::OsString, fs, io::Write, net::TcpStream, path::Path, thread, time::Duration};

use serde_json::json;

use crate::{
    client::{Request, Response},
    origin::Origin,
    process::{Setup, Worker, eventually, processes_of},
    stand_in::{fake_yt_dlp, python_yt_dlp},
    town::{PUBLIC, Town},
};

#[test]
fn the_information_about_a_page_has_no_media_urls() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    let url = origin.url("dash.mpd");
    let response = worker.post("ana", "/api/info", &json!({"url": url}).to_string());
    let info = response.json();
    assert_eq!((response.status, &info["title"], &info["url"]), (200, &json!("dash"), &json!(url)));
    assert_eq!(info["formats"].as_array().unwrap().len(), 2);
    assert!(info["formats"][0].get("url").is_none());

    let page = "<html><head><title>Page</title></head><body><video src=sample.mp4></video></body></html>";
    origin.serve("page.html", page);
    let embedded = worker.post("ana", "/api/info", &json!({"url": origin.url("page.html")}).to_string()).json();
    assert_eq!((&embedded["title"], embedded["formats"].as_array().unwrap().len()), (&json!("Page (1)"), 1));

    let found = worker.get("ana", &format!("/api/search?q={url}")).json();
    assert_eq!((&found["results"][0]["title"], &found["query"]), (&json!("dash"), &json!(url)));
    let missing = worker.post("ana", "/api/info", &json!({"url": origin.url("missing.mp4")}).to_string());
    assert_eq!((missing.status, &missing.json()["code"]), (422, &json!("upstream_refused")));
}

#[test]
fn an_invalid_search_is_refused() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    for query in ["", "?q=", "?q=%0a", "?q=x&max_results=0", "?q=x&max_results=51", "?q=x&max_results=a", "?q=x&z=1"] {
        assert_eq!(worker.get("ana", &format!("/api/search{query}")).status, 422, "{query}");
    }
    let private = worker.get("ana", "/api/search?q=http://127.0.0.1/x");
    assert_eq!((private.status, &private.json()["code"]), (422, &json!("url_refused")));
}

/// A program that takes some time and prints when it started, so that every run gives a different answer.
const CLOCK: &str = "began=$(date +%s%N); sleep $1; echo \"{\\\"entries\\\": [{\\\"id\\\": \\\"$began\\\"}]}\"";

/// Starts a worker with a program that takes `seconds` and gives a different answer at each run.
fn with_clock(origin: &Origin, dir: &Path, seconds: &str, extra: &'static str) -> Worker {
    let script = CLOCK.replace("$1", seconds);
    Worker::with(origin, &Setup { yt_dlp: fake_yt_dlp(dir, &script), extra, ..Setup::default() })
}

fn search(worker: &Worker, user: &str, text: &str) -> Response {
    worker.get(user, &format!("/api/search?q={text}"))
}

/// Returns the start time that identifies a run.
fn run_of(response: &Response) -> String {
    assert_eq!(response.status, 200, "{response:?}");
    response.json()["results"][0]["id"].as_str().unwrap().to_owned()
}

/// Returns the folders of the running lookups.
fn running(worker: &Worker) -> BTreeSet<OsString> {
    let folders = fs::read_dir(worker.job("")).unwrap().flatten().map(|entry| entry.file_name());
    folders.filter(|name| name.to_string_lossy().starts_with("look-")).collect()
}

#[test]
fn lookups_are_limited_in_number_per_user_and_in_time() {
    let origin = Origin::start();
    let dir = tempfile::tempdir().unwrap();
    let setup =
        Setup { yt_dlp: fake_yt_dlp(dir.path(), "sleep 300"), extra: "info_timeout = \"40s\"", ..Setup::default() };
    let worker = &Worker::with(&origin, &setup);
    let busy = |user: &str| {
        let response = search(worker, user, "another");
        assert_eq!((response.status, &response.json()["code"]), (503, &json!("busy")), "{user}");
        assert!(response.header("retry-after").is_some());
    };
    thread::scope(|scope| {
        let lookup = |user, text| scope.spawn(move || search(worker, user, text));
        let anas = [lookup("ana", "a"), lookup("ana", "b")];
        eventually("two of hers", || (running(worker).len() == 2).then_some(()));
        let third = scope.spawn(|| busy("ana"));
        let bobs = [lookup("bob", "c"), lookup("bob", "d")];
        eventually("two of his", || (running(worker).len() == 4).then_some(()));
        busy("carl");
        third.join().unwrap();
        for response in anas.into_iter().chain(bobs).map(|p| p.join().unwrap()) {
            assert_eq!((response.status, &response.json()["code"]), (504, &json!("upstream_timeout")));
        }
    });
}

#[test]
fn a_repeated_lookup_does_not_contact_the_site_again() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    let url = origin.url("dash.mpd");
    let info = |user: &str, url: &str| worker.post(user, "/api/info", &json!({ "url": url }).to_string());
    let first = info("ana", &url);
    assert_eq!(first.status, 200, "{first:?}");
    let requested = origin.requests().len();
    let second = info("bob", &url.replace("http", "HTTP"));
    assert_eq!((second.status, &second.body), (200, &first.body));
    assert_eq!(search(&worker, "ana", &url).json()["results"][0]["title"], first.json()["title"]);
    assert_eq!(origin.requests().len(), requested, "{:?}", origin.requests());
    assert_eq!(second.header("cache-control"), Some("no-store"), "only the worker caches it");
}

#[test]
fn an_answer_is_cached_only_for_its_own_query_and_for_the_configured_time() {
    let origin = Origin::start();
    let dir = tempfile::tempdir().unwrap();
    let worker = with_clock(&origin, dir.path(), "0", "look_keep_for = \"5s\"");
    let few = |count| run_of(&worker.get("ana", &format!("/api/search?q=a&max_results={count}")));
    let first = few(20);
    assert_eq!([few(20), run_of(&search(&worker, "bob", "%20a"))], [first.clone(), first.clone()]);
    let others = [few(19), run_of(&search(&worker, "ana", "b")), run_of(&worker.get("ana", "/api/trending"))];
    assert!(!others.contains(&first), "{others:?}");
    assert_eq!(run_of(&worker.get("bob", "/api/trending")), others[2]);
    eventually("its expiry", || (few(20) != first).then_some(()));
}

#[test]
fn nothing_is_cached_if_the_configuration_says_so() {
    let origin = Origin::start();
    let dir = tempfile::tempdir().unwrap();
    let worker = with_clock(&origin, dir.path(), "0", "look_keep_for = \"0s\"");
    let runs = [(); 3].map(|()| run_of(&search(&worker, "ana", "a")));
    assert_eq!(BTreeSet::from(runs).len(), 3);
}

#[test]
fn concurrent_identical_lookups_share_one_run() {
    let origin = Origin::start();
    let dir = tempfile::tempdir().unwrap();
    // Even without the cache, requests that arrive during a run share its response.
    let worker = &with_clock(&origin, dir.path(), "2", "look_keep_for = \"0s\"");
    thread::scope(|scope| {
        let users = ["ana", "ana", "ana", "ana", "bob", "carl"];
        let all = users.map(|user| scope.spawn(move || run_of(&search(worker, user, "a"))));
        let runs: BTreeSet<_> = all.into_iter().map(|client| client.join().unwrap()).collect();
        assert_eq!(runs.len(), 1, "{runs:?}");
    });
}

#[test]
fn a_lookup_continues_for_remaining_clients_when_others_disconnect() {
    let origin = Origin::start();
    let dir = tempfile::tempdir().unwrap();
    let worker = &with_clock(&origin, dir.path(), "4", "");
    let fetch = |user: &str| {
        let mut client = TcpStream::connect(worker.address).unwrap();
        let request = Request::new("GET", "/api/search?q=a").signed(user, worker.address);
        client.write_all(request.to_string().as_bytes()).unwrap();
        client
    };
    let first = fetch("ana");
    let run = eventually("the run", || Some(running(worker)).filter(|runs| !runs.is_empty()));
    thread::scope(|scope| {
        let others = ["bob", "carl"].map(|user| scope.spawn(move || run_of(&search(worker, user, "a"))));
        let short = fetch("dora");
        // Until these requests share the run, which nothing shows.
        thread::sleep(Duration::from_millis(500));
        drop((first, short));
        while others.iter().any(|other| !other.is_finished()) {
            assert!(running(worker).is_subset(&run), "another run: {:?}", running(worker));
            thread::sleep(Duration::from_millis(20));
        }
        let [bobs, carls] = others.map(|other| other.join().unwrap());
        assert_eq!(bobs, carls);
    });
}

#[test]
fn a_failure_is_not_cached() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    let info = || worker.post("ana", "/api/info", &json!({"url": origin.url("later.html")}).to_string());
    let missing = info();
    assert_eq!((missing.status, &missing.json()["code"]), (422, &json!("upstream_refused")));
    origin.serve("later.html", "<title>Later</title><video src=sample.mp4></video>");
    let there = info();
    assert_eq!(there.status, 200, "{there:?}");
}

#[test]
fn the_cache_is_limited_and_evicts_the_oldest() {
    let origin = Origin::start();
    let dir = tempfile::tempdir().unwrap();
    // About 110 KiB each, which is within the limit for one response.
    let (yt_dlp, extra) = python_yt_dlp(dir.path(), include_str!("python/large_answers.py"));
    let worker = Worker::with(&origin, &Setup { yt_dlp, extra: extra.leak(), ..Setup::default() });
    let fetch = |n: usize| run_of(&search(&worker, "ana", &n.to_string()));
    // Together more than the limit of 8 MiB.
    let runs: Vec<_> = (0..100).map(fetch).collect();
    assert_eq!(fetch(99), runs[99]);
    assert_eq!(fetch(50), runs[50]);
    assert_ne!(fetch(0), runs[0]);
}

/// A name may resolve to another address by the time of the second lookup.
#[test]
fn the_cache_does_not_bypass_the_check_of_addresses() {
    let Some(town) = Town::enter() else { return };
    let _videos = Origin::at(&format!("{PUBLIC}:80"));
    town.name("videos.example.com", &[&[PUBLIC]]);
    let worker = Worker::start(&Origin::start());
    let info = || worker.post("ana", "/api/info", &json!({"url": "http://videos.example.com/sample.mp4"}).to_string());
    assert_eq!(info().status, 200);
    town.name("videos.example.com", &[&["10.0.0.5"]]);
    let inside = info();
    assert_eq!((inside.status, &inside.json()["code"]), (422, &json!("url_refused")));
    town.name("videos.example.com", &[&[PUBLIC]]);
    assert_eq!(info().status, 200);
}

#[test]
fn a_searchs_results_have_the_api_shape() {
    let origin = Origin::start();
    let dir = tempfile::tempdir().unwrap();
    let listing = json!({"entries": [
        {"id": "a", "title": "A", "duration": 12.0, "view_count": 3, "uploader": "u", "url": "https://e.com/a",
         "thumbnails": [{"url": "https://e.com/small"}, {"url": "https://e.com/large"}], "formats": [{"url": "x"}]},
        null,
        {"id": null, "title": null, "url": null},
    ]});
    let script = format!("echo '{listing}'");
    let worker = Worker::with(&origin, &Setup { yt_dlp: fake_yt_dlp(dir.path(), &script), ..Setup::default() });

    let response = worker.get("ana", "/api/search?q=--exec%3Did%20%22x%22&max_results=2").json();
    let none = json!({"id": null, "title": null, "thumbnail": null, "duration": null, "uploader": null,
        "view_count": null, "url": null});
    let first = json!({"id": "a", "title": "A", "thumbnail": "https://e.com/large", "duration": 12.0, "uploader": "u",
        "view_count": 3, "url": "https://e.com/a"});
    assert_eq!(response, json!({"results": [first, none], "query": "--exec=id \"x\""}));
    assert_eq!(worker.get("ana", "/api/trending").json()["query"], "música popular");
}

#[test]
fn a_search_is_a_single_argument_and_its_child_has_a_minimal_environment() {
    let origin = Origin::start();
    let dir = tempfile::tempdir().unwrap();
    let (yt_dlp, readable) = python_yt_dlp(dir.path(), include_str!("python/shows_arguments.py"));
    let worker = Worker::with(&origin, &Setup { yt_dlp, extra: readable.leak(), ..Setup::default() });
    let response = worker.get("ana", "/api/search?q=--exec%3Did%20%22x%22&max_results=2").json();
    let said = |field: &str| response["results"][0][field].as_str().unwrap().to_owned();
    let first = said("uploader");
    let last = said("id");
    let environment = said("title");
    assert_eq!((&*first, &*last), ("--ignore-config\n--no-plugin-dirs", "--\nytsearch2:--exec=id \"x\""));
    let mut names: Vec<&str> = environment.lines().filter(|name| !["PWD", "LC_CTYPE"].contains(name)).collect();
    names.sort_unstable();
    assert_eq!(names, ["HOME", "LANG", "PATH", "TMPDIR", "XDG_CONFIG_HOME", "http_proxy", "https_proxy"]);
}

#[test]
fn a_lookup_ends_when_nobody_waits_for_it_any_more() {
    let origin = Origin::start();
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup { yt_dlp: fake_yt_dlp(dir.path(), "sleep 300"), ..Setup::default() };
    let worker = Worker::with(&origin, &setup);
    let lookups = format!("{}/look-", worker.job("").display()).replace("//", "/");
    let mut client = TcpStream::connect(worker.address).unwrap();
    let request = Request::new("GET", "/api/search?q=x").signed("ana", worker.address);
    client.write_all(request.to_string().as_bytes()).unwrap();
    eventually("the child", || (!processes_of(&lookups).is_empty()).then_some(()));
    drop(client);
    eventually("its end", || processes_of(&lookups).is_empty().then_some(()));
}
