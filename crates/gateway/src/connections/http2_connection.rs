//! The life of an HTTP/2 connection: it accepts streams, and ends when it is idle, drains, or behaves as no honest client does.

use std::{
    io,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use h2::{
    RecvStream,
    server::{Builder, SendResponse},
};
use http::{Request, header, request::Parts, uri::PathAndQuery};
use parking_lot::Mutex;
use sallyport_core::{
    http1::{FrameWatch, Framing, HeadFault, MAX_HEAD_BYTES, RequestHead, Version},
    supervision::shutdown::stopped,
};
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};
use tokio_util::task::TaskTracker;
use tracing::debug;

use crate::{
    clients::{
        client::{Client, Protocol},
        http1_end::{AfterRequest, end},
        http2::{Ending, Http2},
        http2_transport::{Http2Connection, Server, handshake},
        leftovers::Allowance,
    },
    edge::{Downstream, Inspect, connection_limits::Activity},
    requests::{
        exchange::Peer,
        gateway::Gateway,
        handle::{handle, refuse},
    },
};

/// The longest that the preface and the first settings may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may still send after the connection has ended, such as a request that it began before it saw the GOAWAY. If the gateway
/// closed the socket at once, the system would reset the connection, and with it the responses that the client has not read yet.
const LAST_FRAMES_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a connection is checked.
const TICK: Duration = Duration::from_secs(5);
/// After this many checks in a row without a stream, a connection is closed: two minutes.
const MAX_IDLE_TICKS: u32 = 24;
const MAX_STREAMS: u32 = 100;
/// The maximum number of streams of a client that the gateway resets because they break the rules (CVE-2025-8671, "MadeYouReset").
const MAX_PROVOKED_RESETS: usize = 100;
/// The maximum number of streams that a client may open after it was told to open no more. More can be in flight than can be open at once.
const MAX_LATE_STREAMS: u32 = 2 * MAX_STREAMS;
/// The maximum number of heads that may violate the grammar before the connection is closed.
const MAX_MALFORMED_STREAMS: u32 = 32;
/// How many bytes a client may send before they are read: of one stream, and of all streams together.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// The maximum number of bytes that are buffered for the client of one stream.
const SEND_BUFFER_BYTES: usize = 64 * 1024;

/// Serves a client until either side closes the connection.
pub(crate) async fn serve(
    mut stream: Downstream,
    peer: Peer,
    gateway: Arc<Gateway>,
    activity: Arc<Activity>,
    stop: watch::Receiver<bool>,
) {
    let watch = Arc::new(Mutex::new(FrameWatch::default()));
    stream.inspect(inspector(Arc::clone(&watch)));
    let shaken = timeout(HANDSHAKE_TIMEOUT, handshake(stream, &options())).await;
    let Ok(Some(Http2Connection { connection, stream })) = shaken else { return };
    let streams = Streams::new(peer, gateway, activity, watch);
    if run(connection, &streams, stop).await == AfterRequest::Linger
        && let Ok(mut stream) = stream.await
    {
        let _ = timeout(LAST_FRAMES_TIMEOUT, end(&mut stream, AfterRequest::Linger)).await;
    }
}

/// Accepts streams until the connection ends, and returns how to close it.
///
/// `accept` also drives all of the connection's I/O, so it is called until there is none left.
async fn run(mut connection: Server, streams: &Streams, mut stop: watch::Receiver<bool>) -> AfterRequest {
    let mut life = Life::default();
    let mut tick = tokio::time::interval(TICK);
    let mut stopping = pin!(stopped(&mut stop));
    loop {
        let accepted = tokio::select! {
            accepted = connection.accept() => accepted,
            () = &mut stopping, if !life.closing => {
                life.closing = true;
                connection.graceful_shutdown();
                continue;
            }
            () = streams.over.notified() => {
                life.closing = true;
                life.shut_out = true;
                connection.graceful_shutdown();
                continue;
            }
            _ = tick.tick() => {
                match life.tick(&streams.tasks, &streams.watch) {
                    AfterCheck::GoOn => {}
                    AfterCheck::Close => connection.graceful_shutdown(),
                    AfterCheck::Cut => return AfterRequest::Cut,
                }
                continue;
            }
        };
        let (request, respond) = match accepted {
            None => return AfterRequest::Linger,
            Some(Err(_)) => return AfterRequest::Cut,
            Some(Ok(stream)) => stream,
        };
        life.malformed += u32::from(streams.start(request, respond).is_err());
        life.late += u32::from(life.shut_out);
        if life.malformed > MAX_MALFORMED_STREAMS || life.late > MAX_LATE_STREAMS {
            return AfterRequest::Cut;
        }
        life.idle_ticks = 0;
    }
}

fn options() -> Builder {
    let mut options = Builder::new();
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
    Box::new(move |bytes, sent| {
        let seen = watch.lock().see(bytes, sent, Instant::now());
        seen.map_err(|fault| {
            debug!(%fault, "closing an HTTP/2 connection that misbehaves");
            io::Error::other(fault)
        })
    })
}

#[derive(Debug, Default)]
struct Life {
    closing: bool,
    idle_ticks: u32,
    malformed: u32,
    /// The client is banned, and was told to open no more streams.
    shut_out: bool,
    /// Streams that the client has opened since.
    late: u32,
}

/// What a check of the connection leads to.
enum AfterCheck {
    GoOn,
    Close,
    Cut,
}

impl Life {
    fn tick(&mut self, tasks: &TaskTracker, watch: &Mutex<FrameWatch>) -> AfterCheck {
        let mut watch = watch.lock();
        watch.forgive();
        self.idle_ticks = if tasks.is_empty() { self.idle_ticks + 1 } else { 0 };
        if watch.judge_block(Instant::now()).is_err() || (self.closing && self.idle_ticks > 1) {
            return AfterCheck::Cut;
        }
        if self.closing || self.idle_ticks < MAX_IDLE_TICKS {
            return AfterCheck::GoOn;
        }
        self.closing = true;
        self.idle_ticks = 0;
        AfterCheck::Close
    }
}

struct Streams {
    tasks: TaskTracker,
    peer: Peer,
    gateway: Arc<Gateway>,
    activity: Arc<Activity>,
    allowance: Arc<Allowance>,
    /// Notified when the client is banned.
    over: Arc<Notify>,
    watch: Arc<Mutex<FrameWatch>>,
}

impl Streams {
    fn new(peer: Peer, gateway: Arc<Gateway>, activity: Arc<Activity>, watch: Arc<Mutex<FrameWatch>>) -> Self {
        Self {
            tasks: TaskTracker::new(),
            peer,
            gateway,
            activity,
            allowance: Arc::default(),
            over: Arc::default(),
            watch,
        }
    }

    /// Serves a request in its own task, which also answers a head that violates the grammar.
    fn start(&self, request: Request<RecvStream>, respond: SendResponse<Bytes>) -> Result<(), HeadFault> {
        let (parts, body) = request.into_parts();
        let head = request_head(parts);
        let judged = head.judge();
        let framing = if body.is_end_stream() { Framing::Length(0) } else { judged.unwrap_or(Framing::Chunked) };
        let limits = self.gateway.state.rules.load().config.limits;
        let http2 = Box::new(Http2::new(&head, framing, body, respond));
        let mut client = Client::new(Protocol::Http2(http2), limits.min_body_rate);
        let gateway = Arc::clone(&self.gateway);
        let activity = Arc::clone(&self.activity);
        let peer = self.peer.clone();
        let allowance = Arc::clone(&self.allowance);
        let over = Arc::clone(&self.over);
        let watch = Arc::clone(&self.watch);
        self.tasks.spawn(async move {
            let busy = activity.begin();
            let counted_as = match judged {
                Ok(_) => handle(&gateway, &mut client, head, peer).await,
                Err(fault) => refuse(&gateway, &mut client, head, peer, fault.into()).await,
            };
            drop(busy);
            let Protocol::Http2(http2) = client.protocol else { return };
            if http2.ends_connection() {
                over.notify_one();
            }
            if http2.has_leftovers()
                && let Some(_place) = gateway.load.admit_leftovers(counted_as)
                && http2.drop_leftovers(&allowance).await == Ending::Reset
            {
                watch.lock().forgive_reset();
            }
        });
        judged.map(|_| ())
    }
}

fn request_head(parts: Parts) -> RequestHead {
    let target = parts.uri.path_and_query().map_or("", PathAndQuery::as_str).to_owned();
    let host = parts.uri.authority().map(|a| a.as_str().to_owned());
    let host = host.or_else(|| parts.headers.get(header::HOST)?.to_str().ok().map(str::to_owned));
    RequestHead::new(parts.method, target, host.unwrap_or_default(), parts.headers, Version::Http2)
}
