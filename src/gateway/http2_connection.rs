//! The life of an HTTP/2 connection: it takes streams, and ends when it idles, drains, or does what no honest client does.

use std::{
    io,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use http::header;
use pingora::{
    http::RequestHeader,
    protocols::{
        Digest,
        http::v2::server::{H2Accept, H2Options, HttpSession, default_h2_options, handshake},
    },
    server::ShutdownWatch,
};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::{
    client::{Client, Speaks},
    exchange::{Exchange, Peer},
    handle::{Gateway, deny, handle},
    http2::Http2,
    refusal::Refusal,
};
use crate::{
    edge::{Downstream, Inspect, slots::Activity},
    message::{FrameWatch, MAX_HEAD_BYTES, RequestHead, Version},
    policy::Denial,
    stop::stopped,
};

/// The preface and the first settings take no longer.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection is looked at so often,
const TICK: Duration = Duration::from_secs(5);
/// and closed when it has had no stream for so many times in a row: two minutes.
const MAX_IDLE_TICKS: u32 = 24;
const MAX_STREAMS: u32 = 100;
/// So many streams a client may have the gateway reset by breaking their rules (CVE-2025-8671, "MadeYouReset").
const MAX_PROVOKED_RESETS: usize = 100;
/// So many streams may break the rules before the connection is cut off.
const MAX_MALFORMED_STREAMS: u32 = 32;
/// What a client may send of a body before it was asked for: of one stream, and of all together.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// What waits for the reader of one stream at most.
const SEND_BUFFER_BYTES: usize = 64 * 1024;

/// Serves a client until either side ends.
///
/// Accepting is also what moves every byte of the connection, and so goes on until there is nothing left to move.
pub(super) async fn serve(
    mut stream: Downstream,
    peer: Peer,
    gateway: Arc<Gateway>,
    activity: Arc<Activity>,
    mut stop: ShutdownWatch,
) {
    let watch = Arc::new(Mutex::new(FrameWatch::default()));
    stream.inspect(inspector(Arc::clone(&watch)));
    let shaken = timeout(HANDSHAKE_TIMEOUT, handshake(Box::new(stream), Some(options()))).await;
    let Ok(Ok(mut connection)) = shaken else { return };
    let streams = Streams { tasks: TaskTracker::new(), peer, gateway, activity };
    let (digest, mut life) = (Arc::new(Digest::default()), Life::default());
    let mut tick = tokio::time::interval(TICK);
    let mut stopping = pin!(stopped(&mut stop));
    loop {
        let accepted = tokio::select! {
            accepted = HttpSession::from_h2_conn(&mut connection, Arc::clone(&digest)) => accepted,
            () = &mut stopping, if !life.closing => {
                life.closing = true;
                connection.graceful_shutdown();
                continue;
            }
            _ = tick.tick() => {
                match life.tick(&streams.tasks, &watch) {
                    Verdict::GoOn => {}
                    Verdict::Close => connection.graceful_shutdown(),
                    Verdict::Cut => return,
                }
                continue;
            }
        };
        match accepted {
            Ok(Some(H2Accept::Session(session))) => streams.start(session),
            Ok(Some(H2Accept::Rejected)) if life.malformed < MAX_MALFORMED_STREAMS => life.malformed += 1,
            Ok(Some(H2Accept::Rejected) | None) | Err(_) => return,
        }
        life.idle_ticks = 0;
    }
}

fn options() -> H2Options {
    let mut options = default_h2_options();
    options
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(u32::try_from(MAX_HEAD_BYTES).unwrap_or(u32::MAX))
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER_BYTES)
        .max_local_error_reset_streams(Some(MAX_PROVOKED_RESETS));
    options
}

fn inspector(watch: Arc<Mutex<FrameWatch>>) -> Inspect {
    Box::new(move |bytes| {
        let seen = watch.lock().unwrap_or_else(PoisonError::into_inner).see(bytes, Instant::now());
        seen.map_err(|fault| {
            debug!(%fault, "an HTTP/2 connection is cut off");
            io::Error::other(fault)
        })
    })
}

#[derive(Debug, Default)]
struct Life {
    closing: bool,
    idle_ticks: u32,
    malformed: u32,
}

enum Verdict {
    GoOn,
    Close,
    Cut,
}

impl Life {
    fn tick(&mut self, tasks: &TaskTracker, watch: &Mutex<FrameWatch>) -> Verdict {
        let mut watch = watch.lock().unwrap_or_else(PoisonError::into_inner);
        watch.forgive();
        self.idle_ticks = if tasks.is_empty() { self.idle_ticks + 1 } else { 0 };
        if watch.judge_block(Instant::now()).is_err() || (self.closing && self.idle_ticks > 1) {
            return Verdict::Cut;
        }
        if self.closing || self.idle_ticks < MAX_IDLE_TICKS {
            return Verdict::GoOn;
        }
        (self.closing, self.idle_ticks) = (true, 0);
        Verdict::Close
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
        let (gateway, activity, peer) = (Arc::clone(&self.gateway), Arc::clone(&self.activity), self.peer.clone());
        self.tasks.spawn(async move {
            let _busy = activity.begin();
            let limits = gateway.live.rules.load().config.limits;
            let http2 = Box::new(Http2::new(session, limits.send_timeout));
            let head = request_head(http2.request());
            let mut client = Client::new(Speaks::Http2(http2), limits.min_body_rate);
            if let Err(fault) = head.judge_size() {
                let mut exchange = Exchange::new(&gateway.live, head, peer);
                let refusal = Refusal::from(fault);
                let denial = Denial { detail: refusal.detail(), ..exchange.denial(refusal.reason()) };
                let _ = deny(&mut client, &mut exchange, denial).await;
                return;
            }
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
