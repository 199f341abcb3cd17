//! Live events about tasks over Server-Sent Events.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    client::Request,
    origin::Origin,
    process::{Worker, eventually},
};

/// An open stream of events.
pub(crate) struct Stream(BufReader<TcpStream>);

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) data: Value,
}

impl Stream {
    pub(crate) fn open(worker: &Worker, user: &str, last: Option<&str>) -> Self {
        Self::at(worker, user, "/api/v2/events", last)
    }

    fn at(worker: &Worker, user: &str, target: &str, last: Option<&str>) -> Self {
        let mut request = Request::new("GET", target).signed(user, worker.address);
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let mut stream = TcpStream::connect(worker.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(request.to_string().as_bytes()).unwrap();
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(reader.read_line(&mut head).unwrap(), 0, "{head}");
        }
        assert!(head.starts_with("HTTP/1.1 200") && head.contains("text/event-stream"), "{head}");
        Self(reader)
    }

    /// Returns the next event, or `None` when the stream has ended.
    fn next(&mut self) -> Option<Event> {
        let mut event = Event::default();
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            match line.trim_end().split_once(": ") {
                Some(("event", name)) => name.clone_into(&mut event.name),
                Some(("id", id)) => id.clone_into(&mut event.id),
                Some(("data", data)) => event.data = serde_json::from_str(data).unwrap(),
                // Chunk sizes are lines, too.
                _ if line == "\n" && !event.name.is_empty() => return Some(event),
                _ => {}
            }
        }
    }

    /// Returns all events up to and including the first that `last` accepts.
    pub(crate) fn until(&mut self, last: impl Fn(&Event) -> bool) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            events.push(self.next().unwrap_or_else(|| panic!("the stream ended after {events:?}")));
            if events.last().is_some_and(&last) {
                return events;
            }
        }
    }
}

pub(crate) fn is(status: &'static str) -> impl Fn(&Event) -> bool {
    move |event| event.name == "task" && event.data["status"] == status
}

#[test]
fn a_stream_shows_a_download_from_its_request_to_its_removal() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    let mut stream = Stream::open(&worker, "ana", None);
    assert_eq!(stream.next().unwrap().name, "reset", "earlier changes are in the list");
    let id = worker.download("ana", &origin.url("slow/sample.mp4"));
    let events = stream.until(is("completed"));
    assert!(events.iter().all(|event| event.data["id"] == id), "{events:?}");
    let mut statuses: Vec<_> = events.iter().filter_map(|event| event.data["status"].as_str()).collect();
    statuses.dedup();
    assert_eq!(statuses, ["pending", "downloading", "processing", "completed"]);
    assert_eq!(events.last().unwrap().data, worker.task(&id).unwrap(), "the same task as in the list");

    let progress: Vec<_> = events.iter().filter(|event| event.name == "progress").map(|event| &event.data).collect();
    let bytes: Vec<_> = progress.iter().map(|data| data["downloaded_bytes"].as_u64().unwrap()).collect();
    assert!(bytes.len() >= 3 && bytes.is_sorted(), "live progress: {bytes:?}");
    let known = |data: &&&Value| data["speed"].is_f64() && data["eta"].is_f64() && data["total_bytes"].is_u64();
    assert!(progress.iter().any(|data| known(&data)), "{progress:?}");

    worker.delete("ana", &format!("/api/downloads/{id}/remove"));
    let removed = stream.until(|event| event.name == "removed").pop().unwrap();
    assert_eq!(removed.data, json!({ "id": id }));
}

#[test]
fn a_client_that_reconnects_gets_the_missed_events_once() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    let mut stream = Stream::open(&worker, "ana", None);
    let mut first = stream.until(|event| event.name == "reset");
    let id = worker.download("ana", &origin.url("sample.mp4"));
    first.extend(stream.until(is("pending")));
    drop(stream);
    worker.wait_for_status(&id, "completed");

    let last = first.last().unwrap().id.clone();
    let missed = Stream::open(&worker, "ana", Some(&last)).until(is("completed"));
    assert!(missed.iter().all(|event| event.name != "reset" && !first.contains(event)), "{missed:?}");
    assert!(is("downloading")(&missed[0]), "{missed:?}");
    let again = Stream::open(&worker, "ana", Some(&last)).until(is("completed"));
    assert_eq!(again, missed);
}

#[test]
fn a_client_that_reconnects_after_a_restart_gets_a_reset() {
    let origin = Origin::start();
    let mut worker = Worker::start(&origin);
    let last = Stream::open(&worker, "ana", None).next().unwrap().id;
    worker.kill();
    worker.start_again();
    for last in [last.as_str(), "0-0", "nonsense", ""] {
        assert_eq!(Stream::open(&worker, "ana", Some(last)).next().unwrap().name, "reset", "{last}");
    }
}

#[test]
fn only_an_admin_who_asks_sees_other_users_events() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    let [mut ana, mut own] = ["ana", "admin"].map(|user| Stream::open(&worker, user, None));
    let mut all = Stream::at(&worker, "admin", "/api/v2/events?all=1", None);
    let bobs = worker.download("bob", &origin.url("sample.mp4"));
    worker.wait_for_status(&bobs, "completed");
    let anas = worker.download("ana", &origin.url("missing.mp4"));
    let admins = worker.download("admin", &origin.url("missing.mp4"));
    for (stream, owned) in [(&mut ana, &anas), (&mut own, &admins)] {
        let events = stream.until(is("error"));
        assert!(events.iter().skip(1).all(|event| event.data["id"] == **owned), "{events:?}");
    }
    all.until(|event| event.data["id"] == bobs && is("completed")(event));
    let refused = worker.get("ana", "/api/v2/events?all=1");
    assert_eq!((refused.status, &refused.json()["code"]), (403, &json!("admins_only")));
    for query in ["all=2", "all=x", "user=bob"] {
        assert_eq!(worker.get("admin", &format!("/api/v2/events?{query}")).status, 422, "{query}");
    }
    assert_eq!(Request::new("GET", "/api/v2/events").send(worker.address).status, 401);
}

#[test]
fn a_user_has_at_most_eight_streams_and_can_reuse_their_places() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    let streams: Vec<_> = (0..8).map(|_| Stream::open(&worker, "ana", None)).collect();
    let ninth = worker.get("ana", "/api/v2/events");
    assert_eq!((ninth.status, &ninth.json()["code"]), (429, &json!("too_many_streams")));
    drop(Stream::open(&worker, "bob", None));
    drop(streams);
    eventually("a free place", || {
        let mut stream = TcpStream::connect(worker.address).unwrap();
        stream
            .write_all(Request::new("GET", "/api/v2/events").signed("ana", worker.address).to_string().as_bytes())
            .unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        line.contains("200").then_some(())
    });
}

#[test]
fn a_stopping_worker_ends_its_streams_and_waits_for_none() {
    let origin = Origin::start();
    let mut worker = Worker::start(&origin);
    let mut streams = [Stream::open(&worker, "ana", None), Stream::open(&worker, "bob", None)];
    let start = Instant::now();
    assert!(worker.terminate());
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    for stream in &mut streams {
        assert_eq!(stream.next().unwrap().name, "reset");
        assert_eq!(stream.next(), None);
    }
}
