//! Identical files of several users: stored once, but owned separately.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::fs::MetadataExt,
};

use serde_json::Value;

use crate::{
    client::Request,
    media,
    origin::Origin,
    process::{Setup, Worker, eventually},
};

fn id(task: &Value) -> String {
    task["id"].as_str().unwrap().to_owned()
}

fn inode(worker: &Worker, id: &str) -> (u64, u64) {
    let about = fs::metadata(worker.media(id).join("media.mp4")).unwrap();
    (about.ino(), about.nlink())
}

fn wait_until_shared(worker: &Worker, one: &str, other: &str) {
    eventually("one file for both", || (inode(worker, one) == inode(worker, other)).then_some(()));
}

fn file(worker: &Worker, user: &str, id: &str) -> crate::client::Response {
    worker.get(user, &format!("/api/download/{id}/file"))
}

#[test]
fn identical_files_of_two_users_are_stored_once_and_owned_separately() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    origin.serve("other.mp4", "\0\0\0\u{20}ftypisom and something else");
    let ana = id(&worker.completed("ana", &origin.url("sample.mp4")));
    let before = file(&worker, "ana", &ana);
    let other = worker.download("bob", &origin.url("other.mp4"));
    let bob = worker.download("bob", &origin.url("sample.mp4"));
    worker.wait_for_status(&bob, "completed");
    worker.wait_for_status(&other, "completed");
    wait_until_shared(&worker, &ana, &bob);
    assert_eq!(inode(&worker, &bob).1, 2);
    assert_eq!(inode(&worker, &other).1, 1, "other content is a separate file");
    assert_eq!(fs::read_dir(worker.dir.path().join("data/media/.jobs")).unwrap().count(), 0);
    assert_eq!(
        origin.requests().iter().filter(|request| *request == "sample.mp4").count(),
        4,
        "each user's download has fetched it"
    );

    // Neither user learns of the other, and the headers stay the same.
    assert_eq!(file(&worker, "bob", &ana).status, 404);
    let after = file(&worker, "ana", &ana);
    for name in ["etag", "last-modified", "repr-digest"] {
        assert_eq!(after.header(name), before.header(name));
    }
    let task = worker.task(&bob).unwrap();
    let written = httpdate::parse_http_date(file(&worker, "bob", &bob).header("last-modified").unwrap()).unwrap();
    let completed: jiff::Timestamp = task["completed_at"].as_str().unwrap().parse().unwrap();
    assert_eq!(written.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs(), completed.as_second().unsigned_abs());

    assert_eq!(worker.delete("ana", &format!("/api/downloads/{ana}/remove")).status, 200);
    assert_eq!(file(&worker, "ana", &ana).status, 404);
    assert_eq!((inode(&worker, &bob).1, file(&worker, "bob", &bob).body), (1, media::read("sample.mp4")));
}

#[test]
fn removing_a_shared_file_does_not_interrupt_its_readers() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    let [ana, bob] = ["ana", "bob"].map(|user| id(&worker.completed(user, &origin.url("sample.mp4"))));
    wait_until_shared(&worker, &ana, &bob);
    let mut reader = TcpStream::connect(worker.address).unwrap();
    let request = Request::new("GET", &format!("/api/download/{ana}/file")).signed("ana", worker.address).to_string();
    reader.write_all(request.as_bytes()).unwrap();
    reader.read_exact(&mut [0; 10]).unwrap();
    assert_eq!(worker.delete("bob", &format!("/api/downloads/{bob}/remove")).status, 200);
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).unwrap();
    assert!(rest.ends_with(&media::read("sample.mp4")));
}

#[test]
fn a_file_that_was_changed_is_not_shared() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    let ana = id(&worker.completed("ana", &origin.url("sample.mp4")));
    // The length is right, but one byte is wrong.
    let path = worker.media(&ana).join("media.mp4");
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    let bob = id(&worker.completed("bob", &origin.url("sample.mp4")));
    eventually("a word on it", || worker.log().contains("file of a finished download has changed").then_some(()));
    assert_eq!(inode(&worker, &bob).1, 1);
    assert_eq!(file(&worker, "bob", &bob).body, media::read("sample.mp4"));
}

#[test]
fn a_shared_file_counts_once_and_is_removed_when_no_owner_has_used_it_lately() {
    let origin = Origin::start();
    let one_and_a_half = media::read("sample.mp4").len() * 3 / 2;
    let extra = format!("keep_bytes = \"{one_and_a_half}B\"").leak();
    let worker = Worker::with(&origin, &Setup { extra, ..Setup::default() });
    let [ana, bob] = ["ana", "bob"].map(|user| id(&worker.completed(user, &origin.url("sample.mp4"))));
    wait_until_shared(&worker, &ana, &bob);
    // Long enough for two rounds of retention.
    std::thread::sleep(std::time::Duration::from_secs(11));
    for id in [&ana, &bob] {
        assert_eq!(worker.task(id).unwrap()["status"], "completed", "{}", worker.log());
    }
    let newer = id(&worker.completed("eve", &origin.url("dash.mpd")));
    for gone in [&ana, &bob] {
        eventually("a removal", || worker.task(gone).is_none().then_some(()));
    }
    assert_eq!(worker.task(&newer).unwrap()["status"], "completed");
}
