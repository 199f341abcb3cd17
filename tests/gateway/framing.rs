//! Framing: an ambiguous message is refused, its connection ends, and no part of it is forwarded.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    process::Command,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use crate::{
    canary::Canary,
    client::{Request, connect},
    instance::Instance,
};

/// A policy with one route that accepts any method and streams bodies.
pub(crate) const UPLOADS: &str = "[defaults]\nmax_body = \"1MiB\"\n[[route]]\nname = \"all\"\nmethods = [\"GET\", \"POST\", \"PUT\"]\npath = \"/{*rest}\"\ncredentials = []\nanonymous = true\n";

/// A text that must never be treated as a request.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n";

const BAD_FIELDS: &[(&str, &str)] = &[
    ("Content-Length: 4\r\nTransfer-Encoding: chunked", "bad_framing"),
    ("Content-Length: 4\r\nContent-Length: 4", "bad_framing"),
    ("Content-Length: 4, 4", "bad_framing"),
    ("Content-Length: +4", "bad_framing"),
    ("Content-Length: 04", "bad_framing"),
    ("Content-Length: 4 4", "bad_framing"),
    ("Content-Length:", "bad_framing"),
    ("Transfer-Encoding: gzip, chunked", "bad_framing"),
    ("Transfer-Encoding: chunked, chunked", "bad_framing"),
    ("Transfer-Encoding: chunked,", "bad_framing"),
    ("Transfer-Encoding: identity", "bad_framing"),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "bad_framing"),
    ("Transfer-Encoding : chunked", "bad_framing"),
    ("Transfer-Encoding:\x0bchunked", "bad_framing"),
    ("X: 1\r\n folded: 2", "bad_framing"),
    ("X: 1\nY: 2", "bad_framing"),
    ("X: a\rb", "bad_framing"),
    ("X: a\0b", "bad_framing"),
    ("X", "bad_framing"),
    ("Connection: a b", "bad_framing"),
    ("Host: localhost", "bad_host"),
];

const BAD_LINES: &[&str] = &[
    "CONNECT localhost:443 HTTP/1.1\r\nHost: localhost",
    "GET * HTTP/1.1\r\nHost: localhost",
    "GET /#f HTTP/1.1\r\nHost: localhost",
    "GET /a\tb HTTP/1.1\r\nHost: localhost",
    "GET http://other/ HTTP/1.1\r\nHost: localhost",
    "GET / HTTP/1.1",
    "GET / HTTP/1.1\r\nHost: a, b",
    "GET / HTTP/1.1\r\nHost: localhost/x",
    "PRI * HTTP/2.0",
    "POST /a HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked",
];

pub(crate) fn uploads(upstream: &str) -> Instance {
    Instance::with(upstream, |i| {
        std::fs::write(i.path("policies/uploads.toml"), UPLOADS).unwrap();
        i.replace("policy = \"worker\"", "policy = \"uploads\"");
    })
}

/// Sends bytes and returns everything until the connection closes.
pub(crate) fn exchange(i: &Instance, bytes: &[u8]) -> String {
    let mut stream = connect(i.tls, &i.authority(), rustls::ALL_VERSIONS).unwrap();
    stream.write_all(bytes).unwrap();
    let mut response = Vec::new();
    let _ = stream.read_to_end(&mut response);
    String::from_utf8_lossy(&response).into_owned()
}

/// Starts an upstream that records every byte it gets, per connection, and answers each read with `answer`.
pub(crate) fn recorder(response: &'static [u8]) -> (SocketAddr, Arc<Mutex<Vec<Vec<u8>>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let all: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
    let theirs = Arc::clone(&all);
    thread::spawn(move || {
        for (n, mut stream) in listener.incoming().flatten().enumerate() {
            theirs.lock().unwrap().push(Vec::new());
            let all = Arc::clone(&theirs);
            thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(read @ 1..) = stream.read(&mut buffer) {
                    all.lock().unwrap()[n].extend_from_slice(&buffer[..read]);
                    let _ = stream.write_all(response);
                }
            });
        }
    });
    (address, all)
}

#[test]
fn an_ambiguous_head_is_refused_and_the_connection_ends() {
    let canary = Canary::start();
    let i = uploads(&canary.address.to_string());
    for (fields, code) in BAD_FIELDS {
        let head = format!("POST /a HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n\r\n");
        let responses = exchange(&i, format!("{head}{SMUGGLED}").as_bytes());
        assert!(responses.starts_with("HTTP/1.1 400 "), "{fields:?}: {responses}");
        assert!(responses.contains(&format!("\"code\":\"{code}\"")), "{fields:?}: {responses}");
        assert!(
            responses.contains("connection: close\r\n") && responses.contains("x-request-id: "),
            "{fields:?}: {responses}"
        );
        assert_eq!(responses.matches("HTTP/1.1").count(), 1, "{fields:?}: {responses}");
    }
    assert!(canary.seen().is_empty());
}

#[test]
fn an_ambiguous_request_line_is_refused_and_the_connection_ends() {
    let canary = Canary::start();
    let i = uploads(&canary.address.to_string());
    for line in BAD_LINES {
        let responses = exchange(&i, format!("{line}\r\n\r\n{SMUGGLED}").as_bytes());
        assert!(responses.starts_with("HTTP/1.1 400 "), "{line:?}: {responses}");
        assert_eq!(responses.matches("HTTP/1.1").count(), 1, "{line:?}: {responses}");
    }
    assert!(canary.seen().is_empty());
}

#[test]
fn both_versions_of_http_allow_the_same_length_of_a_target() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    let status = |version: &str, bytes: usize| {
        let url = format!("https://localhost:{}/{}", i.tls.port(), "a".repeat(bytes - 1));
        let mut curl = Command::new("curl");
        curl.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", version, "--cacert"]).arg(i.authority()).arg(&url);
        String::from_utf8(curl.output().unwrap().stdout).unwrap()
    };
    for version in ["--http1.1", "--http2"] {
        assert_eq!([8 * 1024, 8 * 1024 + 1].map(|bytes| status(version, bytes)), ["404", "414"], "{version}");
    }
}

#[test]
fn heads_have_limits() {
    let canary = Canary::start();
    let i = uploads(&canary.address.to_string());
    let head = |line: String, fields: &str| {
        format!("GET {line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{fields}\r\n")
    };
    for (bytes, status, code) in [
        (head(format!("/{}", "a".repeat(9_000)), ""), 414, "target_too_long"),
        (head("/a".into(), &format!("X: {}\r\n", "a".repeat(33_000))), 431, "head_too_large"),
        (head("/a".into(), &"X: 1\r\n".repeat(99)), 431, "head_too_large"),
    ] {
        let response = i.send_bytes(bytes.as_bytes());
        assert_eq!((response.status, response.code().as_str()), (status, code));
        assert_eq!(i.log_line(&response)["code"], code);
    }
    assert!(canary.seen().is_empty());
    let within =
        head(format!("/{}", "a".repeat(8_000)), &format!("X: {}\r\n{}", "a".repeat(20_000), "Y: 1\r\n".repeat(90)));
    assert_eq!(i.send_bytes(within.as_bytes()).status, 200);
}

#[test]
fn a_head_that_trickles_is_timed_out() {
    let canary = Canary::start();
    let i = uploads(&canary.address.to_string());
    let mut stream = connect(i.tls, &i.authority(), rustls::ALL_VERSIONS).unwrap();
    stream.sock.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let start = std::time::Instant::now();
    let mut response = [0; 1024];
    stream.write_all(b"GET /a HTTP/1.1\r\nHost: localhost\r\n").unwrap();
    let n = loop {
        match stream.read(&mut response) {
            Ok(n) => break n,
            Err(_) => stream.write_all(b"X: 1\r\n").unwrap(),
        }
        assert!(start.elapsed() < Duration::from_secs(15), "the trickle continues");
    };
    let response = String::from_utf8_lossy(&response[..n]);
    assert!(response.starts_with("HTTP/1.1 408 ") && response.contains("head_too_slow"), "{response}");
    assert!(start.elapsed() >= Duration::from_secs(9), "an honest client had too little time");
}

#[test]
fn an_unread_body_is_never_read_as_the_next_request() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    let inner = "GET /api/downloads HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let last = String::from_utf8(Request::new("GET", "/api/downloads").key(i.key()).bytes()).unwrap();
    for (target, status) in [("/api/download", 401), ("/nowhere", 404)] {
        let head = format!("POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n");
        let sized = format!("{head}Content-Length: {}\r\n\r\n{inner}", inner.len());
        let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{inner}\r\n0\r\n\r\n", inner.len());
        for first in [sized, chunked] {
            let responses = exchange(&i, format!("{first}{last}").as_bytes());
            let statuses: Vec<_> = responses.split("HTTP/1.1 ").skip(1).map(|a| a[..3].to_owned()).collect();
            assert_eq!(statuses, [status.to_string(), "200".to_owned()], "{responses}");
        }
        // The body is too large to be read for the sake of the connection, so the connection closes.
        let large = format!("{head}Content-Length: 900000\r\n\r\n{}{last}", "a".repeat(900_000));
        let responses = exchange(&i, large.as_bytes());
        assert!(
            responses.starts_with(&format!("HTTP/1.1 {status} ")) && responses.contains("connection: close"),
            "{responses}"
        );
        assert_eq!(responses.matches("HTTP/1.1 ").count(), 1, "{responses}");
    }
    assert!(canary.seen().iter().all(|seen| seen.header("remote-user") == ["admin"]), "{:?}", canary.seen());
}

#[test]
fn a_100_continue_is_sent_only_if_the_body_is_wanted() {
    let canary = Canary::start();
    let i = uploads(&canary.address.to_string());
    let fetch = |target: &str| {
        let mut stream = connect(i.tls, &i.authority(), rustls::ALL_VERSIONS).unwrap();
        let head = format!(
            "PUT {target} HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 4\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut response = [0; 1024];
        let n = stream.read(&mut response).unwrap();
        (stream, String::from_utf8_lossy(&response[..n]).into_owned())
    };
    let (mut stream, word) = fetch("/a");
    assert_eq!(word, "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"Wiki").unwrap();
    let mut response = String::new();
    let _ = stream.read_to_string(&mut response);
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
    let seen = canary.only();
    assert_eq!((seen.body.as_str(), seen.header("expect").len()), ("Wiki", 0));
    let (_, denial) = fetch("/a/../b");
    assert!(denial.starts_with("HTTP/1.1 400 ") && denial.contains("connection: close"), "{denial}");
}

#[test]
fn an_upgrade_to_anything_but_websocket_is_an_ordinary_request() {
    let canary = Canary::start();
    let i = uploads(&canary.address.to_string());
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    for fields in [
        "Connection: upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
        "Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 4",
        "Connection: upgrade\r\nUpgrade: foo",
        "Upgrade: websocket",
    ] {
        let body = if fields.contains("Content-Length") { "Wiki" } else { "" };
        let head = format!("GET /a HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n\r\n{body}");
        let responses = exchange(&i, format!("{head}{smuggled}").as_bytes());
        assert_eq!(responses.matches("HTTP/1.1 200 ").count(), 2, "{fields:?}: {responses}");
        let seen = canary.seen();
        let first = &seen[seen.len() - 2];
        let second = &seen[seen.len() - 1];
        assert!(first.header("upgrade").is_empty() && first.header("connection").is_empty(), "{fields:?}: {first:?}");
        assert_eq!(
            (first.body.as_str(), second.target()),
            (body, "/smuggled"),
            "{fields:?}: the rest is a separate request"
        );
    }
    // Likewise for an upgrade that the application does not accept.
    let head = "GET /a HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    let responses = exchange(&i, format!("{head}{smuggled}").as_bytes());
    assert_eq!(responses.matches("HTTP/1.1 200 ").count(), 2, "{responses}");
    assert_eq!(canary.seen().last().unwrap().header("x-forwarded-proto"), ["https"]);
}

#[test]
fn an_ambiguous_answer_is_not_forwarded() {
    for response in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok"[..],
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        b"HTTP/1.1 200 OK\r\nX\x0b: 1\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"garbage\r\n\r\n",
    ] {
        let (address, _) = recorder(response);
        let i = uploads(&address.to_string());
        let got = i.send(&Request::new("GET", "/a"));
        assert_eq!((got.status, got.code().as_str()), (502, "upstream_unreachable"), "{}", response.escape_ascii());
    }
}

#[test]
fn an_answer_that_is_cut_short_never_looks_complete() {
    for response in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\nConnection: close\r\n\r\nonly this"[..],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nonly this\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nonly this\r\nx\r\n",
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let i = uploads(&listener.local_addr().unwrap().to_string());
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(response);
            }
        });
        let request = "GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let got = exchange(&i, request.as_bytes());
        let whole = got.contains("content-length: 9\r\n") || got.ends_with("0\r\n\r\n");
        assert!(got.contains("only this") && !whole, "{got}");
        let id = got.lines().find_map(|line| line.strip_prefix("x-request-id: ")).unwrap();
        let line = crate::instance::eventually("its line in the log", || {
            let log = std::fs::read_to_string(i.path("data/access.log")).ok()?;
            log.lines().find(|line| line.contains(id)).map(str::to_owned)
        });
        assert!(line.contains("\"status\":200") && line.contains("upstream_unreachable"), "{line}");
    }
}

#[test]
fn the_log_invents_nothing_about_a_head_that_could_not_be_read() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    let response = i.send_bytes(b"nonsense\r\n\r\n");
    assert_eq!(response.status, 400);
    let line = i.log_line(&response);
    assert!(["method", "host", "path", "http", "route"].iter().all(|name| line[name].is_null()), "{line}");
    assert_eq!((&line["decision"], &line["bytes_out"]), (&"deny".into(), &response.body.len().into()));
}
