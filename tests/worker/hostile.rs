//! Malicious sources and failing programs: each job ends with an accurate error or a complete file, and leaves nothing behind.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    media,
    origin::Origin,
    process::{Setup, Worker, eventually, processes_of},
    stand_in::fake_yt_dlp,
};

/// Returns the task's error once nothing is left of its job.
fn error(worker: &Worker, order: &Value) -> String {
    let response = worker.post("ana", "/api/download", &order.to_string());
    assert_eq!(response.status, 200, "{:?}", response.json());
    let id = response.json()["id"].as_str().unwrap().to_owned();
    let task = worker.wait_for_status(&id, "error");
    eventually("a clean end", || (processes_of(&id).is_empty() && !worker.job(&id).exists()).then_some(()));
    assert!(!worker.media(&id).exists());
    assert_eq!(worker.get("ana", &format!("/api/download/{id}/file")).status, 404);
    task["error_message"].as_str().unwrap().to_owned()
}

fn error_of(worker: &Worker, url: &str) -> String {
    error(worker, &json!({ "url": url }))
}

#[test]
fn a_file_beyond_the_limit_is_cut_off_whatever_its_announced_length_is() {
    let origin = Origin::start();
    let setup = Setup { extra: "max_filesize = \"4MiB\"\nretries = 0", ..Setup::default() };
    let worker = Worker::with(&origin, &setup);
    // The source announces 10 GiB, so nothing is downloaded.
    assert!(error_of(&worker, &origin.url("huge/video.mp4")).contains("larger than the limit"));
    assert!(origin.sent("huge/video.mp4") < 64 << 20, "{}", origin.sent("huge/video.mp4"));
    // Without a length, the kernel enforces the limit; only what is in flight is sent beyond it.
    assert_eq!(error_of(&worker, &origin.url("endless/video.mp4")), "the file is larger than the limit");
    let sent = origin.sent("endless/video.mp4");
    assert!((4 << 20..64 << 20).contains(&sent), "{sent}");
}

#[test]
fn a_response_that_is_longer_or_shorter_than_announced_does_not_become_a_wrong_file() {
    let origin = Origin::start();
    let worker = Worker::with(&origin, &Setup { extra: "retries = 0", ..Setup::default() });
    // Anything beyond the announced length does not belong to this response, and a shorter one is incomplete.
    let half = worker.download("ana", &origin.url("more/sample.mp4"));
    let task = worker.wait_for(&half, |task| task["status"] == "completed" || task["status"] == "error");
    if task["status"] == "completed" {
        let file = worker.get("ana", &format!("/api/download/{half}/file")).body;
        assert_eq!(file, media::read("sample.mp4")[..media::read("sample.mp4").len() / 2]);
    }
    let message = error_of(&worker, &origin.url("less/sample.mp4"));
    assert!(message.contains("more expected"), "{message}");
}

#[test]
fn anything_but_media_is_refused() {
    let origin = Origin::start();
    let worker = Worker::with(&origin, &Setup { extra: "retries = 0", ..Setup::default() });
    origin.serve("empty.mp4", "");
    origin.serve("page.mp4", "<!DOCTYPE html><html><title>Sign in</title><p>No video here.</html>");
    origin.serve("login.mp4", "\n\n <HTML><script>location='/login'</script></HTML>");
    origin.serve("text.mp4", "Not found");
    for name in ["empty.mp4", "page.mp4", "login.mp4", "text.mp4"] {
        let message = error_of(&worker, &origin.url(name));
        assert!(!message.is_empty() && !message.contains("this server"), "{name}: {message}");
    }
}

#[test]
fn a_dash_manifest_cannot_reach_local_files() {
    let origin = Origin::start();
    let worker = Worker::with(&origin, &Setup { extra: "retries = 0", ..Setup::default() });
    let victim = worker.completed("bob", &origin.url("sample.mp4"));
    let video = worker.media(victim["id"].as_str().unwrap()).join("media.mp4");
    let database = worker.dir.path().join("data/worker.db");
    let itself = format!("http://{}/api/downloads", worker.address);
    let places = [
        format!("file://{}", video.display()),
        format!("file://{}", database.display()),
        itself,
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        video.display().to_string(),
    ];
    for (number, place) in places.iter().enumerate() {
        let name = format!("inside{number}.mpd");
        origin.serve(
            &name,
            &format!(
                "<?xml version=\"1.0\"?><MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" type=\"static\" \
             mediaPresentationDuration=\"PT6S\"><Period><AdaptationSet mimeType=\"video/mp4\"><Representation id=\"1\" \
             bandwidth=\"100000\" width=\"320\" height=\"180\" codecs=\"avc1.64000d\"><BaseURL>{place}</BaseURL>\
             </Representation></AdaptationSet></Period></MPD>"
            ),
        );
        let message = error_of(&worker, &origin.url(&name));
        assert!(!message.is_empty() && !message.contains("data/"), "{place}: {message}");
    }
    assert!(!worker.log().contains("request rejected"), "the worker itself was not contacted either: {}", worker.log());
}

#[test]
fn a_downloader_that_crashes_or_prints_garbage_leads_to_an_accurate_error() {
    let origin = Origin::start();
    let scripts = [
        "kill -SEGV $$",
        "kill -KILL $$",
        "exit 0",
        "head -c 300000 /dev/urandom; head -c 300000 /dev/urandom >&2; exit 0",
        "for i in 1 2 3; do printf 'P {\\nB []\\nA {\"filepath\":7}\\nB {\"title\":{}}\\nA {\"filepath\":\"/etc/passwd\"}\\n'; done",
        "printf 'P {\"downloaded_bytes\":1e999,\"total_bytes\":-5,\"eta\":-1}\\n'; exit 3",
        "head -c 2000000 /dev/zero; exit 1",
        "printf 'A {\"filepath\":\"out/missing.mp4\"}\\n'",
    ];
    for script in scripts {
        let dir = tempfile::tempdir().unwrap();
        let yt_dlp = fake_yt_dlp(dir.path(), script);
        let worker = Worker::with(&origin, &Setup { yt_dlp, extra: "retries = 0", ..Setup::default() });
        let message = error_of(&worker, &origin.url("sample.mp4"));
        assert!(
            !message.is_empty() && !message.contains('/') && !message.contains("this server"),
            "{script}: {message}"
        );
        assert_eq!(worker.get("ana", "/api/downloads").status, 200);
    }
}

/// Creates an ffmpeg that answers queries about itself like the real one and otherwise runs `script`.
fn fake_ffmpeg(dir: &Path, script: &str) -> PathBuf {
    let path = dir.join("ffmpeg");
    let queries = "case \" $* \" in *' -version '*|*' -bsfs '*|*' -protocols '*) exec /usr/bin/ffmpeg \"$@\";; esac";
    fs::write(&path, format!("#!/bin/sh\n{queries}\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn an_ffmpeg_that_crashes_hangs_or_prints_garbage_leads_to_an_accurate_error() {
    let origin = Origin::start();
    for (script, expected) in [
        ("kill -SEGV $$", ""),
        ("head -c 300000 /dev/urandom; head -c 300000 /dev/urandom >&2; exit 0", ""),
        ("for last in \"$@\"; do :; done; head -c 100000 /dev/urandom >\"${last#file:}\"; exit 1", ""),
        ("sleep 300", "the download stalled"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let ffmpeg = fake_ffmpeg(dir.path(), script);
        let extra = format!("ffmpeg = \"{}\"\nretries = 0\nstall_timeout = \"8s\"", ffmpeg.display()).leak();
        let worker = Worker::with(&origin, &Setup { extra, ..Setup::default() });
        let message = error_of(&worker, &origin.url("dash.mpd"));
        assert!(
            !message.is_empty() && !message.contains('/') && !message.contains("this server"),
            "{script}: {message}"
        );
        assert!(message.contains(expected), "{script}: {message}");
        if expected.is_empty() {
            // A file that needs no ffmpeg is complete but has no thumbnail.
            let task = worker.completed("ana", &origin.url("sample.mp4"));
            assert_eq!(task["thumbnail"], "", "{script}");
        }
    }
}

/// Cancels a task and checks that everything ends within two seconds of the response.
fn cancel(worker: &Worker, id: &str) {
    let response = worker.delete("ana", &format!("/api/downloads/{id}"));
    let answered = Instant::now();
    assert_eq!(response.status, 200, "{:?}", response.json());
    eventually("the end of its processes", || processes_of(id).is_empty().then_some(()));
    assert!(answered.elapsed() < Duration::from_secs(2), "{:?}", answered.elapsed());
    assert_eq!(worker.task(id).unwrap()["status"], "cancelled");
    eventually("an empty job folder", || (!worker.job(id).exists()).then_some(()));
    assert!(!worker.media(id).exists());
}

/// One video needs ffmpeg to merge two streams, the other to make a thumbnail; ffmpeg ignores signals in both.
#[test]
fn a_cancel_ends_an_ffmpeg_that_ignores_signals_within_two_seconds() {
    let origin = Origin::start();
    let dir = tempfile::tempdir().unwrap();
    let ffmpeg = fake_ffmpeg(dir.path(), "trap '' TERM INT HUP; while :; do sleep 1; done");
    let extra = format!("ffmpeg = \"{}\"\nretries = 0", ffmpeg.display()).leak();
    let worker = Worker::with(&origin, &Setup { extra, ..Setup::default() });
    for name in ["dash.mpd", "sample.mp4"] {
        let id = worker.download("ana", &origin.url(name));
        let works = |pid: &u32| {
            let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            command.contains("/ffmpeg") && !command.contains("confine") && !command.contains("yt-dlp")
        };
        eventually("ffmpeg", || processes_of(&id).iter().any(works).then_some(()));
        cancel(&worker, &id);
    }
}
