//! Events about tasks over a WebSocket.

use std::{
    collections::BTreeSet,
    fmt::Display,
    io::{Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use sallyport_core::statement::HEADER;
use serde_json::{Value, json};
use tungstenite::{
    Bytes, Error, HandshakeError, Message, WebSocket,
    client::IntoClientRequest,
    protocol::{CloseFrame, frame::coding::CloseCode},
};

use crate::{
    client::{Request, sign, statement},
    events::{Event, Stream, is},
    origin::Origin,
    process::{Setup, Worker, eventually},
    stand_in::fake_yt_dlp,
};

const TARGET: &str = "/api/v2/events/socket";

/// The longest message that a client may send, in bytes.
const MAX_MESSAGE: usize = 4 << 10;

/// The number of downloads, each with an event of 2 KiB: together larger than every buffer between the worker and a client that does not
/// read.
const ORDERS: usize = 160;

/// An open WebSocket that receives events.
struct Socket<S = TcpStream>(WebSocket<S>);

impl Socket {
    fn open(worker: &Worker, user: &str, query: &str) -> Self {
        Self::try_open(worker, user, query).unwrap_or_else(|status| panic!("{status}"))
    }

    /// Opens a socket. Returns the status if the handshake is refused.
    fn try_open(worker: &Worker, user: &str, query: &str) -> Result<Self, u16> {
        let stream = TcpStream::connect(worker.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        Self::over(stream, worker.address, user, query)
    }
}

impl<S: Read + Write> Socket<S> {
    fn over(stream: S, to: impl Display, user: &str, query: &str) -> Result<Self, u16> {
        let target = format!("{TARGET}{query}");
        let mut request = format!("ws://worker{target}").into_client_request().unwrap();
        let signed = sign(&statement(Some(user), to, "GET", &target));
        request.headers_mut().insert(HEADER, signed.parse().unwrap());
        match tungstenite::client(request, stream) {
            Ok((socket, _)) => Ok(Self(socket)),
            Err(HandshakeError::Failure(Error::Http(response))) => Err(response.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }

    /// Returns the next event, or the close frame.
    fn next(&mut self) -> Result<Event, Option<CloseFrame>> {
        loop {
            match self.0.read() {
                Ok(Message::Text(text)) => {
                    let event: Value = serde_json::from_str(&text).unwrap();
                    assert_eq!(event.as_object().unwrap().len(), 3, "{event}");
                    let text = |key: &str| event[key].as_str().unwrap().to_owned();
                    return Ok(Event { name: text("event"), id: text("id"), data: event["data"].clone() });
                }
                Ok(Message::Close(frame)) => return Err(frame),
                Ok(Message::Ping(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Returns all events up to and including the first that `last` accepts.
    fn until(&mut self, last: impl Fn(&Event) -> bool) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            events.push(self.next().unwrap_or_else(|end| panic!("{end:?} after {events:?}")));
            if events.last().is_some_and(&last) {
                return events;
            }
        }
    }

    /// Returns the code that the socket is closed with.
    fn closed(&mut self) -> CloseCode {
        loop {
            if let Err(frame) = self.next() {
                return frame.unwrap().code;
            }
        }
    }
}

fn removed(event: &Event) -> bool {
    event.name == "removed"
}

/// Returns the names and ids of the events that every subscriber receives, however slow.
fn steps(events: &[Event]) -> Vec<(&str, &str)> {
    events.iter().filter(|event| event.name != "progress").map(|event| (&*event.name, &*event.id)).collect()
}

#[test]
fn a_websocket_shows_a_download_from_its_request_to_its_removal() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    let mut socket = Socket::open(&worker, "ana", "");
    let mut stream = Stream::open(&worker, "ana", None);
    let reset = socket.next().unwrap();
    assert_eq!((&*reset.name, reset.data), ("reset", json!({})), "earlier changes are in the list");
    let id = worker.download("ana", &origin.url("slow/sample.mp4"));
    let mut events = socket.until(is("completed"));
    assert_eq!(events.last().unwrap().data, worker.task(&id).unwrap(), "the same task as in the list");
    worker.delete("ana", &format!("/api/downloads/{id}/remove"));
    events.extend(socket.until(removed));
    assert!(events.iter().all(|event| event.data["id"] == id), "{events:?}");
    assert_eq!(steps(&events), steps(&stream.until(removed)[1..]), "the same as over Server-Sent Events");

    let progress: Vec<_> = events.iter().filter(|event| event.name == "progress").map(|event| &event.data).collect();
    let bytes: Vec<_> = progress.iter().map(|data| data["downloaded_bytes"].as_u64().unwrap()).collect();
    assert!(bytes.len() >= 3 && bytes.is_sorted(), "live progress: {bytes:?}");
    let known = |data: &&&Value| data["speed"].is_f64() && data["eta"].is_f64() && data["total_bytes"].is_u64();
    assert!(progress.iter().any(|data| known(&data)), "{progress:?}");
}

#[test]
fn a_client_that_reconnects_over_a_websocket_gets_the_missed_events_once() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    let mut socket = Socket::open(&worker, "ana", "");
    let mut first = socket.until(|event| event.name == "reset");
    let id = worker.download("ana", &origin.url("sample.mp4"));
    first.extend(socket.until(is("pending")));
    drop(socket);
    worker.wait_for_status(&id, "completed");

    let last = &first.last().unwrap().id;
    let missed = Socket::open(&worker, "ana", &format!("?after={last}")).until(is("completed"));
    assert!(missed.iter().all(|event| event.name != "reset" && !first.contains(event)), "{missed:?}");
    assert!(is("downloading")(&missed[0]), "{missed:?}");
    let by_stream = Stream::open(&worker, "ana", Some(last)).until(is("completed"));
    assert_eq!(by_stream, missed, "an id is valid on both");
    for nowhere in ["0-0", "nonsense", ""] {
        let event = Socket::open(&worker, "ana", &format!("?after={nowhere}")).next().unwrap();
        assert_eq!(event.name, "reset", "{nowhere}");
    }
}

#[test]
fn only_an_admin_who_asks_sees_other_users_events_over_a_websocket() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    let [mut ana, mut own] = ["ana", "admin"].map(|user| Socket::open(&worker, user, ""));
    let mut all = Socket::open(&worker, "admin", "?all=1");
    let bobs = worker.download("bob", &origin.url("sample.mp4"));
    worker.wait_for_status(&bobs, "completed");
    let anas = worker.download("ana", &origin.url("missing.mp4"));
    let admins = worker.download("admin", &origin.url("missing.mp4"));
    for (socket, owned) in [(&mut ana, &anas), (&mut own, &admins)] {
        let events = socket.until(is("error"));
        assert!(events.iter().skip(1).all(|event| event.data["id"] == **owned), "{events:?}");
    }
    all.until(|event| event.data["id"] == bobs && is("completed")(event));
    for (user, query, status) in [("ana", "?all=1", 403), ("admin", "?all=2", 422), ("admin", "?user=bob", 422)] {
        assert_eq!(Socket::try_open(&worker, user, query).err(), Some(status), "{user} {query}");
    }
}

#[test]
fn a_request_that_is_not_a_websocket_handshake_is_refused() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    let whole = [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let refused = |headers: &[(&'static str, &str)]| {
        let request = Request::new("GET", TARGET).signed("ana", worker.address);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(name, *value));
        let response = request.send(worker.address);
        assert_eq!((response.status, &response.json()["code"]), (400, &json!("not_a_websocket")), "{headers:?}");
    };
    refused(&[]);
    for missing in 0..whole.len() {
        let rest: Vec<_> = (0..whole.len()).filter(|i| *i != missing).map(|i| whole[i]).collect();
        refused(&rest);
    }
    refused(&[whole[0], whole[1], ("sec-websocket-version", "8"), whole[3]]);
    assert_eq!(Request::new("GET", TARGET).send(worker.address).status, 401);
}

#[test]
fn sockets_and_streams_of_a_user_are_counted_together() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    let streams: Vec<_> = (0..4).map(|_| Stream::open(&worker, "ana", None)).collect();
    let mut sockets: Vec<_> = (0..4).map(|_| Socket::open(&worker, "ana", "")).collect();
    assert_eq!(Socket::try_open(&worker, "ana", "").err(), Some(429));
    assert_eq!(worker.get("ana", "/api/v2/events").status, 429);
    drop(Socket::open(&worker, "bob", ""));
    let mut last = sockets.pop().unwrap();
    last.0.close(None).unwrap();
    drop((last, streams));
    let again = eventually("a free place", || Socket::try_open(&worker, "ana", "").ok());
    drop((again, sockets));
}

#[test]
fn messages_of_a_client_are_ignored_and_limited_in_length() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    let mut socket = Socket::open(&worker, "ana", "");
    assert_eq!(socket.next().unwrap().name, "reset");
    socket.0.send(Message::text("x".repeat(MAX_MESSAGE))).unwrap();
    socket.0.send(Message::binary(vec![0; MAX_MESSAGE])).unwrap();
    socket.0.send(Message::Ping(Bytes::from_static(b"there?"))).unwrap();
    assert_eq!(socket.0.read().unwrap(), Message::Pong(Bytes::from_static(b"there?")), "and nothing before that");
    socket.0.send(Message::text("x".repeat(MAX_MESSAGE + 1))).unwrap();
    assert_eq!(socket.closed(), CloseCode::Size);

    let mut huge = Socket::open(&worker, "ana", "");
    // A frame that announces a terabyte is refused at its header.
    huge.0.get_mut().write_all(&[0x82, 0xff, 0, 0, 1, 0, 0, 0, 0, 0, 1, 2, 3, 4]).unwrap();
    assert_eq!(huge.closed(), CloseCode::Size);
    let mut nonsense = Socket::open(&worker, "ana", "");
    nonsense.0.get_mut().write_all(&[0xff; 20]).unwrap();
    assert_eq!(nonsense.closed(), CloseCode::Protocol);
}

#[test]
fn a_stopping_worker_closes_its_sockets_and_waits_for_none() {
    let origin = Origin::start();
    let mut worker = Worker::start(&origin);
    let mut sockets = [Socket::open(&worker, "ana", ""), Socket::open(&worker, "bob", "")];
    let start = Instant::now();
    assert!(worker.terminate());
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    for socket in &mut sockets {
        assert_eq!(socket.next().unwrap().name, "reset");
        assert_eq!(socket.next(), Err(Some(CloseFrame { code: CloseCode::Away, reason: "".into() })));
    }
}

/// Starts a worker on a Unix socket, which buffers little, whose downloads do nothing.
fn on_a_unix_socket(origin: &Origin, dir: &Path) -> (Worker, PathBuf) {
    let mut worker = Worker::with(origin, &Setup { yt_dlp: fake_yt_dlp(dir, "sleep 300"), ..Setup::default() });
    worker.kill();
    let path = worker.dir.path().join("worker.sock");
    worker.reconfigure(&format!("\"{}\"\nyt", worker.address), &format!("\"unix:{}\"\nyt", path.display()));
    worker.start_blindly();
    eventually("the worker", || UnixStream::connect(&path).ok());
    (worker, path)
}

/// Returns the address as the configuration spells it.
fn unix(path: &Path) -> String {
    format!("unix:{}", path.display())
}

fn connect(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

fn order_many(origin: &Origin, path: &Path) {
    let order = json!({ "url": origin.url(&format!("missing.mp4?{}", "x".repeat(1_900))) }).to_string();
    for _ in 0..ORDERS {
        let mut stream = connect(path);
        let request = Request::new("POST", "/api/download").json(&order).signed("ana", unix(path)).to_string();
        stream.write_all(request.as_bytes()).unwrap();
        let mut response = Vec::new();
        stream.read_to_end(&mut response).unwrap();
        assert!(response.starts_with(b"HTTP/1.1 200"), "{}", response.escape_ascii());
    }
}

#[test]
fn a_client_that_never_reads_costs_little_and_loses_its_place() {
    let origin = Origin::start();
    let dir = tempfile::tempdir().unwrap();
    let (worker, path) = on_a_unix_socket(&origin, dir.path());
    let open = || Socket::over(connect(&path), unix(&path), "ana", "");
    let mut good = open().unwrap();
    // These keep sending but never read, so the worker does not consider them silent.
    let mut deaf: Vec<_> = (0..7).map(|_| open().unwrap()).collect();
    assert_eq!(open().err(), Some(429));

    let start = Instant::now();
    let before = memory(worker.pid());
    order_many(&origin, &path);
    let mut told = BTreeSet::new();
    while told.len() < ORDERS {
        let event = good.next().unwrap();
        told.extend(event.data["id"].as_str().map(str::to_owned));
    }
    let grown = memory(worker.pid()).saturating_sub(before);
    assert!(grown < 16 << 10, "{grown} KiB with seven clients that do not read");

    let mut places = Vec::new();
    good.0.get_mut().set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    while places.len() < 7 {
        assert!(start.elapsed() < Duration::from_mins(2), "{} places are free again", places.len());
        for socket in &mut deaf {
            let _ = socket.0.send(Message::text("I am here"));
        }
        // A client that reads also answers pings, and stays connected.
        while good.0.read().is_ok() {}
        places.extend(open().ok());
    }
    assert!(start.elapsed() > Duration::from_secs(20), "no client is disconnected immediately: {:?}", start.elapsed());
    good.0.send(Message::Ping(Bytes::from_static(b"there?"))).unwrap();
    let response = Message::Pong(Bytes::from_static(b"there?"));
    eventually("a pong", || good.0.read().ok().filter(|message| *message == response));
}

#[test]
fn a_client_that_answers_no_ping_is_disconnected() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    let opened = Instant::now();
    let mut mute = Socket::open(&worker, "ana", "");
    assert_eq!(mute.next().unwrap().name, "reset");
    let mut read = Vec::new();
    let stream = mute.0.get_mut();
    stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    stream.read_to_end(&mut read).unwrap();
    assert!(read.starts_with(&[0x89, 0, 0x89, 0]), "only pings: {}", read.escape_ascii());
    assert!(opened.elapsed() > Duration::from_secs(40), "{:?}", opened.elapsed());
}

/// Returns the resident memory of a process, in KiB.
fn memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}
