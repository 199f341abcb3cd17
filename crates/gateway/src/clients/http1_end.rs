//! How an HTTP/1 connection ends: with a last answer, and without taking it away from a client that is still sending.

use std::{
    pin::Pin,
    time::{Duration, SystemTime},
};

use bytes::BytesMut;
use http::Method;
use sallyport_core::http1::{Framing, Persistence, http_date, write_response};
use tokio::{io::AsyncWriteExt, time::timeout};
use tokio_util::io::poll_read_buf;

use super::{answer::Answer, leftovers::drop_rest};
use crate::edge::Downstream;

/// How long a client has to read the last bytes of an answer that ends its connection.
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
    /// It closes without a TLS closure alert, because the answer is incomplete.
    Cut,
}

/// Serialises an answer to a request of `method`, after which the connection closes.
pub(crate) fn last_answer(method: &Method, answer: &Answer) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    let framing = Some(Framing::Length(answer.body.len() as u64));
    write_response(&mut out, &answer.head, Some(http_date(SystemTime::now())), framing, Persistence::Close);
    if method != Method::HEAD {
        out.extend_from_slice(&answer.body);
    }
    out
}

/// Sends an answer to a request of `method`, after which the connection closes.
pub(crate) async fn answer_once(stream: &mut Downstream, method: &Method, answer: &Answer) {
    let _ = stream.write_all(&last_answer(method, answer)).await;
    let _ = stream.flush().await;
}

/// Ends a connection. After an answer that was cut short it sends no TLS closure alert, because an HTTP/1.0 client could take that for the
/// end of the answer.
///
/// If the connection were closed while the client is still sending, the system would discard the answer too, so the rest of the request is
/// read first.
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
