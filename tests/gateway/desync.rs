//! Each answer belongs to its request: no part of a request is ever read as another request, on either side of the gateway.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::Duration,
};

use bytes::Bytes;

use crate::{
    client::{Request, connect, connect_http2},
    instance::Instance,
};

/// A policy with one route that accepts any method and streams bodies.
const OPEN: &str = "[defaults]\nmax_body = \"100MiB\"\n[[route]]\nname = \"all\"\nmethods = [\"GET\", \"POST\", \"PUT\"]\npath = \"/{*rest}\"\ncredentials = []\nanonymous = true\n";

fn open(upstream: SocketAddr) -> Instance {
    Instance::with(&upstream.to_string(), |i| {
        std::fs::write(i.path("policies/open.toml"), OPEN).unwrap();
        i.replace("policy = \"worker\"", "policy = \"open\"");
    })
}

/// Starts an upstream that calls `serve` with the number of each connection, on a separate thread.
fn upstream(serve: impl Fn(usize, TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for (n, stream) in listener.incoming().flatten().enumerate() {
            let serve = Arc::clone(&serve);
            thread::spawn(move || serve(n, stream));
        }
    });
    address
}

/// Reads until the bytes end with `end`; `None` at the end of the connection.
fn read_until(stream: &mut TcpStream, end: &[u8]) -> Option<String> {
    let mut seen = Vec::new();
    let mut byte = [0; 1];
    while !seen.ends_with(end) {
        if !matches!(stream.read(&mut byte), Ok(1)) {
            return None;
        }
        seen.push(byte[0]);
    }
    Some(String::from_utf8_lossy(&seen).into_owned())
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn a_request_whose_body_is_spent_is_not_retried_without_it() {
    let heads: Arc<Mutex<Vec<String>>> = Arc::default();
    let theirs = Arc::clone(&heads);
    let address = upstream(move |n, mut stream| {
        while let Some(head) = read_until(&mut stream, b"\r\n\r\n") {
            let put = head.contains("content-length: 40\r\n");
            theirs.lock().unwrap().push(head);
            // The first connection closes without a response once it has a complete body; others answer first, then read it.
            if n > 0 || !put {
                let _ = stream.write_all(OK);
            }
            if put {
                let _ = stream.read_exact(&mut [0; 40]);
            }
            if put && n == 0 {
                return;
            }
        }
    });
    let i = open(address);
    assert_eq!(i.send(&Request::new("GET", "/first")).status, 200);
    let put = i.send(&Request::new("PUT", "/file").body(&"x".repeat(40)));
    assert_eq!(i.send(&Request::new("GET", "/last")).status, 200);
    let heads = heads.lock().unwrap();
    let lines: Vec<_> = heads.iter().map(|head| head.lines().next().unwrap()).collect();
    // Otherwise the next request on the second connection would be read as the body, whoever sent it.
    assert_eq!(lines, ["GET /first HTTP/1.1", "PUT /file HTTP/1.1", "GET /last HTTP/1.1"]);
    assert_eq!(put.status, 502);
}

#[test]
fn a_body_that_ends_with_an_empty_frame_ends_once() {
    let seen: Arc<Mutex<Vec<u8>>> = Arc::default();
    let theirs = Arc::clone(&seen);
    let address = upstream(move |_, mut stream| {
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = stream.read(&mut buffer) {
            let mut seen = theirs.lock().unwrap();
            seen.extend_from_slice(&buffer[..n]);
            if seen.ends_with(b"0\r\n\r\n") {
                let _ = stream.write_all(OK);
            }
        }
    });
    let i = open(address);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = connect_http2(i.tls, &i.authority()).await;
        let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let request = http::Request::builder().method("PUT").uri("https://localhost/a").body(()).unwrap();
        let (response, mut body) = sender.send_request(request, false).unwrap();
        body.send_data(Bytes::from_static(b"Wiki"), false).unwrap();
        let forwarded = async {
            while !String::from_utf8_lossy(&seen.lock().unwrap()).contains("Wiki") {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(40), forwarded).await.expect("the first frame is forwarded");
        body.send_data(Bytes::new(), true).unwrap();
        assert_eq!(response.await.unwrap().status(), 200);
    });
    // Long enough for a second end, which must not come.
    thread::sleep(Duration::from_millis(200));
    let seen = String::from_utf8(seen.lock().unwrap().clone()).unwrap();
    assert!(seen.ends_with("\r\n\r\n4\r\nWiki\r\n0\r\n\r\n"), "{seen}");
}

#[test]
fn a_request_whose_end_comes_after_its_last_byte_is_not_reset() {
    let address = upstream(|_, mut stream| {
        while read_until(&mut stream, b"Wiki").is_some() {
            let _ = stream.write_all(OK);
        }
    });
    let i = open(address);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = connect_http2(i.tls, &i.authority()).await;
        let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let request = http::Request::builder().method("PUT").uri("https://localhost/a").header("content-length", 4);
        let (response, mut body) = sender.send_request(request.body(()).unwrap(), false).unwrap();
        body.send_data(Bytes::from_static(b"Wiki"), false).unwrap();
        let mut response = response.await.unwrap().into_body();
        while let Some(data) = response.data().await {
            data.unwrap();
        }
        // The whole response is here; the client has not yet ended its body.
        let reset = std::future::poll_fn(|cx| body.poll_reset(cx));
        let reset = tokio::time::timeout(Duration::from_millis(200), reset).await;
        assert!(reset.is_err(), "{reset:?}");
        body.send_data(Bytes::new(), true).unwrap();
    });
}

#[test]
fn no_request_is_lost_among_many_that_arrive_together() {
    let (begins, begun) = mpsc::channel();
    let address = upstream(move |_, mut stream| {
        while let Some(head) = read_until(&mut stream, b"\r\n\r\n") {
            if head.starts_with("POST") {
                begins.send(()).unwrap();
                let _ = stream.read_exact(&mut [0; 10]);
            }
            let _ = stream.write_all(OK);
        }
    });
    let i = open(address);
    let mut stream = connect(i.tls, &i.authority(), rustls::ALL_VERSIONS).unwrap();
    stream.write_all(b"POST /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n").unwrap();
    // The body, followed by more requests than are read at once.
    let next = |n| format!("GET /{n} HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "a".repeat(500));
    let mut bytes = "0123456789".to_owned();
    bytes.extend((0..24).map(next));
    bytes.push_str("GET /last HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    begun.recv_timeout(Duration::from_secs(40)).expect("the head is forwarded before the body");
    stream.write_all(bytes.as_bytes()).unwrap();
    let mut responses = Vec::new();
    let _ = stream.read_to_end(&mut responses);
    let responses = String::from_utf8_lossy(&responses);
    assert_eq!(responses.matches("HTTP/1.1 200 OK").count(), 26, "{responses}");
}

#[test]
fn to_http_1_0_an_answer_that_is_cut_short_does_not_end_like_a_complete_one() {
    let (ends, ended) = mpsc::channel();
    let ended = Mutex::new(ended);
    let address = upstream(move |_, mut stream| {
        let _ = read_until(&mut stream, b"\r\n\r\n");
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nonly this\r\n");
        // The connection is cut off once the client has read this.
        let _ = ended.lock().unwrap().recv_timeout(Duration::from_secs(40));
    });
    let i = open(address);
    let mut stream = connect(i.tls, &i.authority(), rustls::ALL_VERSIONS).unwrap();
    stream.write_all(b"GET /a HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
    let mut response = Vec::new();
    while !response.ends_with(b"only this") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        response.push(byte[0]);
    }
    ends.send(()).unwrap();
    let end = stream.read_to_end(&mut response);
    let response = String::from_utf8_lossy(&response);
    assert!(response.ends_with("only this"), "{response}");
    assert!(end.is_err(), "the end of the connection looks like the end of the response");
}

#[test]
fn an_upload_that_makes_progress_is_not_silence() {
    let address = upstream(|_, mut stream| {
        // Always slower than the client, and never silent for long.
        let _ = read_until(&mut stream, b"\r\n\r\n");
        let mut buffer = vec![0; 256 * 1024];
        let mut left = 40 << 20;
        while left > 0 {
            let Ok(n @ 1..) = stream.read(&mut buffer) else { return };
            left -= n;
            // The pace of the upstream is the subject.
            thread::sleep(Duration::from_millis(10));
        }
        let _ = stream.write_all(OK);
    });
    let i = Instance::with(&address.to_string(), |i| {
        std::fs::write(i.path("policies/open.toml"), OPEN).unwrap();
        i.replace("policy = \"worker\"", "policy = \"open\"");
        i.replace("timeout = \"60s\"   #", "timeout = \"1s\" #");
    });
    let mut stream = connect(i.tls, &i.authority(), rustls::ALL_VERSIONS).unwrap();
    let size = 40 << 20;
    let head = format!("PUT /a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {size}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let started = std::time::Instant::now();
    let piece = vec![b'x'; 64 * 1024];
    for _ in 0..size / piece.len() {
        if stream.write_all(&piece).is_err() {
            break;
        }
    }
    let mut response = String::new();
    let _ = stream.read_to_string(&mut response);
    assert!(response.starts_with("HTTP/1.1 200 "), "after {:?}: {response}", started.elapsed());
    assert!(started.elapsed() > Duration::from_secs(1), "it was too fast to show anything: {:?}", started.elapsed());
}

#[test]
fn a_denial_that_ends_the_connection_is_not_lost_while_the_client_still_sends() {
    let address = upstream(|_, _| ());
    let i = open(address);
    for request in
        ["GET /a HTTP/1.1\r\nHost: a..b.\r\n\r\n", "GET /%2e HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"]
    {
        let mut lost = 0;
        for _ in 0..20 {
            let mut stream = connect(i.tls, &i.authority(), rustls::ALL_VERSIONS).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            for _ in 0..16 {
                if stream.write_all(&[b'x'; 16 * 1024]).is_err() {
                    break;
                }
                // The client still sends while it is refused.
                thread::sleep(Duration::from_millis(1));
            }
            let mut response = Vec::new();
            let _ = stream.read_to_end(&mut response);
            lost += usize::from(!response.starts_with(b"HTTP/1.1 400 "));
        }
        assert_eq!(lost, 0, "of 20 answers to {request:?}");
    }
}

#[test]
fn a_request_is_not_retried_once_the_application_has_begun_to_answer() {
    let puts = Arc::new(Mutex::new(0));
    let theirs = Arc::clone(&puts);
    let address = upstream(move |_, mut stream| {
        while let Some(head) = read_until(&mut stream, b"\r\n\r\n") {
            if head.starts_with("PUT") {
                *theirs.lock().unwrap() += 1;
                let _ = stream.write_all(b"HTTP/1.1 102 Processing\r\n\r\n");
                return;
            }
            let _ = stream.write_all(OK);
        }
    });
    let i = open(address);
    assert_eq!(i.send(&Request::new("GET", "/first")).status, 200);
    assert_eq!(i.send(&Request::new("PUT", "/file")).status, 502);
    assert_eq!(*puts.lock().unwrap(), 1);
}

#[test]
fn an_answer_without_a_body_has_no_content_length() {
    let address = upstream(|_, mut stream| {
        while read_until(&mut stream, b"\r\n\r\n").is_some() {
            let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n");
        }
    });
    let response = open(address).send(&Request::new("GET", "/a"));
    assert_eq!((response.status, response.header("content-length")), (204, None));
}
