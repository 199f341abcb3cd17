//! A downloader that is missing or too old is reported, and nothing is lost meanwhile.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use crate::{
    origin::Origin,
    process::{Setup, Worker},
};

fn refused(yt_dlp: PathBuf) -> (serde_json::Value, String) {
    let origin = Origin::start();
    let worker = Worker::with(&origin, &Setup { yt_dlp, ..Setup::default() });
    let response = worker.post("ana", "/api/download", &format!("{{\"url\":\"{}\"}}", origin.url("sample.mp4")));
    assert_eq!(response.status, 503);
    assert!(response.header("retry-after").is_some());
    assert_eq!(worker.get("ana", "/api/search?q=x").status, 503);
    assert_eq!(worker.get("ana", "/api/downloads").body, b"[]");
    (response.json(), worker.log())
}

#[test]
fn a_missing_downloader_is_reported() {
    let (response, log) = refused("/nowhere/yt-dlp".into());
    assert_eq!(response["code"], "yt_dlp_missing");
    assert!(!response["detail"].as_str().unwrap().contains("/nowhere"), "clients see no paths");
    assert!(log.contains("/nowhere/yt-dlp"), "the log has the path: {log}");
}

#[test]
fn a_downloader_with_known_vulnerabilities_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("yt-dlp");
    fs::write(&script, "#!/bin/sh\necho 2026.06.09\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let (response, log) = refused(script);
    assert_eq!(response["code"], "yt_dlp_too_old");
    assert!(log.contains("2026.06.09 is too old"), "{log}");
}

#[test]
fn waiting_tasks_stay_pending_while_the_downloader_is_missing() {
    let origin = Origin::start();
    let mut worker = Worker::start(&origin);
    let id = worker.download("ana", &origin.url("stall/sample.mp4"));
    worker.wait_for_partial(&id, 1);
    worker.kill();
    worker.reconfigure("/yt-dlp\"", "/yt-dlp-gone\"");
    worker.start_again();
    assert_eq!(worker.task(&id).unwrap()["status"], "pending");
    worker.kill();
    worker.reconfigure("/yt-dlp-gone\"", "/yt-dlp\"");
    worker.start_again();
    worker.wait_for_status(&id, "completed");
}
