//! What is taken up again: after a power cut, a kill or an error, where it was, and never as a part of something else.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    time::{Duration, Instant},
};

use crate::{
    media,
    origin::{Origin, another_version},
    process::{Setup, Worker, eventually},
    retries::asked_for,
    skips::skipped,
};

fn file(worker: &Worker, id: &str) -> Vec<u8> {
    worker.get("ana", &format!("/api/download/{id}/file")).body
}

/// Where the requests for a path have asked to begin.
fn beginnings(origin: &Origin, path: &str) -> Vec<usize> {
    let from = |request: String| request.strip_prefix(path)?.strip_prefix(" from ")?.parse().ok();
    origin.requests().into_iter().filter_map(from).collect()
}

#[test]
fn after_a_power_cut_a_part_goes_on_from_what_had_reached_the_disk() {
    let origin = Origin::start();
    let mut worker = Worker::start(&origin);
    let source = media::read("sample.mp4");
    let id = worker.download("ana", &origin.url("stall/sample.mp4"));
    let note = worker.job(&id).join("synced.json");
    eventually("a note of what was synced", || {
        fs::read_to_string(&note).ok()?.contains("media.mp4.part\"").then_some(())
    });
    worker.kill();
    // The file system has kept the length and the last page, and has lost the pages before that.
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
    assert!(file(&worker, &id) == source, "not one lost page is in the file");
    let beginnings = beginnings(&origin, "stall/sample.mp4");
    assert!(beginnings.iter().any(|at| (1..=synced).contains(at)), "it went on: {beginnings:?}");
}

/// Starts the worker as a unit with `ProcSubset=pid` does: the kernel's boot id is hidden, and that of the environment is not.
const KERNEL_HIDDEN: &[&str] = &[
    "unshare",
    "--mount",
    "sh",
    "-c",
    "mount -t tmpfs none /proc/sys/kernel/random && UNIT_BOOT_ID=0123456789abcdef exec \"$0\" \"$@\"",
];

#[test]
fn in_a_unit_that_hides_the_boot_id_a_part_goes_on_after_a_kill() {
    if !rustix::process::geteuid().is_root() {
        return skipped("only root hides files of the kernel");
    }
    let origin = Origin::start();
    let mut worker = Worker::with(&origin, &Setup { wrapper: KERNEL_HIDDEN, ..Setup::default() });
    let id = worker.download("ana", &origin.url("stall/sample.mp4"));
    worker.wait_for_partial(&id, 64 * 1024);
    let text = fs::read_to_string(worker.job(&id).join("synced.json")).unwrap();
    assert!(text.contains("\"boot\":\"0123456789abcdef\""), "{text}");
    worker.kill();
    // Nothing vouches for it but that the machine has not started since.
    let nothing = "{\"boot\":\"0123456789abcdef\",\"files\":{}}";
    fs::write(worker.job(&id).join("synced.json"), nothing).unwrap();
    worker.start_again();
    worker.wait_for_status(&id, "completed");
    assert!(file(&worker, &id) == media::read("sample.mp4"));
    let beginnings = beginnings(&origin, "stall/sample.mp4");
    assert!(beginnings.iter().any(|at| *at >= 32 * 1024), "it went on: {beginnings:?}");
}

#[test]
fn without_a_note_of_what_was_synced_a_part_begins_anew() {
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
    // Twice for the page, and twice for the medium from its beginning.
    let whole = origin.requests().iter().filter(|request| *request == "stall/sample.mp4").count();
    assert!(whole >= 4, "{:?}", origin.requests());
}

#[test]
fn a_source_that_changes_between_two_answers_is_fetched_anew_from_its_beginning() {
    for manner in ["changing", "changing-tagged"] {
        let origin = Origin::start();
        let worker = Worker::start(&origin);
        let path = format!("{manner}/sample.mp4");
        let task = worker.completed("ana", &origin.url(&path));
        let second = another_version(&media::read("sample.mp4"));
        assert!(file(&worker, task["id"].as_str().unwrap()) == second, "{manner}: {:?}", origin.requests());
        assert!(!beginnings(&origin, &path).is_empty(), "it was tried to go on: {:?}", origin.requests());
    }
}

#[test]
fn a_source_that_changes_while_the_worker_is_down_is_fetched_anew_from_its_beginning() {
    let origin = Origin::start();
    let mut worker = Worker::start(&origin);
    let id = worker.download("ana", &origin.url("stall/sample.mp4"));
    worker.wait_for_partial(&id, 100 * 1024);
    worker.kill();
    let second = another_version(&media::read("sample.mp4"));
    origin.serve_bytes("sample.mp4", &second);
    // The second version begins at 0 and stalls as well; then it goes on.
    worker.reconfigure("retry_delay = \"300ms\"", "retry_delay = \"300ms\"\nstall_timeout = \"8s\"");
    worker.start_again();
    worker.wait_for_status(&id, "completed");
    assert!(file(&worker, &id) == second);
}

const UNAVAILABLE: &str = "503 Service Unavailable\r\nRetry-After: 1";

#[test]
fn what_comes_in_fragments_goes_on_with_the_last_whole_one() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    origin.first("h002.ts", &[UNAVAILABLE, UNAVAILABLE]);
    let task = worker.completed("ana", &origin.url("hls.m3u8"));
    assert_eq!(media::probe(&file(&worker, task["id"].as_str().unwrap())), ("h264,aac".to_owned(), 6));
    let asked = ["h000.ts", "h001.ts", "h002.ts"].map(|name| asked_for(&origin, name));
    assert_eq!(asked, [1, 3, 3], "the last whole one is compared each time: {:?}", origin.requests());

    // The third chunk of the picture.
    let chunk = "chunk-stream0-00003.m4s";
    origin.first(chunk, &[UNAVAILABLE]);
    let task = worker.completed("ana", &origin.url("dash.mpd"));
    assert_eq!(media::probe(&file(&worker, task["id"].as_str().unwrap())), ("h264,aac".to_owned(), 6));
    let asked = ["00001", "00002", "00003"].map(|n| asked_for(&origin, &chunk.replace("00003", n)));
    assert_eq!(asked, [1, 2, 2], "{:?}", origin.requests());
}

#[test]
fn fragments_of_another_version_under_the_same_addresses_begin_anew() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    origin.first("h002.ts", &["503 Service Unavailable\r\nRetry-After: 4"]);
    let id = worker.download("ana", &origin.url("hls.m3u8"));
    worker.wait_for(&id, |task| task["status"] == "pending" && task["error_message"] != "");
    origin.serve_bytes("h001.ts", &media::read("h002.ts"));
    worker.wait_for_status(&id, "completed");
    assert_eq!(asked_for(&origin, "h000.ts"), 2, "{:?}", origin.requests());
}

#[test]
fn fragments_that_were_together_at_a_kill_are_not_twice_in_the_file_and_the_last_one_alone_is_fetched_again() {
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
    assert_eq!(asked_for(&origin, "slow/h000.ts"), 1, "{:?}", origin.requests());
}

#[test]
fn fragments_of_another_list_are_not_put_behind_those_of_the_old_one() {
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
    assert_eq!(asked_for(&origin, "new/h000.ts"), 1, "{:?}", origin.requests());
}

#[test]
fn fragments_under_new_addresses_go_on_where_the_last_one_is_the_same() {
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
            // What was here is not what is there now.
            origin.serve_bytes("h001.ts", &media::read("h002.ts"));
        }
        worker.wait_for_status(&id, "completed");
        assert_eq!(asked_for(&origin, &format!("{signed}/h000.ts")), again, "{:?}", origin.requests());
    }
}

#[test]
fn a_medium_whose_address_has_expired_is_looked_up_again_and_goes_on() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    let task = worker.completed("ana", &origin.url("expires/sample.mp4"));
    assert!(file(&worker, task["id"].as_str().unwrap()) == media::read("sample.mp4"));
    assert!(!worker.log().contains("waiting to retry"), "at once: {}", worker.log());
    assert!(origin.requests().len() >= 5, "{:?}", origin.requests());
}

#[test]
fn a_site_is_not_asked_again_before_it_wants_to_be() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    for (path, status) in [("limited.mp4", "429 Too Many Requests"), ("busy.mp4", "503 Service Unavailable")] {
        origin.serve_bytes(path, &media::read("sample.mp4"));
        let limited = format!("{status}\r\nRetry-After: 4");
        origin.first(path, &[&limited]);
        let id = worker.download("ana", &origin.url(path));
        worker.wait_for(&id, |task| task["status"] == "pending" && task["error_message"] != "");
        let failed = Instant::now();
        eventually("another try", || (asked_for(&origin, path) > 1).then_some(()));
        // What was seen after it happened began earlier.
        assert!(failed.elapsed() > Duration::from_millis(3_500), "{path}: after {:?}", failed.elapsed());
        worker.wait_for_status(&id, "completed");
    }
}
