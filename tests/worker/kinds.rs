//! File types: the first bytes decide, whatever the name is, and as soon as they arrive.

use std::process::Command;

use crate::{
    media,
    origin::Origin,
    process::{Worker, processes_of},
};

#[test]
fn a_video_is_accepted_under_any_name() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    let video = media::read("sample.mp4");
    for (name, kind, extension) in [
        ("VIDEO.MP4", "video/mp4", ".mp4"),
        ("Video.MOV", "video/mp4", ".mov"),
        ("video", "application/octet-stream", ".mp4"),
        ("video.bin", "application/octet-stream", ".mp4"),
        ("video.ogv", "video/mp4", ".mp4"),
    ] {
        origin.serve_bytes(name, &video);
        origin.declare(name, kind);
        assert_kept(&worker, &origin.url(name), &video, extension);
    }
}

#[test]
fn theora_and_mpeg_keep_their_formats() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    for (made, name, kind) in [("video.ogg", "video.ogv", "video/ogg"), ("video.mpg", "VIDEO.MPEG", "video/mpeg")] {
        let video = convert(made);
        origin.serve_bytes(name, &video);
        origin.declare(name, kind);
        let extension = if made == "video.ogg" { ".ogv" } else { ".mpg" };
        let stream = kind;
        let target = assert_kept(&worker, &origin.url(name), &video, extension);
        assert_eq!(worker.get("ana", &target).header("content-type"), Some(stream));
    }
}

#[test]
fn anything_but_media_is_refused_at_its_first_bytes() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    let archive = [&b"PK\x03\x04\x14\0"[..], &vec![7; 1 << 20]].concat();
    let page = format!("<!DOCTYPE html><html>{}", "No video here. ".repeat(80_000));
    for (name, bytes, message) in [
        ("archive.mp4", &archive[..], "the source sent an unsupported type of file"),
        ("page.mp4", page.as_bytes(), "the source sent text or a playlist instead of media"),
    ] {
        origin.serve_bytes(name, bytes);
        // The rest of the file never arrives.
        let id = worker.download("ana", &origin.url(&format!("stall/{name}")));
        let task = worker.wait_for_status(&id, "error");
        assert_eq!(task["error_message"], message, "{name}");
        assert!(processes_of(&id).is_empty());
    }
}

/// Downloads a video, which must arrive unchanged under a name with `extension`. Returns the path of its stream.
fn assert_kept(worker: &Worker, url: &str, video: &[u8], extension: &str) -> String {
    let task = worker.completed("ana", url);
    let id = task["id"].as_str().unwrap();
    assert!(worker.get("ana", &format!("/api/download/{id}/file")).body == video, "{url}");
    let name = task["filename"].as_str().unwrap();
    assert!(name.ends_with(extension), "{url}: {name}");
    format!("/api/stream/{name}")
}

/// Converts the sample to another container.
fn convert(name: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    let codecs = match name {
        "video.ogg" => ["-c:v", "libtheora", "-c:a", "flac"],
        _ => ["-c:v", "mpeg1video", "-c:a", "mp2"],
    };
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-v", "error", "-i"]).arg(media::folder().join("sample.mp4")).args(codecs);
    // MPEG-1 supports only some frame rates.
    assert!(ffmpeg.args(["-r", "25", "-t", "2"]).arg(&path).status().unwrap().success());
    std::fs::read(path).unwrap()
}
