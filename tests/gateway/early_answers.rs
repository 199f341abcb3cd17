//! Answers before the request's body was read: an ordinary client, which sends everything before it reads, sees them.

use std::{
    future::poll_fn,
    io::{Read, Write},
    time::{Duration, Instant},
};

use bytes::Bytes;
use h2::{Reason, SendStream, client::SendRequest};
use http::{Method, Request};
use tokio::time::timeout;

use crate::{
    canary::{Canary, nobody},
    client::{connect, connect_http2},
    instance::Instance,
};

const POLICY: &str = r#"
[defaults]
credentials = ["api-key"]
max_body = "1MiB"
[cors]
origins = ["https://app.example"]
[[route]]
name = "open"
methods = ["GET", "POST"]
path = "/open/{*rest}"
credentials = []
anonymous = true
cors = true
[[route]]
name = "small"
methods = ["POST"]
path = "/small"
credentials = []
anonymous = true
max_body = "16"
[[route]]
name = "guarded"
methods = ["POST"]
path = "/guarded"
[[route]]
name = "limited"
methods = ["POST"]
path = "/limited"
credentials = []
anonymous = true
rates = [{ limit = "1/hour", by = "address" }]
"#;

/// The path, a header field and the response's status, for each kind of early response.
const DENIED: &[(&str, (&str, &str), u16)] = &[
    ("/guarded", ("x-a", "1"), 401),
    ("/open/a", ("origin", "https://evil.example"), 403),
    ("/nowhere", ("x-a", "1"), 404),
    ("/small", ("x-a", "1"), 413),
    ("/limited", ("x-a", "1"), 429),
];
const UPLOAD: usize = 500_000;

fn instance(upstream: &str, setting: &str) -> Instance {
    Instance::with(upstream, |i| {
        std::fs::write(i.path("policies/early.toml"), POLICY).unwrap();
        i.replace("policy = \"worker\"", "policy = \"early\"");
        for line in setting.lines() {
            let key = line.split(" = ").next().unwrap();
            let config = std::fs::read_to_string(i.path("config.toml")).unwrap();
            let old = config.lines().find(|old| old.starts_with(&format!("{key} = "))).unwrap().to_owned();
            i.replace(&old, line);
        }
    })
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

fn post(path: &str, (name, value): (&str, &str)) -> Request<()> {
    let request = Request::builder().method("POST").uri(format!("https://localhost{path}"));
    request.header(name, value).body(()).unwrap()
}

/// Sends `bytes` bytes as the windows allow. Fails with the number of bytes sent if the other side ends the stream.
async fn send_all(body: &mut SendStream<Bytes>, bytes: usize) -> Result<(), usize> {
    let mut left = bytes;
    while left > 0 {
        body.reserve_capacity(left.min(16 << 10));
        match poll_fn(|cx| body.poll_capacity(cx)).await {
            Some(Ok(room)) => {
                let piece = room.min(left);
                left -= piece;
                body.send_data(Bytes::from(vec![b'x'; piece]), left == 0).map_err(|_| bytes - left)?;
            }
            _ => return Err(bytes - left),
        }
    }
    Ok(())
}

/// Sends the whole request, then reads.
async fn upload(sender: &SendRequest<Bytes>, request: Request<()>, bytes: usize) -> (u16, String) {
    let (response, mut body) = sender.clone().ready().await.unwrap().send_request(request, false).unwrap();
    send_all(&mut body, bytes).await.unwrap_or_else(|sent| panic!("the stream has ended after {sent} bytes"));
    let response = timeout(Duration::from_secs(20), response).await.expect("no response").unwrap();
    let status = response.status().as_u16();
    let mut stream = response.into_body();
    let mut text = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data.expect("the response was cut short");
        stream.flow_control().release_capacity(data.len()).unwrap();
        text.extend_from_slice(&data);
    }
    (status, String::from_utf8(text).unwrap())
}

#[test]
fn over_http2_an_answer_is_seen_after_the_whole_body_was_sent() {
    // The upstream is slow, since otherwise its response could arrive before a body without a length exceeds the limit.
    let canary = Canary::with(Duration::from_secs(1));
    let i = instance(&canary.address.to_string(), "");
    let down = instance(&nobody().to_string(), "");
    run(async {
        let sender = http2(&i).await;
        upload(&sender, post("/limited", ("content-length", "1")), 1).await;
        for (path, field, status) in DENIED {
            for bytes in [30, UPLOAD] {
                let (seen, text) = upload(&sender, post(path, *field), bytes).await;
                assert!(seen == *status && text.contains("\"code\""), "{path}, {bytes}: {seen} {text}");
            }
        }
        let mut preflight = post("/open/a", ("origin", "https://app.example"));
        *preflight.method_mut() = Method::OPTIONS;
        preflight.headers_mut().insert("access-control-request-method", "GET".parse().unwrap());
        assert_eq!(upload(&sender, preflight, UPLOAD).await.0, 204);
        let (seen, text) = upload(&http2(&down).await, post("/open/a", ("x-a", "1")), UPLOAD).await;
        assert!(seen == 502 && text.contains("upstream_unreachable"), "{seen} {text}");
    });
    // A body that exceeds the limit later has been forwarded in part.
    let denied = |path: &str| !["/limited", "/small"].contains(&path);
    assert!(!canary.seen().iter().any(|seen| denied(seen.target())), "{:?}", canary.seen());
    assert_eq!(canary.seen().iter().filter(|seen| seen.target() == "/limited").count(), 1);
}

#[test]
fn over_http2_an_answer_does_not_wait_for_the_body_and_the_rest_does_not_count_as_a_request() {
    let canary = Canary::start();
    let i = instance(&canary.address.to_string(), "max_requests = 2");
    run(async {
        let sender = http2(&i).await;
        // Streams whose clients have their responses and continue to send.
        let mut open = Vec::new();
        for _ in 0..8 {
            let request = post("/guarded", ("content-length", "500000"));
            let (response, mut body) = sender.clone().ready().await.unwrap().send_request(request, false).unwrap();
            body.send_data(Bytes::from_static(b"first"), false).unwrap();
            assert_eq!(
                timeout(Duration::from_secs(5), response)
                    .await
                    .expect("the response waits for the body")
                    .unwrap()
                    .status(),
                401
            );
            open.push(body);
        }
        assert_eq!(upload(&sender, post("/open/a", ("x-a", "1")), 4).await.0, 200, "requests are still admitted");
        for body in &mut open {
            send_all(body, UPLOAD - 5).await.expect("a stream was reset while its body was arriving");
        }
    });
}

/// Returns how a stream ends if its client sends `bytes` bytes after the response.
async fn end_of(sender: &SendRequest<Bytes>, bytes: usize) -> Reason {
    let (response, mut body) =
        sender.clone().ready().await.unwrap().send_request(post("/guarded", ("x-a", "1")), false).unwrap();
    assert_eq!(response.await.unwrap().status(), 401);
    let sent = timeout(Duration::from_secs(20), send_all(&mut body, bytes)).await.expect("windows are kept");
    assert!(bytes < 20 << 20 || sent.is_err(), "all of it was read");
    timeout(Duration::from_secs(20), poll_fn(|cx| body.poll_reset(cx))).await.expect("the stream is kept").unwrap()
}

#[test]
fn over_http2_discarded_bodies_have_limits() {
    let canary = Canary::start();
    let i = instance(&canary.address.to_string(), "");
    run(async {
        let sender = http2(&i).await;
        assert_eq!(end_of(&sender, 64 << 20).await, Reason::NO_ERROR);
        let (response, mut silent) =
            sender.clone().ready().await.unwrap().send_request(post("/guarded", ("x-a", "1")), false).unwrap();
        assert_eq!(response.await.unwrap().status(), 401);
        let begun = Instant::now();
        let reset =
            timeout(Duration::from_secs(20), poll_fn(|cx| silent.poll_reset(cx))).await.expect("the stream is kept");
        assert_eq!(reset.unwrap(), Reason::NO_ERROR);
        assert!(begun.elapsed() > Duration::from_secs(2), "the stream was reset too early");
        assert_eq!(upload(&sender, post("/open/a", ("x-a", "1")), 4).await.0, 200, "the connection continues");
    });
}

#[test]
fn over_http2_a_client_may_cancel_every_upload_that_was_refused() {
    let canary = Canary::start();
    let i = instance(&canary.address.to_string(), "");
    run(async {
        let sender = http2(&i).await;
        // As curl does, and more often than a client may cancel unanswered requests.
        for n in 0..600 {
            let mut ready = sender.clone().ready().await.unwrap_or_else(|e| panic!("{n} were answered: {e}"));
            let (response, mut body) = ready.send_request(post("/guarded", ("x-a", "1")), false).unwrap();
            body.send_data(Bytes::from_static(b"first"), false).unwrap();
            let response = response.await.unwrap_or_else(|e| panic!("{n} were answered: {e}"));
            assert_eq!(response.status(), 401);
            body.send_reset(Reason::CANCEL);
        }
    });
}

#[test]
fn over_http1_an_answer_is_seen_after_the_whole_body_was_sent() {
    let canary = Canary::start();
    let i = instance(&canary.address.to_string(), "");
    let down = instance(&nobody().to_string(), "");
    let upload = |i: &Instance, path: &str, (name, value): (&str, &str), bytes: usize| {
        let mut stream = connect(i.tls, &i.authority(), rustls::ALL_VERSIONS).unwrap();
        let head =
            format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n{name}: {value}\r\nContent-Length: {bytes}\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        for _ in 0..bytes / 10_000 {
            stream.write_all(&[b'x'; 10_000]).unwrap_or_else(|e| panic!("{path}: {e}"));
        }
        let mut response = Vec::new();
        let _ = stream.read_to_end(&mut response);
        String::from_utf8(response).unwrap()
    };
    let first = upload(&i, "/limited", ("connection", "close"), 10_000);
    assert!(first.starts_with("HTTP/1.1 200 "), "{first}");
    for (path, field, status) in DENIED {
        let seen = upload(&i, path, *field, 8_000_000);
        assert!(seen.starts_with(&format!("HTTP/1.1 {status} ")) && seen.ends_with('}'), "{path}: {seen}");
    }
    let seen = upload(&down, "/open/a", ("x-a", "1"), 1_000_000);
    assert!(seen.starts_with("HTTP/1.1 502 ") && seen.ends_with('}'), "{seen}");
    let seen = upload(&i, "/%2e", ("x-a", "1"), 8_000_000);
    assert!(seen.starts_with("HTTP/1.1 400 ") && seen.ends_with('}'), "{seen}");
}

#[test]
fn over_http1_discarded_bodies_have_limits() {
    let canary = Canary::start();
    let i = instance(&canary.address.to_string(), "");
    let mut stream = connect(i.tls, &i.authority(), rustls::ALL_VERSIONS).unwrap();
    let head = format!("POST /guarded HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", 256 << 20);
    stream.write_all(head.as_bytes()).unwrap();
    let mut response = vec![0; 4096];
    let piece = vec![b'x'; 16 << 10];
    let read = stream.read(&mut response).unwrap();
    assert!(
        response[..read].starts_with(b"HTTP/1.1 401 ") && response[..read].ends_with(b"}"),
        "the response waits for the body"
    );
    let sent = (0..256 << 6).take_while(|_| stream.write_all(&piece).is_ok()).count();
    // The data in the kernels' buffers on both sides was never read.
    assert!((16 << 6..64 << 6).contains(&sent), "{sent} pieces of 16 KiB");
}

#[test]
fn over_http1_a_connection_stays_open_after_a_chunked_body_only_if_the_answer_said_so() {
    let canary = Canary::start();
    let i = instance(&canary.address.to_string(), "");
    for (chunks, ends) in [(&["5\r\nfirst\r\n", "0\r\n\r\n"][..], false), (&["5\r\nfirst\r\n"], true)] {
        let mut stream = connect(i.tls, &i.authority(), rustls::ALL_VERSIONS).unwrap();
        let head = "POST /guarded HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
        stream.write_all(format!("{head}{}", chunks.concat()).as_bytes()).unwrap();
        let mut response = vec![0; 4096];
        let read = stream.read(&mut response).unwrap();
        let response = String::from_utf8(response[..read].to_vec()).unwrap();
        assert!(response.starts_with("HTTP/1.1 401 ") && response.ends_with('}'), "{response}");
        assert_eq!(response.contains("connection: close"), ends, "{response}");
        if ends {
            // Many such connections close while their clients are still sending.
            stream.write_all(format!("7a120\r\n{}\r\n0\r\n\r\n", "x".repeat(UPLOAD)).as_bytes()).unwrap();
        } else {
            stream
                .write_all(
                    b"POST /open/a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
                )
                .unwrap();
        }
        let mut rest = String::new();
        let _ = stream.read_to_string(&mut rest);
        assert_eq!(rest.starts_with("HTTP/1.1 200 "), !ends, "{rest}");
    }
}

#[test]
fn over_http2_100_continue_is_sent_only_if_the_body_is_wanted() {
    let canary = Canary::start();
    let i = instance(&canary.address.to_string(), "");
    run(async {
        let sender = http2(&i).await;
        let fetch = async |path: &str| {
            let mut request = post(path, ("expect", "100-continue"));
            request.headers_mut().insert("content-length", 4.into());
            let (mut response, body) = sender.clone().ready().await.unwrap().send_request(request, false).unwrap();
            let word = timeout(Duration::from_secs(5), poll_fn(|cx| response.poll_informational(cx))).await;
            (word.expect("no interim response arrived").map(|word| word.unwrap().status().as_u16()), response, body)
        };
        let (word, response, mut body) = fetch("/open/a").await;
        assert_eq!(word, Some(100));
        body.send_data(Bytes::from_static(b"Wiki"), true).unwrap();
        assert_eq!(response.await.unwrap().status(), 200);
        let (word, response, _) = fetch("/guarded").await;
        assert_eq!((word, response.await.unwrap().status().as_u16()), (None, 401));
    });
    let seen = canary.only();
    assert_eq!(seen.header("expect").len(), 0);
}
