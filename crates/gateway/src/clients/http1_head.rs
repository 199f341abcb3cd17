//! Waits for the next request of an HTTP/1 connection and reads its head.
//!
//! A parked connection costs its TLS state and a small future. Each head is read completely and parsed strictly before anything else
//! happens, within a fixed time that a slow client cannot extend.

use std::{future::poll_fn, mem::MaybeUninit, pin::Pin, time::Duration};

use bytes::{Bytes, BytesMut};
use sallyport_core::{
    http1::{HeadScan, Http1Request},
    supervision::shutdown::stopped,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, ReadBuf},
    sync::watch,
    time::{Instant, Sleep, sleep, timeout},
};

use super::head_error::HeadError;
use crate::edge::Downstream;

/// How long a connection may wait for its next request.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// How long a new connection has for its first request after the gateway begins to stop.
const FIRST_REQUEST_GRACE: Duration = Duration::from_secs(2);
/// How long a whole head may take once it has begun.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
const READ_BYTES: usize = 4 * 1024;

/// The result of waiting for a request.
#[expect(clippy::large_enum_variant, reason = "the caller destructures it at once")]
pub(crate) enum NextRequest {
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
pub(crate) struct RequestWait {
    stopped: Pin<Box<dyn Future<Output = ()> + Send>>,
    idle: Pin<Box<Sleep>>,
    since: Instant,
    served: bool,
}

impl RequestWait {
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

/// Waits for the next request.
pub(crate) async fn next(stream: &mut Downstream, wait: &mut RequestWait) -> NextRequest {
    wait.since = Instant::now();
    let mut scan = HeadScan::default();
    loop {
        let first = tokio::select! {
            biased;
            first = read_some(stream) => first,
            () = wait.over() => None,
        };
        let Some(mut bytes) = first else { return NextRequest::Closed };
        let end = scan.request_end(&mut bytes);
        // Empty lines alone do not begin a request.
        if bytes.is_empty() && end == Ok(None) {
            continue;
        }
        wait.served = true;
        return match end {
            Ok(Some(end)) => parse(bytes, end),
            Ok(None) => match timeout(HEAD_TIMEOUT, rest_of_head(stream, bytes, scan)).await {
                Ok(next) => next,
                Err(_) => NextRequest::Refused(HeadError::TooSlow),
            },
            Err(fault) => NextRequest::Refused(fault.into()),
        };
    }
}

/// Reads until a head is complete.
pub(crate) async fn rest_of_head(
    stream: &mut (impl AsyncRead + Unpin),
    mut bytes: BytesMut,
    mut scan: HeadScan,
) -> NextRequest {
    loop {
        bytes.reserve(READ_BYTES);
        if !matches!(stream.read_buf(&mut bytes).await, Ok(n) if n > 0) {
            return NextRequest::Closed;
        }
        match scan.request_end(&mut bytes) {
            Ok(Some(end)) => return parse(bytes, end),
            Ok(None) => {}
            Err(fault) => return NextRequest::Refused(fault.into()),
        }
    }
}

fn parse(mut bytes: BytesMut, end: usize) -> NextRequest {
    let head = bytes.split_to(end.min(bytes.len())).freeze();
    match Http1Request::parse(&head) {
        Ok(request) => NextRequest::Request(request, bytes.freeze()),
        Err(fault) => NextRequest::Refused(fault.into()),
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
