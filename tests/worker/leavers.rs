//! Clients that request a download and disconnect before the response.

use std::{
    collections::BTreeSet,
    io::Write,
    net::TcpStream,
    thread::sleep,
    time::{Duration, Instant},
};

use crate::{
    client::Request,
    events::Stream,
    origin::Origin,
    process::{Setup, Worker, eventually},
};

const ORDERS: u32 = 60;

/// Sends a request, waits for `wait` and disconnects.
fn leave_after(worker: &Worker, request: Request<'_>, wait: Duration) {
    let mut stream = TcpStream::connect(worker.address).unwrap();
    stream.set_nodelay(true).unwrap();
    let text = request.signed("ana", worker.address).to_string();
    let start = Instant::now();
    stream.write_all(text.as_bytes()).unwrap();
    // The moment of leaving is the subject.
    sleep(wait.saturating_sub(start.elapsed()));
}

#[test]
fn a_stored_download_is_announced_even_if_its_client_has_disconnected() {
    let origin = Origin::start();
    let worker = Worker::with(&origin, &Setup::default());
    let mut followed = Stream::open(&worker, "ana", None);
    let order = format!("{{\"url\":\"{}\"}}", origin.url("missing.mp4"));
    let start = Instant::now();
    worker.download("ana", &origin.url("missing.mp4"));
    let usual = start.elapsed();
    // Some disconnect before their request is read, some after the response, and most in between.
    for n in 0..ORDERS {
        leave_after(&worker, Request::new("POST", "/api/download").json(&order), usual * n * 2 / ORDERS);
    }
    let stored = eventually("the last request to be processed", || {
        let list = worker.get("ana", "/api/downloads").json();
        let ids: BTreeSet<_> = list.as_array()?.iter().map(|task| task["id"].as_str().unwrap().to_owned()).collect();
        // Nothing more is stored for a while.
        sleep(Duration::from_millis(500));
        let later = worker.get("ana", "/api/downloads").json();
        (later.as_array()?.len() == ids.len()).then_some(ids)
    });
    assert!(stored.len() > 10, "some were stored: {}", stored.len());
    let last = worker.download("ana", &origin.url("last.mp4"));
    let events = followed.until(|event| event.name == "task" && event.data["id"] == *last);
    let told: BTreeSet<_> = events.iter().filter_map(|event| event.data["id"].as_str().map(str::to_owned)).collect();
    let untold: Vec<_> = stored.difference(&told).collect();
    assert!(untold.is_empty(), "{} of {} downloads were not announced", untold.len(), stored.len());
}
