//! How long the worker keeps finished files.

use std::{fs, io::Read, net::TcpStream};

use crate::{
    client::Request,
    media,
    origin::Origin,
    process::{Setup, Worker, eventually},
};

fn id(task: &serde_json::Value) -> String {
    task["id"].as_str().unwrap().to_owned()
}

fn wait_until_gone(worker: &Worker, id: &str) {
    eventually("a removal", || worker.task(id).is_none().then_some(()));
    eventually("the removal of its files", || (!worker.media(id).exists()).then_some(()));
    assert!(worker.log().lines().any(|line| line.contains("by retention") && line.contains(id)), "{}", worker.log());
}

#[test]
fn unused_files_are_removed_but_not_while_they_are_being_read() {
    let origin = Origin::start();
    let worker = Worker::with(&origin, &Setup { extra: "keep_for = \"2s\"", ..Setup::default() });
    let read = id(&worker.completed("ana", &origin.url("sample.mp4")));
    // More than all buffers on the way can hold.
    let video = fs::OpenOptions::new().append(true).open(worker.media(&read).join("media.mp4")).unwrap();
    video.set_len(200 << 20).unwrap();
    let request = Request::new("GET", &format!("/api/download/{read}/file")).signed("ana", worker.address).to_string();
    let mut reader = TcpStream::connect(worker.address).unwrap();
    std::io::Write::write_all(&mut reader, request.as_bytes()).unwrap();
    reader.read_exact(&mut [0; 1_000]).unwrap();
    let running = worker.download("ana", &origin.url("stall/sample.mp4"));
    let other = id(&worker.completed("bob", &origin.url("sample.mp4")));
    wait_until_gone(&worker, &other);
    assert_eq!(worker.task(&read).unwrap()["status"], "completed", "the file is older, but is being read");
    assert_eq!(worker.task(&running).unwrap()["status"], "downloading");
    drop(reader);
    wait_until_gone(&worker, &read);
    assert_eq!(worker.task(&running).unwrap()["status"], "downloading");
}

#[test]
fn the_least_recently_played_file_makes_room() {
    let origin = Origin::start();
    let two_and_a_half = media::read("sample.mp4").len() * 5 / 2;
    let extra = Box::leak(format!("keep_bytes = \"{two_and_a_half}B\"").into_boxed_str());
    let mut worker = Worker::with(&origin, &Setup { extra, ..Setup::default() });
    let first = id(&worker.completed("ana", &origin.url("sample.mp4")));
    let second = id(&worker.completed("ana", &origin.url("hls.m3u8")));
    assert_eq!(worker.get("ana", &format!("/api/download/{first}/file")).status, 200);
    // The record of plays survives a restart.
    assert!(worker.terminate());
    worker.start_again();
    let third = id(&worker.completed("bob", &origin.url("dash.mpd")));
    wait_until_gone(&worker, &second);
    for kept in [&first, &third] {
        assert_eq!(worker.task(kept).unwrap()["status"], "completed");
    }
}
