//! The life of a client's connection: parked between requests, then handed to the proxy one request at a time.
//!
//! A parked connection costs its TLS state and a small future; pingora's session exists only while a request is on
//! its way. The request line is looked at before pingora sees it, since pingora repairs lines that it cannot parse.

use std::{future::poll_fn, mem::MaybeUninit, net::IpAddr, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;
use pingora::{
    apps::{HttpServerApp, ServerApp},
    protocols::http::ServerSession,
    proxy::HttpProxy,
    server::ShutdownWatch,
};
use serde_json::json;
use tokio::{
    io::{AsyncRead, AsyncWriteExt, ReadBuf},
    time::{Instant, Sleep, sleep, timeout},
};

use super::{live::Live, proxy::Gateway};
use crate::{
    edge::Downstream,
    observe::{
        RequestId,
        access_log::{AccessLog, Entry},
    },
    policy::Reason,
    stop::stopped,
};

/// How long a connection may wait for its next request.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// How long the request line may take once it has begun.
const LINE_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest request line: a URL of 8 KiB, a method and a version.
const MAX_LINE_BYTES: usize = 8 * 1024 + 64;
const READ_BYTES: usize = 4 * 1024;
/// An HTTP/2 connection without a stream is closed after so long.
pub(super) const HTTP2_IDLE_TIMEOUT: Duration = Duration::from_mins(2);

/// The proxy, and what answers without it need.
pub(super) struct Proxy {
    pub(super) proxy: Arc<HttpProxy<Gateway>>,
    pub(super) live: Arc<Live>,
}

/// What a parked connection wakes up to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wake {
    /// A request has begun.
    Request,
    /// The client is gone, or silent for too long.
    Closed,
    /// What came is no request line.
    Refused(LineFault),
}

/// Why a request line is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineFault {
    /// Not `METHOD SP TARGET SP HTTP/1.x CRLF` in visible ASCII (RFC 9112, section 3).
    Grammar,
    /// Too long.
    Length,
}

/// What ends the wait for a request: the end of patience, or of the gateway.
///
/// It is made once for a connection. To register timer and signal anew for each request would cost more than all else
/// that parking does.
pub(super) struct Vigil {
    stopped: Pin<Box<dyn Future<Output = ()> + Send>>,
    idle: Pin<Box<Sleep>>,
    since: Instant,
}

impl Vigil {
    pub(super) fn new(stop: &ShutdownWatch) -> Self {
        let mut stop = stop.clone();
        let stopped = Box::pin(async move { stopped(&mut stop).await });
        Self { stopped, idle: Box::pin(sleep(IDLE_TIMEOUT)), since: Instant::now() }
    }

    async fn over(&mut self) {
        let Self { stopped, idle, since } = self;
        tokio::select! {
            biased;
            () = stopped => {}
            () = idled(idle.as_mut(), *since) => {}
        }
    }
}

/// Ends when nothing has come since; the timer may still stand where an earlier wait has set it.
async fn idled(mut timer: Pin<&mut Sleep>, since: Instant) {
    loop {
        timer.as_mut().await;
        let due = since + IDLE_TIMEOUT;
        if Instant::now() >= due {
            return;
        }
        timer.as_mut().reset(due);
    }
}

/// Serves one client until either side ends.
pub(super) async fn serve(stream: Downstream, peer: IpAddr, front: Arc<Proxy>, stop: ShutdownWatch) {
    if stream.is_http2() {
        let _ = front.proxy.process_new(Box::new(stream), &stop).await;
        return;
    }
    let mut vigil = Vigil::new(&stop);
    let mut next = Some(Box::new(stream));
    while let Some(mut stream) = next.take() {
        match park(&mut stream, &mut vigil).await {
            Wake::Closed => return,
            Wake::Refused(fault) => return refuse(stream, peer, fault, &front.live.access_log).await,
            Wake::Request => next = one_request(stream, &front.proxy, &stop).await,
        }
    }
}

async fn one_request(
    stream: Box<Downstream>,
    proxy: &Arc<HttpProxy<Gateway>>,
    stop: &ShutdownWatch,
) -> Option<Box<Downstream>> {
    let mut session = ServerSession::new_http1(stream);
    session.set_keepalive(if *stop.borrow() { None } else { Some(IDLE_TIMEOUT.as_secs()) });
    let (stream, _) = proxy.process_new_http(session, stop).await?.consume();
    stream.into_any().downcast().ok()
}

/// Waits for the next request line, and leaves it unread.
pub(super) async fn park(stream: &mut Downstream, vigil: &mut Vigil) -> Wake {
    vigil.since = Instant::now();
    let first = tokio::select! {
        biased;
        first = read_some(stream) => first,
        () = vigil.over() => None,
    };
    let Some(first) = first else { return Wake::Closed };
    if let Some(end) = line_end(&first) {
        return judge(stream, first, end);
    }
    match timeout(LINE_TIMEOUT, rest_of_line(stream, first)).await {
        Ok(wake) => wake,
        Err(_) => Wake::Closed,
    }
}

async fn rest_of_line(stream: &mut Downstream, first: Vec<u8>) -> Wake {
    let mut bytes = first;
    loop {
        if bytes.len() > MAX_LINE_BYTES {
            return Wake::Refused(LineFault::Length);
        }
        let Some(more) = read_some(stream).await else { return Wake::Closed };
        bytes.extend_from_slice(&more);
        if let Some(end) = line_end(&bytes) {
            return judge(stream, bytes, end);
        }
    }
}

/// Judges the line that ends at `end`; what follows it is not looked at.
fn judge(stream: &mut Downstream, bytes: Vec<u8>, end: usize) -> Wake {
    match judge_line(bytes.get(..=end).unwrap_or_default()) {
        Ok(()) => {
            stream.unread(Bytes::from(bytes));
            Wake::Request
        }
        Err(fault) => Wake::Refused(fault),
    }
}

fn judge_line(line: &[u8]) -> Result<(), LineFault> {
    if line.len() > MAX_LINE_BYTES {
        return Err(LineFault::Length);
    }
    let line = line.strip_suffix(b"\r\n").ok_or(LineFault::Grammar)?;
    let mut parts = line.split(|b| *b == b' ');
    let (method, target, version) = (parts.next(), parts.next(), parts.next());
    let token = method.is_some_and(|m| {
        !m.is_empty() && m.iter().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b))
    });
    let visible = target.is_some_and(|t| !t.is_empty() && t.iter().all(|b| b.is_ascii_graphic() && *b != b'#'));
    let known = matches!(version, Some(b"HTTP/1.1" | b"HTTP/1.0"));
    if token && visible && known && parts.next().is_none() { Ok(()) } else { Err(LineFault::Grammar) }
}

/// Reads what is there; None at the end. The buffer lives on the stack until there is something to keep.
async fn read_some(stream: &mut Downstream) -> Option<Vec<u8>> {
    poll_fn(|cx| {
        let mut space = [MaybeUninit::<u8>::uninit(); READ_BYTES];
        let mut buffer = ReadBuf::uninit(&mut space);
        Pin::new(&mut *stream)
            .poll_read(cx, &mut buffer)
            .map(|read| read.ok().map(|()| buffer.filled().to_vec()).filter(|bytes| !bytes.is_empty()))
    })
    .await
}

fn line_end(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|b| *b == b'\n')
}

/// Answers what pingora never gets to see, and logs it like everything else.
async fn refuse(mut stream: Box<Downstream>, client: IpAddr, fault: LineFault, log: &AccessLog) {
    let (id, ts) = (RequestId::next(), Timestamp::now());
    let (status, answer) = refusal(fault, id);
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
    log.write(&Entry {
        ts,
        request_id: id.as_str(),
        client_ip: client,
        method: "",
        host: "",
        path: "",
        route: None,
        app: None,
        user: None,
        credential: None,
        decision: "deny",
        code: Some(Reason::BadPath.code()),
        status,
        bytes_in: 0,
        bytes_out: 0,
        duration: Duration::ZERO,
        upstream: None,
        tls: None,
        http: "HTTP/1.1",
        user_agent: None,
    });
}

fn refusal(fault: LineFault, id: RequestId) -> (u16, String) {
    let (status, title) = match fault {
        LineFault::Grammar => (400, "Bad Request"),
        LineFault::Length => (414, "URI Too Long"),
    };
    let body = json!({
        "type": "about:blank", "title": title, "status": status, "detail": Reason::BadPath.detail(),
        "instance": id.as_str(), "code": Reason::BadPath.code(),
    })
    .to_string();
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status} {title}\r\nContent-Type: application/problem+json\r\nContent-Length: {length}");
    let tail = format!("X-Request-Id: {id}\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n{body}");
    (status, format!("{head}\r\n{tail}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_line_is_three_parts_of_visible_ascii() {
        for line in [
            "GET / HTTP/1.1\r\n",
            "POST /a?b=%20 HTTP/1.0\r\n",
            "OPTIONS * HTTP/1.1\r\n",
            "GET https://h/ HTTP/1.1\r\n",
        ] {
            assert_eq!(judge_line(line.as_bytes()), Ok(()), "{line:?}");
        }
        for line in [
            "GET / HTTP/1.1\n",
            "GET /a b HTTP/1.1\r\n",
            "GET  / HTTP/1.1\r\n",
            "GET /é HTTP/1.1\r\n",
            "GET /\0 HTTP/1.1\r\n",
            "GET / HTTP/2.0\r\n",
            "GET /\r\n",
            "\r\n",
            "GET /#f HTTP/1.1\r\n",
            "G\tT / HTTP/1.1\r\n",
            "GET / HTTP/1.1 \r\n",
        ] {
            assert_eq!(judge_line(line.as_bytes()), Err(LineFault::Grammar), "{line:?}");
        }
        let long = format!("GET /{} HTTP/1.1\r\n", "a".repeat(9_000));
        assert_eq!(judge_line(long.as_bytes()), Err(LineFault::Length));
    }
}
