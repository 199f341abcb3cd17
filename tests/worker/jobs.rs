//! The folder of a job: whatever a malicious child leaves there is neither accepted nor kept.

use std::{fs, path::Path, process::Command};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    origin::Origin,
    process::{Setup, Worker, eventually},
    stand_in::python_yt_dlp_with,
};

/// Removes the capabilities by which root ignores file permissions, because the accounts that normally run the worker have none.
const WITHOUT_OVERRIDE: &[&str] =
    &["setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner", "--inh-caps=-all"];

fn worker(program: &str, extra: &str) -> (Worker, Origin, TempDir) {
    worker_with(program, &[], extra)
}

/// The same, with environment variables for the program.
fn worker_with(program: &str, variables: &[(&str, &str)], extra: &str) -> (Worker, Origin, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::start();
    let (yt_dlp, readable) = python_yt_dlp_with(dir.path(), program, variables);
    let wrapper = if rustix::process::geteuid().is_root() { WITHOUT_OVERRIDE } else { &[] };
    let extra = format!("{readable}\n{extra}").leak();
    (Worker::with(&origin, &Setup { yt_dlp, extra, wrapper }), origin, dir)
}

/// Runs the program as a download and returns the task once `what` accepts it.
fn download(worker: &Worker, origin: &Origin, what: impl Fn(&Value) -> bool) -> Value {
    let id = worker.download("ana", &origin.url("sample.mp4"));
    worker.wait_for(&id, what)
}

fn ended(task: &Value) -> bool {
    task["status"] == "error"
}

fn nothing_is_left(worker: &Worker) {
    let jobs = worker.dir.path().join("data/media/.jobs");
    eventually("an empty folder", || fs::read_dir(&jobs).unwrap().next().is_none().then_some(()));
}

#[test]
fn a_child_cannot_change_accepted_files_or_permissions() {
    let (worker, origin, _dir) = worker(include_str!("python/changes_accepted_files.py"), "");
    let task = download(&worker, &origin, ended);
    assert_eq!(task["title"], "[]", "{}", worker.log());
    nothing_is_left(&worker);
}

#[test]
fn a_result_that_has_a_second_name_is_refused() {
    let (worker, origin, _dir) = worker(include_str!("python/second_name.py"), "");
    let task = download(&worker, &origin, ended);
    assert_eq!(task["error_message"], "the reported file is not in the job's output folder");
    nothing_is_left(&worker);
}

/// Folders nested thousands deep, beyond the longest usable path, and folders that nobody may open.
const MAZE: &str = include_str!("python/maze.py");

#[test]
fn a_job_cannot_leave_anything_that_cannot_be_removed() {
    let (mut worker, origin, _dir) = worker_with(MAZE, &[("WAIT", "1000")], "");
    let task = download(&worker, &origin, ended);
    assert_eq!(task["error_message"], "the download exceeds the disk space that a download may use");
    nothing_is_left(&worker);
    assert_eq!(worker.delete("ana", &format!("/api/downloads/{}/remove", task["id"].as_str().unwrap())).status, 200);
    assert!(worker.terminate());
    // A startup also removes what was left there.
    let folder = worker.job("00000000-0000-4000-8000-000000000000");
    fs::create_dir(&folder).unwrap();
    let left = Command::new("python3").args(["-c", MAZE]).env("HOME", &folder).env("WAIT", "0").status();
    assert!(left.unwrap().success());
    worker.start_again();
    nothing_is_left(&worker);
}

#[test]
fn the_errors_of_a_child_cannot_fill_the_log() {
    let (worker, origin, _dir) = worker(include_str!("python/floods_log.py"), "");
    download(&worker, &origin, ended);
    let log = worker.log();
    assert!(log.contains("ERROR: xxx") && log.len() < 20_000, "{} bytes", log.len());
}

#[test]
fn only_the_first_description_of_a_source_counts() {
    let (worker, origin, _dir) = worker(include_str!("python/describes_often.py"), "");
    assert_eq!(download(&worker, &origin, ended)["title"], "0");
}

/// Runs a child that writes many files, each within the limit of one file but together more than a download may use.
fn assert_hoarding_ends(how: &str) {
    let program = include_str!("python/hoards.py");
    let (worker, origin, _dir) = worker_with(program, &[("HOW", how)], "max_filesize = \"1MiB\"");
    let task = download(&worker, &origin, ended);
    assert_eq!(task["error_message"], "the download exceeds the disk space that a download may use", "{how}");
    nothing_is_left(&worker);
}

#[test]
fn a_job_that_writes_many_files_is_ended_like_one_that_writes_a_large_file() {
    assert_hoarding_ends("write_files");
}

#[test]
fn a_job_cannot_hide_what_it_writes() {
    assert_hoarding_ends("nest_folders");
    assert_hoarding_ends("close_folder");
    assert_hoarding_ends("create_empty_files");
}

/// A child that should keep almost nothing may use almost no disk space.
#[test]
fn a_child_that_reads_a_page_or_fetches_subtitles_cannot_fill_the_disk() {
    let (worker, origin, _dir) = worker(include_str!("python/fills_disk.py"), "");
    let order = json!({"url": origin.url("sample.mp4"), "subtitles": ["en"]});
    let id = worker.post("ana", "/api/download", &order.to_string()).json()["id"].as_str().unwrap().to_owned();
    let task = worker.wait_for_status(&id, "completed");
    assert_eq!(task["subtitles"], json!([]), "the video is complete, without the subtitles that took too much space");
    let question = json!({"url": origin.url("sample.mp4")}).to_string();
    assert_eq!(worker.post("ana", "/api/info", &question).status, 502);
    nothing_is_left(&worker);
}

#[test]
fn a_job_of_an_older_version_starts_over() {
    let origin = Origin::start();
    let mut worker = Worker::start(&origin);
    let id = worker.download("ana", &origin.url("stall/sample.mp4"));
    worker.wait_for_partial(&id, 1);
    worker.kill();
    let job = worker.job(&id);
    fs::remove_dir_all(&job).unwrap();
    // In that version, the child could have written all of this without any check.
    for folder in ["out", "tmp", "ready"] {
        fs::create_dir_all(job.join(folder)).unwrap();
        fs::write(job.join(folder).join("media.mp4"), b"\0\0\0\x20ftypisom, and nothing else").unwrap();
    }
    worker.start_again();
    let task = worker.wait_for_status(&id, "completed");
    assert_eq!(task["filesize"], json!(fs::metadata(media(&worker, &id)).unwrap().len()));
    assert_eq!(fs::read(media(&worker, &id)).unwrap(), crate::media::read("sample.mp4"));
    nothing_is_left(&worker);
}

fn media(worker: &Worker, id: &str) -> impl AsRef<Path> {
    worker.media(id).join("media.mp4")
}
