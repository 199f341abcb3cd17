//! Transient failures are retried later and resume where they were; permanent ones are not retried.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::{
    media,
    origin::{Origin, STALL_AFTER},
    process::{Setup, Worker, eventually, processes_of},
    stand_in::fake_yt_dlp,
};

pub(crate) fn requests_for(origin: &Origin, path: &str) -> usize {
    origin.requests().iter().filter(|request| request.split(' ').next() == Some(path)).count()
}

#[test]
fn a_download_from_a_site_that_fails_a_few_times_is_retried() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    let id = worker.download("ana", &origin.url("fail2/sample.mp4"));
    let waiting = worker.wait_for(&id, |task| task["status"] == "pending" && task["error_message"] != "");
    let message = waiting["error_message"].as_str().unwrap();
    assert!(message.starts_with("waiting to retry (2 of 5) at 2") && message.contains("503"), "{waiting}");
    assert_eq!(waiting["completed_at"], json!(null));
    let task = worker.wait_for_status(&id, "completed");
    assert_eq!(task["error_message"], "");
    assert_eq!(worker.get("ana", &format!("/api/download/{id}/file")).body, media::read("sample.mp4"));
}

#[test]
fn a_download_from_a_site_that_always_fails_ends_after_the_configured_retries() {
    let origin = Origin::start();
    let tries = |retries: u32| {
        let path = format!("fail99{retries}/sample.mp4");
        let extra = if retries == 0 { "retries = 0" } else { "retries = 2" };
        let worker = Worker::with(&origin, &Setup { extra, ..Setup::default() });
        let id = worker.download("ana", &origin.url(&path));
        let task = worker.wait_for_status(&id, "error");
        assert!(task["error_message"].as_str().unwrap().contains("503"), "{task}");
        assert!(task["completed_at"].is_string());
        eventually("an empty job folder", || (!worker.job(&id).exists()).then_some(()));
        requests_for(&origin, &path)
    };
    let once = tries(0);
    assert_eq!(tries(2), 3 * once);
}

#[test]
fn missing_and_forbidden_sources_fail_at_once() {
    let origin = Origin::start();
    let setup = Setup { extra: "max_filesize = \"100KiB\"", ..Setup::default() };
    let worker = Worker::with(&origin, &setup);
    for path in ["missing.mp4", "sample.mp4", "hls.m3u8"] {
        let id = worker.download("ana", &origin.url(path));
        worker.wait_for_status(&id, "error");
    }
    origin.redirect("inside.mp4", "http://127.0.0.1:1/x.mp4");
    let id = worker.download("ana", &origin.url("inside.mp4"));
    worker.wait_for_status(&id, "error");
    assert!(!worker.log().contains("waiting to retry"), "{}", worker.log());
}

#[test]
fn an_answer_that_is_cut_off_repeatedly_is_completed_byte_for_byte() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    let id = worker.download("ana", &origin.url("cut/sample.mp4"));
    worker.wait_for_status(&id, "completed");
    assert_eq!(worker.get("ana", &format!("/api/download/{id}/file")).body, media::read("sample.mp4"));
}

#[test]
fn a_wait_for_a_retry_survives_a_kill() {
    let origin = Origin::start();
    let mut worker = Worker::start(&origin);
    worker.reconfigure("retry_delay = \"300ms\"", "retry_delay = \"4s\"");
    worker.kill();
    worker.start_again();
    let id = worker.download("ana", &origin.url("fail2/sample.mp4"));
    let failed = Instant::now();
    worker.wait_for(&id, |task| task["status"] == "pending" && task["error_message"] != "");
    let before = requests_for(&origin, "fail2/sample.mp4");
    worker.kill();
    worker.start_again();
    eventually("another attempt", || (requests_for(&origin, "fail2/sample.mp4") > before).then_some(()));
    assert!(failed.elapsed() >= Duration::from_secs(4), "after {:?}", failed.elapsed());
    worker.wait_for_status(&id, "completed");
}

#[test]
fn a_task_that_waits_for_a_retry_can_be_cancelled() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    worker.get("ana", "/api/downloads");
    let id = worker.download("ana", &origin.url("fail99/sample.mp4"));
    worker.wait_for(&id, |task| task["error_message"] != "");
    assert_eq!(worker.delete("ana", &format!("/api/downloads/{id}")).status, 200);
    eventually("the end of processes and files", || {
        (processes_of(&id).is_empty() && !worker.job(&id).exists()).then_some(())
    });
    assert_eq!(worker.task(&id).unwrap()["status"], "cancelled");
}

#[test]
fn a_download_that_stalls_is_ended_and_resumed() {
    let origin = Origin::start();
    let setup = Setup { extra: "stall_timeout = \"3s\"", ..Setup::default() };
    let worker = Worker::with(&origin, &setup);
    let id = worker.download("ana", &origin.url("stall/sample.mp4"));
    worker.wait_for_status(&id, "completed");
    assert!(worker.log().contains("the download stalled"), "{}", worker.log());
    assert_eq!(worker.get("ana", &format!("/api/download/{id}/file")).body, media::read("sample.mp4"));
    let from = |request: &String| request.strip_prefix("stall/sample.mp4 from ")?.parse::<usize>().ok();
    assert!(origin.requests().iter().filter_map(from).any(|at| at > STALL_AFTER / 2), "{:?}", origin.requests());
}

#[test]
fn a_downloader_that_hangs_is_ended_with_all_its_children_but_one_that_writes_is_not() {
    let origin = Origin::start();
    let dir = tempfile::tempdir().unwrap();
    let script = "case \"$*\" in *hangs*) sleep 300 & sleep 300;; esac\n\
        for i in 1 2 3 4 5 6 7 8; do echo x >> tmp/media.mp4; sleep 0.5; done; echo 'ERROR: it is over' >&2; exit 1";
    let yt_dlp = fake_yt_dlp(dir.path(), script);
    let extra = "stall_timeout = \"2s\"\nretries = 0";
    let worker = Worker::with(&origin, &Setup { yt_dlp, extra, ..Setup::default() });
    let hangs = worker.download("ana", &origin.url("hangs.mp4"));
    let writes = worker.download("ana", &origin.url("writes.mp4"));
    assert_eq!(worker.wait_for_status(&hangs, "error")["error_message"], "the download stalled");
    eventually("the end of its processes", || processes_of(&hangs).is_empty().then_some(()));
    assert_eq!(worker.wait_for_status(&writes, "error")["error_message"], "it is over");
}
