//! Attacks with well-formed HTTP/2 frames: the connection ends, and other clients are not affected.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use rustls::{ClientConnection, StreamOwned};

use crate::{
    canary::Canary,
    client::{Request, connect_frames},
    greedy::{endless, open},
    instance::Instance,
};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

pub(crate) type Stream = StreamOwned<ClientConnection, TcpStream>;

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Returns the head of `GET https://localhost/x`, without a credential, so that each request is denied.
fn head() -> Vec<u8> {
    get_head("/x")
}

pub(crate) fn get_head(path: &str) -> Vec<u8> {
    head_of(0x82, path)
}

pub(crate) fn post_head(path: &str) -> Vec<u8> {
    head_of(0x83, path)
}

/// Encodes the method as an index into HPACK's table, `https`, and path and authority as literals.
fn head_of(method: u8, path: &str) -> Vec<u8> {
    let length = u8::try_from(path.len()).unwrap();
    [&[method, 0x87, 0x04, length][..], path.as_bytes(), &[0x01, 9], b"localhost"].concat()
}

pub(crate) fn start(i: &Instance) -> Stream {
    let mut stream = connect_frames(i.tls, &i.authority());
    stream.write_all(PREFACE).unwrap();
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).unwrap();
    stream
}

/// Returns whether the connection ends while these frames are sent, or soon after.
pub(crate) fn ends(stream: &mut Stream, frames: impl Iterator<Item = Vec<u8>>) -> bool {
    stream.sock.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
    stream.sock.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    for frame in frames {
        if stream.write_all(&frame).is_err() {
            return true;
        }
    }
    is_over(stream)
}

fn is_over(stream: &mut Stream) -> bool {
    let mut buffer = [0; 16 * 1024];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(e) => return e.kind() != std::io::ErrorKind::WouldBlock,
        }
    }
}

pub(crate) fn resident_kib(i: &Instance) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", i.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn frames_without_a_purpose_end_the_connection() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    let flood = |kind, flags, stream, payload: &'static [u8]| {
        let mut connection = start(&i);
        connection.write_all(&frame(HEADERS, END_HEADERS, 1, &head())).unwrap();
        ends(&mut connection, (0..3_000).map(move |_| frame(kind, flags, stream, payload)))
    };
    assert!(flood(PING, 0, 0, &[0; 8]));
    assert!(flood(SETTINGS, 0, 0, &[]));
    assert!(flood(PRIORITY, 0, 1, &[0, 0, 0, 0, 0]));
    assert!(flood(DATA, 0, 1, &[]));
    assert!(flood(200, 0, 0, &[]));
    assert!(flood(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]), "windows that are not needed");
    let mut connection = start(&i);
    connection.write_all(&frame(HEADERS, END_HEADERS, 1, &post_head("/x"))).unwrap();
    assert!(ends(&mut connection, (0..20_000).map(|_| frame(DATA, 0, 1, b"x"))), "a body sent byte by byte");
    assert_eq!(i.get("/api/downloads").status, 200);
}

#[test]
fn a_client_that_cancels_its_requests_at_once_is_disconnected() {
    let canary = Canary::with(Duration::from_secs(5));
    let i = Instance::start(&canary);
    let mut connection = start(&i);
    let reset = (0..2_000).map(|n| {
        let id = 2 * n + 1;
        [frame(HEADERS, END_HEADERS | END_STREAM, id, &head()), frame(RST_STREAM, 0, id, &[0, 0, 0, 8])].concat()
    });
    assert!(ends(&mut connection, reset));
    // Resets that the gateway is made to send (MadeYouReset).
    let mut connection = start(&i);
    let provoked = (0..2_000).map(|n| {
        let id = 2 * n + 1;
        [frame(HEADERS, END_HEADERS, id, &head()), frame(WINDOW_UPDATE, 0, id, &[0, 0, 0, 0])].concat()
    });
    assert!(ends(&mut connection, provoked));
    assert_eq!(i.send(&Request::new("GET", "/x")).status, 404);
}

#[test]
fn a_client_that_reads_no_answers_does_not_use_up_requests() {
    let canary = Canary::start();
    let i = Instance::with(&canary.address.to_string(), |i| i.replace("max_requests = 5000", "max_requests = 100"));
    let mut connection = connect_frames(i.tls, &i.authority());
    connection.write_all(PREFACE).unwrap();
    // No window for any stream.
    connection.write_all(&frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0])).unwrap();
    for n in 0..100 {
        connection.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, &head())).unwrap();
    }
    crate::admin::eventually_metric(&i, "sallyport_denials_total{code=\"no_route\"}", 100.0);
    assert_eq!(i.get("/api/downloads").status, 200);
    // Opening the windows releases the waiting answers.
    connection.write_all(&frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0xff, 0xff])).unwrap();
    connection.sock.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    let mut seen = Vec::new();
    let mut buffer = [0; 16 * 1024];
    while let Ok(n @ 1..) = connection.read(&mut buffer) {
        seen.extend_from_slice(&buffer[..n]);
    }
    assert_eq!(String::from_utf8_lossy(&seen).matches("no_route").count(), 100);
}

#[test]
fn fields_that_expand_a_thousandfold_are_not_kept() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    let before = resident_kib(&i);
    let mut connection = start(&i);
    // Adds one large field to the table, then refers to it again and again.
    let value = vec![b'a'; 3_000];
    let length = [0x7f, 0xb9, 0x16];
    let first = [&head()[..], &[0x40, 1, b'x'], &length, &value].concat();
    let bomb = (0..50u32).map(|n| {
        let block = if n == 0 { first.clone() } else { head() };
        let block = [&block[..], &[0xbe; 12_000]].concat();
        frame(HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, &block)
    });
    ends(&mut connection, bomb);
    let grown = resident_kib(&i).saturating_sub(before);
    assert!(grown < 32 * 1024, "it took {grown} KiB");
    assert_eq!(i.get("/api/downloads").status, 200);
    assert!(canary.seen().len() == 1);
}

#[test]
fn a_head_that_trickles_over_http2_is_timed_out() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    let mut connection = start(&i);
    // A frame with a full length whose payload arrives byte by byte.
    let block = [&head()[..], &[0x00, 1, b'a', 1, b'b'].repeat(1_000)].concat();
    let mut bytes = frame(HEADERS, END_HEADERS | END_STREAM, 1, &block).into_iter();
    connection.write_all(&bytes.by_ref().take(100).collect::<Vec<_>>()).unwrap();
    connection.sock.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let begun = Instant::now();
    while connection.write_all(&[bytes.next().unwrap()]).is_ok() && !is_over(&mut connection) {
        assert!(begun.elapsed() < Duration::from_secs(20), "the trickle continues");
    }
    assert!(begun.elapsed() > Duration::from_secs(9), "an honest client had too little time");
}

#[test]
fn a_head_over_http2_has_the_same_limits_and_a_line_in_the_log() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    let mut connection = start(&i);
    let many = [&head()[..], &[0x00, 1, b'x', 1, b'y'].repeat(101)].concat();
    connection.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &many)).unwrap();
    let line = crate::instance::eventually("a line in the log", || {
        let log = std::fs::read_to_string(i.path("data/access.log")).ok()?;
        log.lines().find(|line| line.contains("head_too_large")).map(str::to_owned)
    });
    assert!(line.contains("\"status\":431") && line.contains("\"http\":\"HTTP/2\""), "{line}");
}

#[test]
fn a_stream_whose_client_stops_reading_is_reset() {
    let (upstream, ends) = endless();
    let i = open(upstream, "send_timeout = \"2s\"");
    let mut connection = start(&i);
    connection.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &head())).unwrap();
    let begun = Instant::now();
    // The connection is read, but the stream's window stays closed.
    connection.sock.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    while ends.try_recv().is_err() {
        let _ = connection.read(&mut [0; 16 * 1024]);
        assert!(begun.elapsed() < Duration::from_secs(20), "the stream is kept");
    }
    assert!(begun.elapsed() > Duration::from_secs(2), "the stream was reset too early");
}
