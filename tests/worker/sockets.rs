//! The worker's listening socket, and the exclusive use of its data folder.

use std::{
    fs,
    io::{Read, Write},
    os::unix::{
        fs::PermissionsExt,
        net::{UnixListener, UnixStream},
    },
};

use crate::{
    origin::Origin,
    process::{Worker, eventually},
};

#[test]
fn a_stale_unix_socket_is_replaced_and_accessible_only_to_owner_and_group() {
    let origin = Origin::start();
    let mut worker = Worker::start(&origin);
    worker.kill();
    let path = worker.dir.path().join("worker.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(UnixStream::connect(&path).is_err(), "the socket is stale");
    worker.reconfigure(&format!("\"{}\"\nyt", worker.address), &format!("\"unix:{}\"\nyt", path.display()));
    worker.start_blindly();

    let mut stream = eventually("the socket", || UnixStream::connect(&path).ok());
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    assert!(response.starts_with("HTTP/1.1 200 ") && response.ends_with("ok"), "{response}");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
}

#[test]
fn a_second_worker_on_the_same_data_is_refused() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    assert!(!worker.second());
    assert!(worker.log().contains("another worker is running on the same data folder"), "{}", worker.log());
    assert_eq!(worker.get("ana", "/api/downloads").status, 200, "the first worker continues");
}

#[test]
fn media_and_database_are_readable_only_by_their_owner() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    let mode = |path: &str| fs::metadata(worker.dir.path().join(path)).unwrap().permissions().mode() & 0o077;
    assert_eq!(
        [mode("data/media"), mode("data/media/.jobs"), mode("data/worker.db"), mode("data/worker.db-wal")],
        [0; 4]
    );
}
