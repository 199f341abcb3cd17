//! HTTP/2: pingora's sessions, one a stream, in a loop of our own that drains and that ends what idles.

use std::{
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, header};
use pingora::{
    http::{RequestHeader, ResponseHeader},
    protocols::{
        Digest,
        http::v2::server::{H2Accept, HttpSession, handshake},
    },
    server::ShutdownWatch,
};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::{
    client::{Answer, Client, ClientFault, Speaks},
    exchange::Peer,
    handle::{Gateway, handle},
};
use crate::{
    edge::{Downstream, slots::Activity},
    message::{Framing, RequestHead, ResponseHead, Version},
    stop::stopped,
};

/// The preface and the first settings take no longer.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection without a stream is looked at so often, and closed when that was so for the fourth time in a row.
const IDLE_TICK: Duration = Duration::from_secs(30);
const MAX_IDLE_TICKS: u32 = 4;
/// A client that takes nothing of an answer for so long is given up.
const STALL_TIMEOUT: Duration = Duration::from_mins(1);
/// So many streams may break the rules before the connection is cut off.
const MAX_MALFORMED_STREAMS: u32 = 32;

/// One stream.
pub(super) struct Http2 {
    session: HttpSession,
    body_done: bool,
}

/// Serves a client until either side ends.
///
/// Accepting is also what moves every byte of the connection, and so goes on until there is nothing left to move.
pub(super) async fn serve(
    stream: Downstream,
    peer: Peer,
    gateway: Arc<Gateway>,
    activity: Arc<Activity>,
    mut stop: ShutdownWatch,
) {
    let Ok(Ok(mut connection)) = timeout(HANDSHAKE_TIMEOUT, handshake(Box::new(stream), None)).await else { return };
    let streams = Streams { tasks: TaskTracker::new(), peer, gateway, activity };
    let (digest, mut malformed, mut idle, mut closing) = (Arc::new(Digest::default()), 0, 0, false);
    let mut tick = tokio::time::interval(IDLE_TICK);
    let mut stopping = pin!(stopped(&mut stop));
    loop {
        let accepted = tokio::select! {
            accepted = HttpSession::from_h2_conn(&mut connection, Arc::clone(&digest)) => accepted,
            () = &mut stopping, if !closing => {
                closing = true;
                connection.graceful_shutdown();
                continue;
            }
            _ = tick.tick(), if !closing => {
                idle = if streams.tasks.is_empty() { idle + 1 } else { 0 };
                if idle > MAX_IDLE_TICKS {
                    closing = true;
                    connection.graceful_shutdown();
                }
                continue;
            }
        };
        idle = 0;
        match accepted {
            Ok(Some(H2Accept::Session(session))) => streams.start(session),
            Ok(Some(H2Accept::Rejected)) if malformed < MAX_MALFORMED_STREAMS => malformed += 1,
            Ok(Some(H2Accept::Rejected) | None) | Err(_) => return,
        }
    }
}

struct Streams {
    tasks: TaskTracker,
    peer: Peer,
    gateway: Arc<Gateway>,
    activity: Arc<Activity>,
}

impl Streams {
    fn start(&self, session: HttpSession) {
        let (gateway, activity, peer) = (Arc::clone(&self.gateway), Arc::clone(&self.activity), self.peer);
        self.tasks.spawn(async move {
            let _busy = activity.begin();
            let head = request_head(session.req_header());
            let http2 = Speaks::Http2(Box::new(Http2::new(session)));
            let mut client = Client::new(http2, gateway.live.config.limits.min_body_rate);
            handle(&gateway, &mut client, head, peer).await;
        });
    }
}

fn request_head(request: &RequestHeader) -> RequestHead {
    let target = String::from_utf8_lossy(request.raw_path()).into_owned();
    let host = request.uri.authority().map(|a| a.as_str().to_owned());
    let host = host.or_else(|| request.headers.get(header::HOST)?.to_str().ok().map(str::to_owned));
    RequestHead::new(request.method.clone(), target, host.unwrap_or_default(), request.headers.clone(), Version::Http2)
}

impl Http2 {
    fn new(mut session: HttpSession) -> Self {
        session.set_write_timeout(Some(STALL_TIMEOUT));
        let body_done = session.is_body_done();
        Self { session, body_done }
    }

    pub(super) fn framing(&self) -> Framing {
        if self.body_done {
            return Framing::Length(0);
        }
        declared_length(&self.session.req_header().headers).map_or(Framing::Chunked, Framing::Length)
    }

    pub(super) fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, ClientFault>> {
        let read = pin!(self.session.read_body_bytes()).poll(cx).map_err(|_| ClientFault::Gone);
        self.body_done |= matches!(read, Poll::Ready(Ok(None)));
        read
    }

    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        pin!(self.session.idle()).poll(cx).map(|_| ())
    }

    pub(super) fn start(&mut self, head: ResponseHead, end: bool) -> Result<(), ClientFault> {
        let (mut parts, ()) = http::Response::new(()).into_parts();
        (parts.status, parts.headers) = (head.status, head.headers);
        let head = Box::new(ResponseHeader::from(parts));
        let end = end || self.session.req_header().method == http::Method::HEAD;
        self.session.write_response_header(head, end).map_err(|_| ClientFault::Gone)
    }

    pub(super) async fn send(&mut self, data: Bytes) -> Result<(), ClientFault> {
        if data.is_empty() {
            return Ok(());
        }
        self.session.write_body(data, false).await.map_err(|_| ClientFault::Gone)
    }

    pub(super) fn finish(&mut self) -> Result<(), ClientFault> {
        self.session.finish().map_err(|_| ClientFault::Gone)
    }

    pub(super) async fn answer(&mut self, mut answer: Answer) -> Result<(), ClientFault> {
        let length = answer.body.len();
        if answer.head.status != http::StatusCode::NO_CONTENT {
            answer.head.headers.insert(header::CONTENT_LENGTH, length.into());
        }
        self.start(answer.head, length == 0)?;
        if length == 0 || self.session.req_header().method == http::Method::HEAD {
            return Ok(());
        }
        self.session.write_body(answer.body.into(), true).await.map_err(|_| ClientFault::Gone)
    }

    pub(super) fn abort(&mut self) {
        self.session.shutdown();
    }
}

fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
