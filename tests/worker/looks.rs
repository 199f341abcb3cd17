//! Information, search and trending.

use std::{io::Write, net::TcpStream, thread};

use serde_json::json;

use crate::{
    client::Request,
    origin::Origin,
    process::{Setup, Worker, eventually, fake_yt_dlp, processes_of},
};

#[test]
fn a_pages_information_has_no_media_addresses() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    let url = origin.url("dash.mpd");
    let answer = worker.post("ana", "/api/info", &json!({"url": url}).to_string());
    let info = answer.json();
    assert_eq!((answer.status, &info["title"], &info["url"]), (200, &json!("dash"), &json!(url)));
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
fn a_search_that_makes_no_sense_is_refused() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    for query in ["", "?q=", "?q=%0a", "?q=x&max_results=0", "?q=x&max_results=51", "?q=x&max_results=a", "?q=x&z=1"] {
        assert_eq!(worker.get("ana", &format!("/api/search{query}")).status, 422, "{query}");
    }
    let private = worker.get("ana", "/api/search?q=http://127.0.0.1/x");
    assert_eq!((private.status, &private.json()["code"]), (422, &json!("url_refused")));
}

#[test]
fn few_looks_run_at_a_time_and_none_for_long() {
    let origin = Origin::start();
    let dir = tempfile::tempdir().unwrap();
    let setup =
        Setup { yt_dlp: fake_yt_dlp(dir.path(), "sleep 300"), extra: "info_timeout = \"5s\"", ..Setup::default() };
    let worker = Worker::with(&origin, &setup);
    let looks = format!("{}/look-", worker.job("").display()).replace("//", "/");
    let look = || worker.get("ana", "/api/search?q=x");
    thread::scope(|scope| {
        let patient = [scope.spawn(look), scope.spawn(look)];
        eventually("two children", || (processes_of(&looks).len() >= 4).then_some(()));
        let busy = look();
        assert_eq!((busy.status, &busy.json()["code"]), (503, &json!("busy")));
        for answer in patient.map(|p| p.join().unwrap()) {
            assert_eq!((answer.status, &answer.json()["code"]), (504, &json!("upstream_timeout")));
        }
    });
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

    let answer = worker.get("ana", "/api/search?q=--exec%3Did%20%22x%22&max_results=2").json();
    let none = json!({"id": null, "title": null, "thumbnail": null, "duration": null, "uploader": null,
        "view_count": null, "url": null});
    let first = json!({"id": "a", "title": "A", "thumbnail": "https://e.com/large", "duration": 12.0, "uploader": "u",
        "view_count": 3, "url": "https://e.com/a"});
    assert_eq!(answer, json!({"results": [first, none], "query": "--exec=id \"x\""}));
    assert_eq!(worker.get("ana", "/api/trending").json()["query"], "música popular");
}

#[test]
fn a_search_is_one_argument_and_its_child_has_an_environment_of_its_own() {
    let origin = Origin::start();
    let dir = tempfile::tempdir().unwrap();
    let told = "import json, os, sys; told = chr(10).join(sys.argv[1:]); env = chr(10).join(os.environ); \
                print(json.dumps({\"entries\": [{\"id\": told, \"title\": env}]}))";
    let script = format!("exec python3 -c '{told}' \"$@\"");
    let worker = Worker::with(&origin, &Setup { yt_dlp: fake_yt_dlp(dir.path(), &script), ..Setup::default() });
    let answer = worker.get("ana", "/api/search?q=--exec%3Did%20%22x%22&max_results=2").json();
    let said = |field: &str| answer["results"][0][field].as_str().unwrap().to_owned();
    let (arguments, environment) = (said("id"), said("title"));
    assert!(arguments.ends_with("--\nytsearch2:--exec=id \"x\""), "{arguments}");
    assert!(arguments.contains("--ignore-config\n--no-plugin-dirs\n"), "{arguments}");
    let mut names: Vec<&str> = environment.lines().filter(|name| !["PWD", "LC_CTYPE"].contains(name)).collect();
    names.sort_unstable();
    assert_eq!(names, ["HOME", "LANG", "PATH", "TMPDIR", "XDG_CONFIG_HOME", "http_proxy", "https_proxy"]);
}

#[test]
fn a_look_ends_when_nobody_waits_for_it_any_more() {
    let origin = Origin::start();
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup { yt_dlp: fake_yt_dlp(dir.path(), "sleep 300"), ..Setup::default() };
    let worker = Worker::with(&origin, &setup);
    let looks = format!("{}/look-", worker.job("").display()).replace("//", "/");
    let mut client = TcpStream::connect(worker.address).unwrap();
    let request = Request::new("GET", "/api/search?q=x").signed("ana", worker.address);
    client.write_all(request.to_string().as_bytes()).unwrap();
    eventually("the child", || (!processes_of(&looks).is_empty()).then_some(()));
    drop(client);
    eventually("its end", || processes_of(&looks).is_empty().then_some(()));
}
