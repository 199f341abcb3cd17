//! Resuming downloads after a power cut, a kill or an error: from where they were, and never mixing two versions.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    time::{Duration, Instant},
};

use crate::{
    media,
    origin::{Origin, another_version},
    process::{Setup, Worker, eventually},
    retries::requests_for,
    skips::skipped,
};

fn file(worker: &Worker, id: &str) -> Vec<u8> {
    worker.get("ana", &format!("/api/download/{id}/file")).body
}

/// The start offsets of the range requests for a path.
fn beginnings(origin: &Origin, path: &str) -> Vec<usize> {
    let from = |request: String| request.strip_prefix(path)?.strip_prefix(" from ")?.parse().ok();
    origin.requests().into_iter().filter_map(from).collect()
}

#[test]
fn after_a_power_cut_a_partial_file_resumes_from_what_had_reached_the_disk() {
    let origin = Origin::start();
    let mut worker = Worker::start(&origin);
    let source = media::read("sample.mp4");
    let id = worker.download("ana", &origin.url("stall/sample.mp4"));
    let note = worker.job(&id).join("synced.json");
    eventually("a record of the synced bytes", || {
        fs::read_to_string(&note).ok()?.contains("media.mp4.part\"").then_some(())
    });
    worker.kill();
    // Simulates a file system that kept the length and the last page, but lost the pages before.
    let part = worker.job(&id).join("work/tmp/media.mp4.part");
    let synced = usize::try_from(fs::metadata(&part).unwrap().len()).unwrap();
    let lost = 64 * 1024;
    let mut file_of_part = OpenOptions::new().append(true).open(&part).unwrap();
    file_of_part.write_all(&vec![0; lost]).unwrap();
    file_of_part.write_all(&source[synced + lost..synced + lost + 32 * 1024]).unwrap();
    let text = fs::read_to_string(&note).unwrap();
    let (_, rest) = text.split_once("\"files\"").unwrap();
    fs::write(&note, format!("{{\"boot\":\"another\",\"files\"{rest}")).unwrap();
    worker.start_again();
    worker.wait_for_status(&id, "completed");
    assert!(file(&worker, &id) == source, "no lost page is in the file");
    let beginnings = beginnings(&origin, "stall/sample.mp4");
    assert!(beginnings.iter().any(|at| (1..=synced).contains(at)), "the download was resumed: {beginnings:?}");
}

/// Starts the worker like a unit with `ProcSubset=pid`: the kernel's boot id is hidden, but the environment has one.
const KERNEL_HIDDEN: &[&str] = &[
    "unshare",
    "--mount",
    "sh",
    "-c",
    "mount -t tmpfs none /proc/sys/kernel/random && UNIT_BOOT_ID=0123456789abcdef exec \"$0\" \"$@\"",
];

#[test]
fn in_a_unit_that_hides_the_boot_id_a_partial_file_resumes_after_a_kill() {
    if !rustix::process::geteuid().is_root() {
        return skipped("only root can hide kernel files");
    }
    let origin = Origin::start();
    let mut worker = Worker::with(&origin, &Setup { wrapper: KERNEL_HIDDEN, ..Setup::default() });
    let id = worker.download("ana", &origin.url("stall/sample.mp4"));
    worker.wait_for_partial(&id, 64 * 1024);
    let text = fs::read_to_string(worker.job(&id).join("synced.json")).unwrap();
    assert!(text.contains("\"boot\":\"0123456789abcdef\""), "{text}");
    worker.kill();
    // The only evidence that the partial file is intact is that the machine has not rebooted.
    let nothing = "{\"boot\":\"0123456789abcdef\",\"files\":{}}";
    fs::write(worker.job(&id).join("synced.json"), nothing).unwrap();
    worker.start_again();
    worker.wait_for_status(&id, "completed");
    assert!(file(&worker, &id) == media::read("sample.mp4"));
    let beginnings = beginnings(&origin, "stall/sample.mp4");
    assert!(beginnings.iter().any(|at| *at >= 32 * 1024), "the download was resumed: {beginnings:?}");
}

#[test]
fn without_a_record_of_the_synced_bytes_a_partial_file_starts_over() {
    let origin = Origin::start();
    let mut worker = Worker::start(&origin);
    let id = worker.download("ana", &origin.url("stall/sample.mp4"));
    worker.wait_for_partial(&id, 64 * 1024);
    worker.kill();
    fs::remove_file(worker.job(&id).join("synced.json")).unwrap();
    worker.reconfigure("retry_delay = \"300ms\"", "retry_delay = \"300ms\"\nstall_timeout = \"8s\"");
    worker.start_again();
    worker.wait_for_status(&id, "completed");
    assert!(file(&worker, &id) == media::read("sample.mp4"));
    // Two requests for the page, and two for the media file from its beginning.
    let whole = origin.requests().iter().filter(|request| *request == "stall/sample.mp4").count();
    assert!(whole >= 4, "{:?}", origin.requests());
}

#[test]
fn a_source_that_changes_between_two_answers_is_fetched_again_from_its_beginning() {
    for manner in ["changing", "changing-tagged"] {
        let origin = Origin::start();
        let worker = Worker::start(&origin);
        let path = format!("{manner}/sample.mp4");
        let task = worker.completed("ana", &origin.url(&path));
        let second = another_version(&media::read("sample.mp4"));
        assert!(file(&worker, task["id"].as_str().unwrap()) == second, "{manner}: {:?}", origin.requests());
        assert!(!beginnings(&origin, &path).is_empty(), "the worker tried to resume: {:?}", origin.requests());
    }
}

#[test]
fn a_source_that_changes_while_the_worker_is_down_is_fetched_again_from_its_beginning() {
    let origin = Origin::start();
    let mut worker = Worker::start(&origin);
    let id = worker.download("ana", &origin.url("stall/sample.mp4"));
    worker.wait_for_partial(&id, 100 * 1024);
    worker.kill();
    let second = another_version(&media::read("sample.mp4"));
    origin.serve_bytes("sample.mp4", &second);
    // The download of the second version starts at 0, stalls as well, and then resumes.
    worker.reconfigure("retry_delay = \"300ms\"", "retry_delay = \"300ms\"\nstall_timeout = \"8s\"");
    worker.start_again();
    worker.wait_for_status(&id, "completed");
    assert!(file(&worker, &id) == second);
}

const UNAVAILABLE: &str = "503 Service Unavailable\r\nRetry-After: 1";

#[test]
fn a_download_in_fragments_resumes_at_the_last_whole_one() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    origin.first("h002.ts", &[UNAVAILABLE, UNAVAILABLE]);
    let task = worker.completed("ana", &origin.url("hls.m3u8"));
    assert_eq!(media::probe(&file(&worker, task["id"].as_str().unwrap())), ("h264,aac".to_owned(), 6));
    let requested = ["h000.ts", "h001.ts", "h002.ts"].map(|name| requests_for(&origin, name));
    assert_eq!(requested, [1, 3, 3], "the last whole fragment is compared each time: {:?}", origin.requests());

    // The third chunk of the video.
    let chunk = "chunk-stream0-00003.m4s";
    origin.first(chunk, &[UNAVAILABLE]);
    let task = worker.completed("ana", &origin.url("dash.mpd"));
    assert_eq!(media::probe(&file(&worker, task["id"].as_str().unwrap())), ("h264,aac".to_owned(), 6));
    let requested = ["00001", "00002", "00003"].map(|n| requests_for(&origin, &chunk.replace("00003", n)));
    assert_eq!(requested, [1, 2, 2], "{:?}", origin.requests());
}

#[test]
fn fragments_of_another_version_under_the_same_urls_start_over() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    origin.first("h002.ts", &["503 Service Unavailable\r\nRetry-After: 4"]);
    let id = worker.download("ana", &origin.url("hls.m3u8"));
    worker.wait_for(&id, |task| task["status"] == "pending" && task["error_message"] != "");
    origin.serve_bytes("h001.ts", &media::read("h002.ts"));
    worker.wait_for_status(&id, "completed");
    assert_eq!(requests_for(&origin, "h000.ts"), 2, "{:?}", origin.requests());
}

#[test]
fn fragments_that_were_complete_at_a_kill_are_not_repeated_in_the_file_and_only_the_last_is_fetched_again() {
    let origin = Origin::start();
    let mut worker = Worker::start(&origin);
    let list = String::from_utf8(media::read("hls.m3u8")).unwrap().replace("h00", "slow/h00");
    origin.serve("list.m3u8", &list);
    let id = worker.download("ana", &origin.url("list.m3u8"));
    let note = worker.job(&id).join("work/tmp/media.mp4.part.at");
    eventually("two whole fragments", || (fs::read_to_string(&note).ok()?.lines().count() > 2).then_some(()));
    worker.kill();
    worker.start_again();
    worker.wait_for_status(&id, "completed");
    assert_eq!(media::probe(&file(&worker, &id)), ("h264,aac".to_owned(), 6));
    assert_eq!(requests_for(&origin, "slow/h000.ts"), 1, "{:?}", origin.requests());
}

#[test]
fn fragments_of_another_list_are_not_appended_to_those_of_the_old_one() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    let old = String::from_utf8(media::read("hls.m3u8")).unwrap();
    origin.serve("list.m3u8", &old.replace("h00", "old/h00"));
    origin.first("old/h001.ts", &[UNAVAILABLE; 9]);
    let id = worker.download("ana", &origin.url("list.m3u8"));
    worker.wait_for(&id, |task| task["status"] == "pending" && task["error_message"] != "");
    origin.serve("list.m3u8", &old.replace("h00", "new/h00"));
    worker.wait_for_status(&id, "completed");
    assert_eq!(media::probe(&file(&worker, &id)), ("h264,aac".to_owned(), 6));
    assert_eq!(requests_for(&origin, "new/h000.ts"), 1, "{:?}", origin.requests());
}

#[test]
fn fragments_under_new_urls_resume_if_the_last_one_is_unchanged() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    let list = String::from_utf8(media::read("hls.m3u8")).unwrap();
    for (change, again) in [("same", 0), ("other", 1)] {
        origin.serve("list.m3u8", &list.replace("h00", "signed-1/h00"));
        origin.first("signed-1/h002.ts", &[UNAVAILABLE; 9]);
        let id = worker.download("ana", &origin.url("list.m3u8"));
        worker.wait_for(&id, |task| task["status"] == "pending" && task["error_message"] != "");
        let signed = format!("signed-{change}");
        origin.serve("list.m3u8", &list.replace("h00", &format!("{signed}/h00")));
        if change == "other" {
            // The last fetched fragment no longer matches.
            origin.serve_bytes("h001.ts", &media::read("h002.ts"));
        }
        worker.wait_for_status(&id, "completed");
        assert_eq!(requests_for(&origin, &format!("{signed}/h000.ts")), again, "{:?}", origin.requests());
    }
}

#[test]
fn a_download_whose_url_has_expired_gets_a_new_one_and_resumes() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    let task = worker.completed("ana", &origin.url("expires/sample.mp4"));
    assert!(file(&worker, task["id"].as_str().unwrap()) == media::read("sample.mp4"));
    assert!(!worker.log().contains("waiting to retry"), "the retry is immediate: {}", worker.log());
    assert!(origin.requests().len() >= 5, "{:?}", origin.requests());
}

#[test]
fn a_site_gets_no_request_before_its_retry_after() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    for (path, status) in [("limited.mp4", "429 Too Many Requests"), ("busy.mp4", "503 Service Unavailable")] {
        origin.serve_bytes(path, &media::read("sample.mp4"));
        let limited = format!("{status}\r\nRetry-After: 4");
        origin.first(path, &[&limited]);
        let id = worker.download("ana", &origin.url(path));
        worker.wait_for(&id, |task| task["status"] == "pending" && task["error_message"] != "");
        let failed = Instant::now();
        eventually("another attempt", || (requests_for(&origin, path) > 1).then_some(()));
        // The failure was seen a moment after it happened.
        assert!(failed.elapsed() > Duration::from_millis(3_500), "{path}: after {:?}", failed.elapsed());
        worker.wait_for_status(&id, "completed");
    }
}
