//! Deviations from the specification by ordinary clients and applications that are accepted; and requests that are refused over HTTP/2
//! as they are over HTTP/1.

use std::{
    future::poll_fn,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;

use crate::{
    canary::Canary,
    client::{self, connect, connect_http2},
    instance::{Instance, eventually},
};

const POLICY: &str = "[defaults]\nmax_body = \"1MiB\"\n[[route]]\nname = \"all\"\nmethods = [\"GET\", \"POST\"]\npath = \"/{*rest}\"\ncredentials = []\nanonymous = true\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn open(upstream: SocketAddr) -> Instance {
    Instance::with(&upstream.to_string(), |i| {
        std::fs::write(i.path("policies/open.toml"), POLICY).unwrap();
        i.replace("policy = \"worker\"", "policy = \"open\"");
    })
}

/// Starts an application that answers each request with these bytes, and returns a count of its connections.
fn app(response: &'static [u8]) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let taken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&taken);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            count.fetch_add(1, Ordering::Relaxed);
            thread::spawn(move || serve(stream, response));
        }
    });
    (address, taken)
}

fn serve(mut stream: TcpStream, response: &[u8]) {
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = stream.read(&mut buffer) {
        seen.extend_from_slice(&buffer[..n]);
        while let Some(end) = seen.windows(4).position(|w| w == b"\r\n\r\n") {
            seen.drain(..end + 4);
            let _ = stream.write_all(response);
        }
    }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

async fn http2(i: &Instance) -> SendRequest<Bytes> {
    let stream = connect_http2(i.tls, &i.authority()).await;
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn fetch(i: &Instance, request: Request<()>) -> (u16, String) {
    let response = http2(i).await.send_request(request, true).unwrap().0.await.unwrap();
    let status = response.status().as_u16();
    let mut body = response.into_body();
    let mut text = Vec::new();
    while let Some(data) = body.data().await {
        text.extend_from_slice(&data.unwrap());
    }
    (status, String::from_utf8(text).unwrap())
}

#[test]
fn http2_requests_are_refused_for_the_same_faults_as_http1() {
    let canary = Canary::start();
    let i = open(canary.address);
    let get = || Request::get("https://localhost/a");
    run(async {
        for value in [" 1", "1 ", "\t1", "1\t"] {
            let request = get().header("x-a", value).body(()).unwrap();
            let (status, text) = fetch(&i, request).await;
            assert!(status == 400 && text.contains("bad_framing"), "{value:?}: {status} {text}");
        }
        for (host, code) in [("localhost:99999", "bad_host"), ("localhost:65536", "bad_host")] {
            let request = Request::get(format!("https://{host}/a")).body(()).unwrap();
            let (status, text) = fetch(&i, request).await;
            assert!(status == 400 && text.contains(code), "{host}: {status} {text}");
            let head = format!("GET /a HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
            let response = i.send_bytes(head.as_bytes());
            assert_eq!((response.status, response.code().as_str()), (400, code), "{host}");
        }
        let other = get().header("host", "other").body(()).unwrap();
        assert_eq!(fetch(&i, other).await.0, 400, "two authorities");
        assert!(canary.seen().is_empty(), "{:?}", canary.seen());
        let same = Request::get("https://localhost:65535/a").header("host", "localhost:65535").header("x-a", "1 2");
        assert_eq!(fetch(&i, same.body(()).unwrap()).await.0, 200);
    });
}

#[test]
fn empty_lines_before_a_request_are_ignored() {
    let canary = Canary::start();
    let i = open(canary.address);
    let last = "GET /b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let response = i.send_bytes(format!("\r\n{last}").as_bytes());
    assert_eq!(response.status, 200, "{response:?}");
    // After a body, as old browsers send them, and split in two.
    let mut stream = connect(i.tls, &i.authority(), rustls::ALL_VERSIONS).unwrap();
    stream.write_all(b"POST /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nWiki\r\n\r").unwrap();
    eventually("the first request", || (canary.seen().len() == 2).then_some(()));
    stream.write_all(format!("\n{last}").as_bytes()).unwrap();
    let mut responses = String::new();
    let _ = stream.read_to_string(&mut responses);
    assert_eq!(responses.matches("HTTP/1.1 200 ").count(), 2, "{responses}");
    let response = i.send_bytes(format!("{}{last}", "\r\n".repeat(20)).as_bytes());
    assert_eq!(response.status, 400, "their number is limited");
    assert_eq!(canary.seen().len(), 3);
}

#[test]
fn white_space_after_a_header_name_is_removed_from_an_applications_response() {
    let (address, _) = app(b"HTTP/1.1 200 OK\r\nX-A : 1\r\nContent-Length : 2\r\nServer \t: x\r\n\r\nok");
    let response = open(address).send(&client::Request::new("GET", "/a"));
    assert_eq!((response.status, response.header("x-a"), &response.body[..]), (200, Some("1"), &b"ok"[..]));
    assert!(response.header("server").is_none() && !response.head.contains(" :"), "{}", response.head);
    let (address, _) =
        app(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding : chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n");
    assert_eq!(open(address).send(&client::Request::new("GET", "/a")).status, 502, "it still counts as framing");
}

#[test]
fn the_log_names_an_application_that_sends_two_lengths() {
    let (address, _) =
        app(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n");
    let i = open(address);
    assert_eq!(i.send(&client::Request::new("GET", "/a")).status, 502);
    let said = eventually("the log", || {
        let log = i.stderr();
        log.lines().find(|line| line.contains("a request failed")).map(str::to_owned)
    });
    assert!(said.contains("both Content-Length and Transfer-Encoding") && said.contains("only one of them"), "{said}");
}

#[test]
fn an_application_may_send_many_informational_responses_before_its_answer() {
    const MANY: usize = 200;
    let many: &'static [u8] = [&b"HTTP/1.1 102 Processing\r\n\r\n".repeat(MANY)[..], OK].concat().leak();
    let response = open(app(many).0).send(&client::Request::new("GET", "/a"));
    assert_eq!((response.status, &response.body[..]), (200, &b"ok"[..]), "{}", response.head);
    assert!(!response.head.contains("102"), "{}", response.head);
    let endless: &'static [u8] = [&b"HTTP/1.1 102 Processing\r\n\r\n".repeat(2_000)[..], OK].concat().leak();
    assert_eq!(open(app(endless).0).send(&client::Request::new("GET", "/a")).status, 502);
}

#[test]
fn early_hints_reach_only_browsers_that_open_a_page() {
    let early = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nX-Secret: 1\r\n\r\n";
    let i = open(app([&early[..], OK].concat().leak()).0);
    run(async {
        for (mode, hints) in [("navigate", 1), ("cors", 0)] {
            let request = Request::get("https://localhost/a").header("sec-fetch-mode", mode).body(()).unwrap();
            let mut response = http2(&i).await.send_request(request, true).unwrap().0;
            let mut seen = Vec::new();
            while let Some(hint) = poll_fn(|cx| response.poll_informational(cx)).await {
                seen.push(hint.unwrap());
            }
            assert_eq!(seen.len(), hints, "{mode}: {seen:?}");
            for hint in seen {
                assert_eq!((hint.status().as_u16(), hint.headers().len()), (103, 1), "{hint:?}");
                assert_eq!(hint.headers()["link"], "</a.css>; rel=preload");
            }
            assert_eq!(response.await.unwrap().status(), 200);
        }
    });
    let request = client::Request::new("GET", "/a").header("Sec-Fetch-Mode", "navigate");
    assert_eq!(i.send(&request).status, 200, "over HTTP/1, where some clients would mistake them for the answer");
}

#[test]
fn successive_posts_share_connections_to_an_application_that_keeps_them_open() {
    let (address, taken) = app(OK);
    let i = open(address);
    let mut stream = connect(i.tls, &i.authority(), rustls::ALL_VERSIONS).unwrap();
    let mut buffer = [0; 4096];
    let mut post = || {
        stream.write_all(b"POST /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n").unwrap();
        let mut response = Vec::new();
        while !response.ends_with(b"ok") {
            let n = stream.read(&mut buffer).unwrap();
            assert!(n > 0, "the connection was closed");
            response.extend_from_slice(&buffer[..n]);
        }
    };
    let start = Instant::now();
    let mut posts = 0;
    // The first requests show that the application keeps its connections open.
    while start.elapsed() < Duration::from_millis(300) {
        post();
    }
    let before = taken.load(Ordering::Relaxed);
    while posts < 280 {
        post();
        posts += 1;
    }
    let new = taken.load(Ordering::Relaxed) - before;
    assert!(new < 10, "{new} connections for 280 requests");
}

#[test]
fn a_post_never_goes_over_a_connection_that_its_application_may_have_closed() {
    // It closes the connection soon after each response, without announcing it.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let i = open(listener.local_addr().unwrap());
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(OK);
                // Time for the gateway to put the connection into its pool.
                thread::sleep(Duration::from_millis(2));
            });
        }
    });
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(600) {
        let request = client::Request::new("POST", "/a").body("");
        assert_eq!(i.send(&request).status, 200);
    }
}

#[test]
fn a_method_that_no_policy_can_name_gets_501() {
    let canary = Canary::start();
    let i = open(canary.address);
    for method in ["TRACE", "PROPFIND", "get", "BREW"] {
        let response = i.send(&client::Request::new(method, "/a"));
        assert_eq!((response.status, response.code().as_str()), (501, "unknown_method"), "{method}");
    }
    let other = i.send(&client::Request::new("PUT", "/a"));
    assert_eq!((other.status, other.code().as_str()), (405, "method_not_allowed"), "a policy could name it");
    assert_eq!(other.header("allow"), Some("GET, POST, HEAD"));
    run(async {
        let request = Request::builder().method("PROPFIND").uri("https://localhost/a").body(()).unwrap();
        assert_eq!(fetch(&i, request).await.0, 501);
    });
    assert!(canary.seen().is_empty());
}
