//! The life of an HTTP/1 connection: parked between requests, then one request at a time.
//!
//! A parked connection costs its TLS state and a small future. Each head is read completely and parsed strictly before anything else
//! happens, within a fixed time that a slow client cannot extend.

use std::{future::poll_fn, mem::MaybeUninit, pin::Pin, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method};
use sallyport_core::{
    http1::{HeadScan, Http1Request, RequestHead, Version},
    supervision::shutdown::stopped,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf},
    sync::watch,
    time::{Instant, Sleep, sleep, timeout},
};
use tokio_util::io::poll_read_buf;

use crate::{
    clients::{
        client::{Client, Speaks},
        head_error::HeadError,
        http1::{Http1, Then, answer_once},
        leftovers::drop_rest,
    },
    edge::{Downstream, connection_limits::Activity},
    requests::{
        exchange::{Exchange, Outcome, Peer},
        handle::{Gateway, handle},
        respond,
    },
};

/// How long a connection may wait for its next request.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// How long a new connection has for its first request after the gateway begins to stop.
const FIRST_REQUEST_GRACE: Duration = Duration::from_secs(2);
/// How long a whole head may take once it has begun.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client has to read the last bytes of an answer that ends its connection.
const LAST_BYTES_TIMEOUT: Duration = Duration::from_secs(2);
const READ_BYTES: usize = 4 * 1024;
/// The same for bytes that are discarded.
const DROP_READ_BYTES: usize = 16 * 1024;

/// The result of waiting for a request.
#[expect(clippy::large_enum_variant, reason = "the caller destructures it at once")]
pub(crate) enum Next {
    /// A request, and the bytes that arrived after its head.
    Request(Http1Request, Bytes),
    /// The client has disconnected, or was idle for too long.
    Closed,
    /// The bytes are not an acceptable request.
    Refused(HeadError),
}

/// Ends the wait for a request: at the idle timeout, or when the gateway stops.
///
/// There is one for each connection. Registering the timer and the signal again for each request would cost more than everything else in
/// parking.
pub(crate) struct Vigil {
    stopped: Pin<Box<dyn Future<Output = ()> + Send>>,
    idle: Pin<Box<Sleep>>,
    since: Instant,
    served: bool,
}

impl Vigil {
    pub(crate) fn new(stop: &watch::Receiver<bool>) -> Self {
        let mut stop = stop.clone();
        let stopped = Box::pin(async move { stopped(&mut stop).await });
        Self { stopped, idle: Box::pin(sleep(IDLE_TIMEOUT)), since: Instant::now(), served: false }
    }

    async fn over(&mut self) {
        let Self { stopped, idle, since, served } = self;
        tokio::select! {
            biased;
            // A new connection is about to send a request and could not tell whether to retry it.
            () = stopped => if !*served { sleep(FIRST_REQUEST_GRACE).await },
            () = idled(idle.as_mut(), *since) => {}
        }
    }
}

/// Completes after `IDLE_TIMEOUT` without a request; `timer` may still be set to the deadline of an earlier wait.
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

/// Serves one client until either side closes the connection.
pub(crate) async fn serve(
    mut stream: Downstream,
    peer: Peer,
    gateway: Arc<Gateway>,
    activity: Arc<Activity>,
    stop: watch::Receiver<bool>,
) {
    let mut vigil = Vigil::new(&stop);
    let then = loop {
        let (request, ahead) = match next(&mut stream, &mut vigil).await {
            Next::Request(request, ahead) => (request, ahead),
            Next::Closed => break Then::Close,
            Next::Refused(refusal) => break Box::pin(refuse(&mut stream, peer.clone(), refusal, &gateway)).await,
        };
        let _busy = activity.begin();
        // On the heap, since the future that serves a request is much larger than the one that waits for it.
        let served = Box::pin(one_request(&mut stream, request, ahead, peer.clone(), &gateway, !*stop.borrow()));
        match served.await {
            Then::Next => {}
            then => break then,
        }
    };
    end(&mut stream, then).await;
}

async fn one_request(
    stream: &mut Downstream,
    request: Http1Request,
    ahead: Bytes,
    peer: Peer,
    gateway: &Gateway,
    keeps_alive: bool,
) -> Then {
    let http1 = Http1::new(stream, &request, ahead, keeps_alive);
    let mut client = Client::new(Speaks::Http1(http1), gateway.live.rules.load().config.limits.min_body_rate);
    handle(gateway, &mut client, request.head, peer).await;
    match client.speaks {
        Speaks::Http1(http1) => http1.leave().await,
        Speaks::Http2(_) => Then::Close,
    }
}

/// Waits for the next request.
pub(crate) async fn next(stream: &mut Downstream, vigil: &mut Vigil) -> Next {
    vigil.since = Instant::now();
    let mut scan = HeadScan::default();
    loop {
        let first = tokio::select! {
            biased;
            first = read_some(stream) => first,
            () = vigil.over() => None,
        };
        let Some(mut bytes) = first else { return Next::Closed };
        let end = scan.request_end(&mut bytes);
        // Empty lines alone do not begin a request.
        if bytes.is_empty() && end == Ok(None) {
            continue;
        }
        vigil.served = true;
        return match end {
            Ok(Some(end)) => parse(bytes, end),
            Ok(None) => match timeout(HEAD_TIMEOUT, rest_of_head(stream, bytes, scan)).await {
                Ok(next) => next,
                Err(_) => Next::Refused(HeadError::TooSlow),
            },
            Err(fault) => Next::Refused(fault.into()),
        };
    }
}

/// Reads until a head is complete.
pub(crate) async fn rest_of_head(
    stream: &mut (impl AsyncRead + Unpin),
    mut bytes: BytesMut,
    mut scan: HeadScan,
) -> Next {
    loop {
        bytes.reserve(READ_BYTES);
        if !matches!(stream.read_buf(&mut bytes).await, Ok(n) if n > 0) {
            return Next::Closed;
        }
        match scan.request_end(&mut bytes) {
            Ok(Some(end)) => return parse(bytes, end),
            Ok(None) => {}
            Err(fault) => return Next::Refused(fault.into()),
        }
    }
}

fn parse(mut bytes: BytesMut, end: usize) -> Next {
    let head = bytes.split_to(end.min(bytes.len())).freeze();
    match Http1Request::parse(&head) {
        Ok(request) => Next::Request(request, bytes.freeze()),
        Err(fault) => Next::Refused(fault.into()),
    }
}

/// Reads the available bytes; `None` at the end. The buffer is on the stack until there is something to keep.
async fn read_some(stream: &mut Downstream) -> Option<BytesMut> {
    poll_fn(|cx| {
        let mut space = [MaybeUninit::<u8>::uninit(); READ_BYTES];
        let mut buffer = ReadBuf::uninit(&mut space);
        Pin::new(&mut *stream)
            .poll_read(cx, &mut buffer)
            .map(|read| read.ok().map(|()| BytesMut::from(buffer.filled())).filter(|bytes| !bytes.is_empty()))
    })
    .await
}

/// Answers a head that was refused, and logs it like a request.
async fn refuse(stream: &mut Downstream, peer: Peer, refusal: HeadError, gateway: &Gateway) -> Then {
    let mut exchange = Exchange::new(&gateway.live, unread_head(), peer);
    gateway.live.note_unread(exchange.client, refusal.reason());
    let denial = refusal.denial(&gateway.live.rules.load().site);
    let answer = respond::denial(&exchange, &denial);
    exchange.traffic.status = Some(answer.head.status);
    exchange.traffic.bytes_out = answer.body.len() as u64;
    exchange.outcome = Outcome::Unread(denial.reason);
    answer_once(stream, &exchange.head.method, &answer).await;
    Then::Linger
}

/// Returns a placeholder for a head that could not be read; nothing of it is logged.
fn unread_head() -> RequestHead {
    RequestHead::new(Method::default(), String::new(), String::new(), HeaderMap::new(), Version::Http11)
}

/// Ends a connection. After an answer that was cut short it sends no TLS closure alert, because an HTTP/1.0 client could take that for the
/// end of the answer.
///
/// If the connection were closed while the client is still sending, the system would discard the answer too, so the rest of the request is
/// read first.
pub(crate) async fn end(stream: &mut Downstream, then: Then) {
    if then == Then::Cut {
        let _ = timeout(LAST_BYTES_TIMEOUT, stream.flush()).await;
        return;
    }
    if timeout(LAST_BYTES_TIMEOUT, stream.shutdown()).await.is_err() || then != Then::Linger {
        return;
    }
    let mut dropped = BytesMut::with_capacity(DROP_READ_BYTES);
    drop_rest(|cx| {
        dropped.clear();
        poll_read_buf(Pin::new(&mut *stream), cx, &mut dropped).map(|read| read.ok().filter(|bytes| *bytes > 0))
    })
    .await;
}
