//! How an HTTP/1 connection ends: with a last response, and without taking it away from a client that is still sending.

use std::{
    pin::Pin,
    time::{Duration, SystemTime},
};

use bytes::BytesMut;
use http::Method;
use sallyport_core::http1::{Framing, Persistence, http_date, write_response};
use tokio::{io::AsyncWriteExt, time::timeout};
use tokio_util::io::poll_read_buf;

use super::{leftovers::drop_rest, own_response::OwnResponse};
use crate::edge::Downstream;

/// How long a client has to read the last bytes of a response that ends its connection.
const LAST_BYTES_TIMEOUT: Duration = Duration::from_secs(2);
/// The maximum number of bytes that are read at once to be discarded.
const DROP_READ_BYTES: usize = 16 * 1024;

/// What happens to a connection once its request is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AfterRequest {
    /// It accepts another request.
    KeepAlive,
    /// It closes, and the client may still be sending.
    Linger,
    /// It closes.
    Close,
    /// It closes without a TLS closure alert, because the response is incomplete.
    Cut,
}

/// Serialises a response to a request of `method`, after which the connection closes.
pub(crate) fn last_response(method: &Method, response: &OwnResponse) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    let framing = Some(Framing::Length(response.body.len() as u64));
    write_response(&mut out, &response.head, Some(http_date(SystemTime::now())), framing, Persistence::Close);
    if method != Method::HEAD {
        out.extend_from_slice(&response.body);
    }
    out
}

/// Sends a response to a request of `method`, after which the connection closes.
pub(crate) async fn respond_once(stream: &mut Downstream, method: &Method, response: &OwnResponse) {
    let _ = stream.write_all(&last_response(method, response)).await;
    let _ = stream.flush().await;
}

/// Ends a connection. After a response that was cut short it sends no TLS closure alert, because an HTTP/1.0 client could take that for the
/// end of the response.
///
/// If the connection were closed while the client is still sending, the system would discard the response too, so the rest of the request
/// is read first.
pub(crate) async fn end(stream: &mut Downstream, then: AfterRequest) {
    if then == AfterRequest::Cut {
        let _ = timeout(LAST_BYTES_TIMEOUT, stream.flush()).await;
        return;
    }
    if timeout(LAST_BYTES_TIMEOUT, stream.shutdown()).await.is_err() || then != AfterRequest::Linger {
        return;
    }
    let mut dropped = BytesMut::with_capacity(DROP_READ_BYTES);
    drop_rest(|cx| {
        dropped.clear();
        poll_read_buf(Pin::new(&mut *stream), cx, &mut dropped).map(|read| read.ok().filter(|bytes| *bytes > 0))
    })
    .await;
}
