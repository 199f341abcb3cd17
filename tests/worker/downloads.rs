//! Downloads from beginning to end, and downloads that are cancelled, removed or fail.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::{
    media,
    origin::{Origin, STALL_AFTER},
    process::{Setup, Worker, eventually, processes_of},
};

#[test]
fn an_mp4_arrives_byte_for_byte() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    let task = worker.completed("ana", &origin.url("sample.mp4"));
    let source = media::read("sample.mp4");
    let id = task["id"].as_str().unwrap();
    assert_eq!(task["title"], "sample");
    assert_eq!(task["filename"], format!("sample__{id}.mp4"));
    assert_eq!((&task["progress"], &task["filesize"]), (&json!(100.0), &json!(source.len())));
    assert_eq!(task["downloaded_bytes"], task["filesize"]);
    assert!(task["completed_at"].is_string());
    assert_eq!(worker.get("ana", &format!("/api/download/{id}/file")).body, source);
    assert!(!worker.job(id).exists(), "the job's folder is gone");

    let picture = worker.get("ana", task["thumbnail"].as_str().unwrap());
    assert_eq!((picture.status, picture.header("content-type")), (200, Some("image/jpeg")));
    assert!(picture.body.starts_with(b"\xff\xd8\xff"));
}

#[test]
fn hls_and_dash_arrive_complete() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    let ids = ["hls.m3u8", "dash.mpd"].map(|name| worker.download("ana", &origin.url(name)));
    for id in ids {
        worker.wait_for_status(&id, "completed");
        let file = worker.get("ana", &format!("/api/download/{id}/file"));
        assert_eq!(file.header("content-type"), Some("video/mp4"));
        assert_eq!(media::probe(&file.body), ("h264,aac".to_owned(), 6));
    }
}

#[test]
fn audio_only_and_another_container_are_produced() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    let url = origin.url("sample.mp4");
    let orders = [
        (json!({"url": url, "download_type": "audio", "format": "mp3"}), "audio/mpeg", "mp3"),
        (json!({"url": url, "format": "mkv", "quality": "best"}), "video/x-matroska", "h264,aac"),
    ];
    for (order, kind, codecs) in orders {
        let task = worker.post("ana", "/api/download", &order.to_string()).json();
        let id = task["id"].as_str().unwrap();
        worker.wait_for_status(id, "completed");
        let file = worker.get("ana", &format!("/api/download/{id}/file"));
        assert_eq!(file.header("content-type"), Some(kind));
        assert_eq!(media::probe(&file.body), (codecs.to_owned(), 6));
    }
}

#[test]
fn progress_is_visible_while_a_download_runs() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    let id = worker.download("ana", &origin.url("slow/sample.mp4"));
    let task = worker.wait_for(&id, |task| task["downloaded_bytes"].as_u64() > Some(50_000));
    assert_eq!(task["status"], "downloading");
    let progress = task["progress"].as_f64().unwrap();
    assert!(0.0 < progress && progress < 100.0, "{task}");
    assert_eq!(task["filesize"], media::read("sample.mp4").len());
    assert!(task["speed"].as_str().unwrap().ends_with("B/s"), "{task}");
    worker.wait_for_status(&id, "completed");
}

#[test]
fn no_more_downloads_than_configured_run_at_a_time() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    let ids: Vec<_> = (0..3).map(|_| worker.download("ana", &origin.url("stall/sample.mp4"))).collect();
    worker.wait_for_status(&ids[0], "downloading");
    worker.wait_for_status(&ids[1], "downloading");
    assert_eq!(worker.task(&ids[2]).unwrap()["status"], "pending");
    let last = worker.download("ana", &origin.url("sample.mp4"));
    assert_eq!(worker.delete("ana", &format!("/api/downloads/{last}")).status, 200, "before its turn");
    assert_eq!(worker.task(&last).unwrap()["status"], "cancelled");
    assert_eq!(worker.delete("ana", &format!("/api/downloads/{}", ids[0])).status, 200);
    worker.wait_for_status(&ids[2], "downloading");
}

#[test]
fn cancel_ends_the_process_group_and_keeps_the_task() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    let id = worker.download("ana", &origin.url("stall/sample.mp4"));
    worker.wait_for_partial(&id, STALL_AFTER as u64 / 2);
    assert!(!processes_of(&id).is_empty());

    let response = worker.delete("ana", &format!("/api/downloads/{id}"));
    assert_eq!((response.status, response.json()), (200, json!({"message": "Descarga cancelada"})));
    let answered = Instant::now();
    assert_eq!(worker.task(&id).unwrap()["status"], "cancelled");
    eventually("the child's end", || processes_of(&id).is_empty().then_some(()));
    assert!(answered.elapsed() < Duration::from_secs(2), "{:?}", answered.elapsed());
    eventually("an empty job folder", || (!worker.job(&id).exists()).then_some(()));
    assert_eq!(worker.get("ana", &format!("/api/download/{id}/file")).status, 404);
    assert_eq!(worker.delete("ana", &format!("/api/downloads/{id}")).status, 200, "cancelling twice is not an error");
}

#[test]
fn remove_deletes_task_and_files_even_of_a_running_download() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    let running = worker.download("ana", &origin.url("stall/sample.mp4"));
    let task = worker.completed("ana", &origin.url("sample.mp4"));
    let finished = task["id"].as_str().unwrap();
    worker.wait_for_partial(&running, 1);
    assert!(worker.media(finished).exists());
    let cancel = worker.delete("ana", &format!("/api/downloads/{finished}"));
    assert_eq!((cancel.status, &cancel.json()["code"]), (409, &json!("already_ended")));

    for id in [running.as_str(), finished] {
        let response = worker.delete("ana", &format!("/api/downloads/{id}/remove"));
        assert_eq!((response.status, response.json()), (200, json!({"message": "Descarga eliminada"})));
        assert_eq!(worker.task(id), None);
        assert!(!worker.media(id).exists() && !worker.job(id).exists() && processes_of(id).is_empty());
        assert_eq!(worker.delete("ana", &format!("/api/downloads/{id}/remove")).status, 404);
    }
    assert_eq!(worker.get("ana", task["thumbnail"].as_str().unwrap()).status, 404);
}

/// Left to themselves, yt-dlp and ffmpeg would copy the video that such a playlist names.
#[test]
fn a_playlist_instead_of_a_video_cannot_reach_another_users_file() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    let victim = worker.completed("bob", &origin.url("sample.mp4"));
    let video = worker.media(victim["id"].as_str().unwrap()).join("media.mp4");
    assert!(video.exists());
    let list = |what: &str| format!("#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\n{what}\n#EXT-X-ENDLIST\n");
    origin.serve("list.mp4", &list(&format!("file://{}", video.display())));
    origin.serve("segment.ts", &list(&format!("file://{}", video.display())));
    origin.serve("stream.m3u8", &list("segment.ts"));
    origin.serve(
        "master.m3u8",
        "#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"x\",DEFAULT=YES,URI=\"stream.m3u8\"\n\
         #EXT-X-STREAM-INF:BANDWIDTH=100000,RESOLUTION=320x180,CODECS=\"avc1.64000d,mp4a.40.2\",AUDIO=\"a\"\n\
         stream.m3u8\n",
    );
    let orders = [
        json!({"url": origin.url("list.mp4")}),
        json!({"url": origin.url("list.mp4"), "format": "mkv"}),
        json!({"url": origin.url("list.mp4"), "download_type": "audio", "format": "mp3"}),
        json!({"url": origin.url("stream.m3u8")}),
        json!({"url": origin.url("master.m3u8")}),
    ];
    let ids = orders.map(|order| {
        let task = worker.post("ana", "/api/download", &order.to_string()).json();
        task["id"].as_str().unwrap().to_owned()
    });
    for id in ids {
        let task = worker.wait_for_status(&id, "error");
        let message = task["error_message"].as_str().unwrap();
        assert!(!message.is_empty() && !message.contains('/'), "{message}");
        assert_eq!(worker.get("ana", &format!("/api/download/{id}/file")).status, 404);
        eventually("an empty job folder", || (!worker.job(&id).exists() && !worker.media(&id).exists()).then_some(()));
    }
}

#[test]
fn a_file_beyond_the_limit_and_a_missing_one_are_errors() {
    let origin = Origin::start();
    let setup = Setup { extra: "max_filesize = \"100KiB\"", ..Default::default() };
    let worker = Worker::with(&origin, &setup);
    for name in ["sample.mp4", "hls.m3u8", "missing.mp4"] {
        let id = worker.download("ana", &origin.url(name));
        let task = worker.wait_for_status(&id, "error");
        assert!(!task["error_message"].as_str().unwrap().is_empty(), "{task}");
    }
}

#[test]
fn a_download_that_takes_too_long_is_ended() {
    let origin = Origin::start();
    let setup = Setup { extra: "job_timeout = \"2s\"", ..Default::default() };
    let worker = Worker::with(&origin, &setup);
    let id = worker.download("ana", &origin.url("stall/sample.mp4"));
    let task = worker.wait_for_status(&id, "error");
    assert_eq!(task["error_message"], "the download took too long");
    assert!(processes_of(&id).is_empty());
}
