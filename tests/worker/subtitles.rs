//! Subtitles: fetched with a video, validated, and served as WebVTT. Their content is untrusted.

use serde_json::{Value, json};

use crate::{
    client::Request,
    media,
    origin::Origin,
    process::{Setup, Worker, eventually},
    stand_in::fake_yt_dlp,
};

const ENGLISH: &str =
    "WEBVTT\n\nSTYLE\n::cue { color: red }\n\n00:01.000 --> 00:02.000\nHello\n\n00:03.000 --> 00:04.000\nBye\n";
const ENGLISH_KEPT: &str = "WEBVTT\n\n00:00:01.000 --> 00:00:02.000\nHello\n\n00:00:03.000 --> 00:00:04.000\nBye\n";
const SPANISH: &str = "1\n00:00:01,000 --> 00:00:02,000\n¡Hola!\n\n";

/// Serves a page whose video has these tracks, by language and file.
fn page(origin: &Origin, tracks: &[(&str, &str)]) -> String {
    let track = |(tag, file): &(&str, &str)| format!("<track kind=subtitles srclang=\"{tag}\" src=\"{file}\">");
    let tracks = tracks.iter().map(track).collect::<Vec<_>>().concat();
    origin.serve("page.html", &format!("<html><body><video src=sample.mp4>{tracks}</video></body></html>"));
    origin.url("page.html")
}

fn completed(worker: &Worker, order: &Value) -> Value {
    let response = worker.post("ana", "/api/download", &order.to_string());
    assert_eq!(response.status, 200, "{:?}", response.json());
    worker.wait_for_status(response.json()["id"].as_str().unwrap(), "completed")
}

fn subtitles(task: &Value) -> String {
    format!("/api/v2/downloads/{}/subtitles", task["id"].as_str().unwrap())
}

#[test]
fn subtitles_in_the_requested_languages_are_kept_and_served_as_webvtt() {
    let origin = Origin::start();
    let mut worker = Worker::start(&origin);
    origin.serve("en.vtt", ENGLISH);
    origin.serve("es.srt", SPANISH);
    let url = page(&origin, &[("en", "en.vtt"), ("es-419", "es.srt"), ("fr", "en.vtt"), ("de", "missing.vtt")]);
    let order = json!({"url": url, "subtitles": ["de", "EN", "es-419", "tlh"]});
    let task = completed(&worker, &order);
    assert_eq!(task["subtitles"], json!(["EN", "es-419"]), "a missing language is no error");
    assert!(
        worker.get("ana", &format!("/api/download/{}/file", task["id"].as_str().unwrap())).body
            == media::read("sample.mp4")
    );
    let base = subtitles(&task);
    let list = worker.get("ana", &base);
    assert_eq!(
        list.json(),
        json!([
            {"language": "EN", "url": format!("{base}/EN.vtt")},
            {"language": "es-419", "url": format!("{base}/es-419.vtt")},
        ])
    );

    assert!(worker.terminate());
    worker.start_again();
    let english = worker.get("ana", &format!("{base}/en.vtt"));
    assert_eq!((english.status, english.header("content-type")), (200, Some("text/vtt; charset=utf-8")));
    assert_eq!(String::from_utf8(english.body.clone()).unwrap(), ENGLISH_KEPT);
    assert_eq!(english.header("x-content-type-options"), Some("nosniff"));
    let spanish = String::from_utf8(worker.get("ana", &format!("{base}/es-419.vtt")).body).unwrap();
    assert_eq!(spanish, "WEBVTT\n\n00:00:01.000 --> 00:00:02.000\n¡Hola!\n");
}

#[test]
fn en_finds_en_us_and_missing_languages_are_reported() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    origin.serve("en.vtt", ENGLISH);
    let url = page(&origin, &[("en-US", "en.vtt"), ("pt-BR", "a/en.vtt"), ("pt", "en.vtt"), ("de-AT", "missing.vtt")]);
    let task = completed(&worker, &json!({"url": url, "subtitles": ["en", "pt", "de", "tlh"]}));
    assert_eq!(task["subtitles"], json!(["en-US", "pt"]), "an exact match comes first, and each request gets one");
    assert_eq!(task["subtitles_missing"], json!(["de", "tlh"]));
    for tag in ["en-US", "en", "EN-us"] {
        assert_eq!(worker.get("ana", &format!("{}/{tag}.vtt", subtitles(&task))).status, 200, "{tag}");
    }
    assert_eq!(worker.get("ana", &format!("{}/pt-BR.vtt", subtitles(&task))).status, 404);
}

#[test]
fn subtitles_are_served_like_files_and_only_to_their_owner() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    origin.serve("en.vtt", ENGLISH);
    let order = json!({"url": page(&origin, &[("en", "en.vtt")]), "subtitles": ["en"]});
    let task = completed(&worker, &order);
    let base = subtitles(&task);
    let english = worker.get("ana", &format!("{base}/en.vtt"));
    let fetch = |name: &str, value: &str| {
        Request::new("GET", &format!("{base}/en.vtt"))
            .header(name, value)
            .signed("ana", worker.address)
            .send(worker.address)
    };
    let part = fetch("range", "bytes=0-5");
    assert_eq!((part.status, &*part.body), (206, &b"WEBVTT"[..]));
    assert_eq!(fetch("if-none-match", english.header("etag").unwrap()).status, 304);

    for other in
        ["fr.vtt", "de.vtt", "en", "en.srt", ".vtt", "..%2fmedia.vtt", "subtitles.en.vtt", "%00.vtt", "en.vtt.vtt"]
    {
        assert_eq!(worker.get("ana", &format!("{base}/{other}")).status, 404, "{other}");
    }
    for target in [base.clone(), format!("{base}/en.vtt")] {
        let unknown = target.replace(task["id"].as_str().unwrap(), "00000000-0000-4000-8000-000000000000");
        let others = worker.get("bob", &target);
        let nobodys = worker.get("bob", &unknown);
        assert_eq!((others.status, nobodys.status), (404, 404));
        assert_eq!(others.body, nobodys.body);
    }
    let id = task["id"].as_str().unwrap();
    assert_eq!(worker.delete("ana", &format!("/api/downloads/{id}/remove")).status, 200);
    assert!(!worker.media(id).exists());
}

#[test]
fn without_requested_subtitles_none_are_fetched() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    let url = page(&origin, &[("en", "en.vtt")]);
    for order in [json!({"url": url}), json!({"url": url, "subtitles": [], "automatic_subtitles": true})] {
        assert_eq!(completed(&worker, &order)["subtitles"], json!([]));
    }
    assert!(!origin.requests().iter().any(|path| path.contains("vtt")), "{:?}", origin.requests());
}

#[test]
fn other_content_that_a_site_sends_as_subtitles_is_never_served() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    let victim = worker.completed("bob", &origin.url("sample.mp4"));
    let video = worker.media(victim["id"].as_str().unwrap()).join("media.mp4");
    origin.serve("page.vtt", "<html><script>alert(1)</script></html>");
    origin.serve("list.srt", &format!("#EXTM3U\n#EXTINF:6,\nfile://{}\n#EXT-X-ENDLIST\n", video.display()));
    origin.serve("list.ass", &format!("ffconcat version 1.0\nfile {}\n", video.display()));
    origin.serve("large.vtt", &format!("{ENGLISH}\n{}", "x".repeat(5 << 20)));
    origin.serve("en.vtt", ENGLISH);
    let tracks = [
        ("de", "page.vtt"),
        ("es", "list.srt"),
        ("fr", "list.ass"),
        ("it", "large.vtt"),
        ("../../x", "en.vtt"),
        ("en", "en.vtt"),
    ];
    let order = json!({"url": page(&origin, &tracks), "subtitles": ["de", "es", "fr", "it", "en", "x"]});
    let task = completed(&worker, &order);
    assert_eq!(task["subtitles"], json!(["en"]));
    let folder = worker.media(task["id"].as_str().unwrap());
    let mut names: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["media.mp4", "subtitles.en.vtt", "thumbnail.jpg"]);
}

/// A stand-in for a yt-dlp that a page has taken over: it leaves files that look like validated subtitles.
#[test]
fn files_that_a_child_leaves_among_the_subtitles_are_not_published() {
    let origin = Origin::start();
    let dir = tempfile::tempdir().unwrap();
    let sample = dir.path().join("sample.mp4");
    std::fs::write(&sample, media::read("sample.mp4")).unwrap();
    let script = format!(
        "case \"$*\" in *--skip-download*) exit 0;; esac\n\
         cp {sample} $HOME/out/media.mp4\n\
         echo '<script>' > $HOME/ready/subtitles.en.vtt\n\
         mkdir $HOME/ready/subtitles.fr.vtt; echo x > $HOME/subtitles\n\
         echo \"A {{\\\"filepath\\\":\\\"$HOME/out/media.mp4\\\"}}\"",
        sample = sample.display()
    );
    let readable = format!("readable = [\"{}\"]", dir.path().display()).leak();
    let yt_dlp = fake_yt_dlp(dir.path(), &script);
    let worker = Worker::with(&origin, &Setup { yt_dlp, extra: readable, ..Setup::default() });
    for wanted in [json!(["en", "fr"]), json!([])] {
        let task = completed(&worker, &json!({"url": origin.url("x"), "subtitles": wanted}));
        assert_eq!(task["subtitles"], json!([]));
        assert_eq!(worker.get("ana", &format!("{}/en.vtt", subtitles(&task))).status, 404);
    }
}

#[test]
fn a_download_that_waits_for_slow_subtitles_can_be_cancelled() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    let url = page(&origin, &[("en", "trickle/en.vtt")]);
    let task = worker.post("ana", "/api/download", &json!({"url": url, "subtitles": ["en"]}).to_string()).json();
    let id = task["id"].as_str().unwrap();
    eventually("the subtitles", || origin.requests().iter().any(|path| path.contains("trickle")).then_some(()));
    assert_eq!(worker.task(id).unwrap()["status"], "processing");
    assert_eq!(worker.delete("ana", &format!("/api/downloads/{id}")).status, 200);
    eventually("an empty job folder", || (!worker.job(id).exists() && !worker.media(id).exists()).then_some(()));
}

#[test]
fn languages_are_tags_and_never_patterns() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    for subtitles in [
        json!("en"),
        json!([".*"]),
        json!(["all"]),
        json!(["-en"]),
        json!(["en,es"]),
        json!([""]),
        json!([1]),
        json!(["a", "b", "c", "d", "e", "f", "g", "h", "i"]),
    ] {
        let order = json!({"url": origin.url("sample.mp4"), "subtitles": subtitles});
        let response = worker.post("ana", "/api/download", &order.to_string());
        assert_eq!((response.status, &response.json()["code"]), (422, &json!("invalid_value")), "{order}");
    }
    assert_eq!(worker.get("ana", "/api/downloads").body, b"[]");
}
