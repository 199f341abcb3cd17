//! Recovery from kills at any moment: tasks survive, downloads resume, finished files are complete.

use crate::{
    media,
    origin::{Origin, STALL_AFTER},
    process::{Setup, Worker, eventually, processes_of, signal},
    stand_in::fake_yt_dlp,
};

const HALF: u64 = STALL_AFTER as u64 / 2;

#[test]
fn a_killed_workers_child_dies_with_it_and_the_download_resumes() {
    let origin = Origin::start();
    let mut worker = Worker::start(&origin);
    let finished = worker.completed("ana", &origin.url("sample.mp4"));
    let id = worker.download("ana", &origin.url("stall/sample.mp4"));
    worker.wait_for_partial(&id, HALF);
    worker.kill();
    eventually("the child's end", || processes_of(&id).is_empty().then_some(()));

    worker.start_again();
    worker.wait_for_status(&id, "completed");
    let source = media::read("sample.mp4");
    assert_eq!(worker.get("ana", &format!("/api/download/{id}/file")).body, source);
    let resumed = origin
        .requests()
        .iter()
        .any(|r| r.strip_prefix("stall/sample.mp4 from ").is_some_and(|at| at.parse::<u64>().unwrap() >= HALF));
    assert!(resumed, "{:?}", origin.requests());
    assert_eq!(worker.task(finished["id"].as_str().unwrap()), Some(finished.clone()));
    let stream = format!("/api/stream/{}", finished["filename"].as_str().unwrap());
    assert_eq!(worker.get("ana", &stream).body, source);
}

#[test]
fn a_killed_workers_grandchildren_die_with_it() {
    let origin = Origin::start();
    let dir = tempfile::tempdir().unwrap();
    let yt_dlp = fake_yt_dlp(dir.path(), "trap '' TERM; sleep 300 & sleep 300");
    let mut worker = Worker::with(&origin, &Setup { yt_dlp, ..Setup::default() });
    let id = worker.download("ana", &origin.url("sample.mp4"));
    // The reaper, the script and its two children.
    eventually("the children", || (processes_of(&id).len() == 4).then_some(()));
    worker.kill();
    eventually("their end", || processes_of(&id).is_empty().then_some(()));
}

#[test]
fn a_worker_that_is_stopped_stops_its_children_and_resumes_later() {
    let origin = Origin::start();
    let mut worker = Worker::start(&origin);
    let id = worker.download("ana", &origin.url("stall/sample.mp4"));
    worker.wait_for_partial(&id, HALF);
    assert!(worker.terminate(), "the worker exits successfully");
    assert!(processes_of(&id).is_empty());
    worker.start_again();
    worker.wait_for_status(&id, "completed");
    assert_eq!(worker.get("ana", &format!("/api/download/{id}/file")).body, media::read("sample.mp4"));
}

#[test]
fn a_killed_downloader_is_an_error_and_its_partial_file_is_never_served() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    let id = worker.download("ana", &origin.url("stall/sample.mp4"));
    worker.wait_for_partial(&id, HALF);
    for pid in processes_of(&id) {
        signal("-KILL", pid);
    }
    let task = worker.wait_for_status(&id, "error");
    assert_eq!(task["error_message"], "the downloader was stopped before it finished");
    assert_eq!(task["filename"], "");
    assert_eq!(worker.get("ana", &format!("/api/download/{id}/file")).status, 404);
    assert_eq!(worker.get("ana", &format!("/api/stream/sample__{id}.mp4")).status, 404);
    eventually("an empty job folder", || (!worker.job(&id).exists()).then_some(()));
}

#[test]
fn a_file_that_was_complete_but_not_fixed_up_at_a_kill_is_fixed_up_afterwards() {
    let origin = Origin::start();
    let mut worker = Worker::start(&origin);
    let id = worker.download("ana", &origin.url("slow/hls.m3u8"));
    worker.kill();
    // The state between yt-dlp's last segment and its fix-up: a transport stream under another name.
    let names = std::fs::read_dir(media::folder()).unwrap().flatten().map(|e| e.file_name().into_string().unwrap());
    let mut segments: Vec<String> = names.filter(|n| n.contains(".ts")).collect();
    segments.sort();
    let tmp = worker.job(&id).join("work/tmp");
    std::fs::create_dir_all(&tmp).unwrap();
    std::fs::write(tmp.join("media.mp4"), segments.iter().flat_map(|n| media::read(n)).collect::<Vec<u8>>()).unwrap();
    worker.start_again();
    worker.wait_for_status(&id, "completed");
    let file = worker.get("ana", &format!("/api/download/{id}/file"));
    assert_eq!(media::probe(&file.body), ("h264,aac".to_owned(), 6));
    assert_eq!(&file.body[4..8], b"ftyp", "the file is MP4, not a transport stream");
}

#[test]
fn a_worker_that_is_killed_repeatedly_loses_nothing() {
    let origin = Origin::start();
    let mut worker = Worker::start(&origin);
    let names = ["sample.mp4", "hls.m3u8", "dash.mpd"];
    let ids = names.map(|name| worker.download("ana", &origin.url(name)));
    for pause in [150, 400, 700] {
        // The moments of the kills are the subject.
        std::thread::sleep(std::time::Duration::from_millis(pause));
        worker.kill();
        worker.start_again();
    }
    for id in &ids {
        worker.wait_for_status(id, "completed");
        let file = worker.get("ana", &format!("/api/download/{id}/file"));
        assert_eq!(media::probe(&file.body), ("h264,aac".to_owned(), 6));
    }
    assert_eq!(worker.get("ana", &format!("/api/download/{}/file", ids[0])).body, media::read("sample.mp4"));
}
