//! One stream of an HTTP/2 connection: pingora's session, as a request's client.

use std::{
    future::poll_fn,
    pin::pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, header};
use pingora::{
    http::{RequestHeader, ResponseHeader},
    protocols::http::v2::server::HttpSession,
};
use tokio::time::timeout;

use super::client::{Answer, ClientFault};
use crate::message::{Framing, ResponseHead};

/// A client that has sent every byte it has declared gets so long to say that this was all.
const END_GRACE: Duration = Duration::from_secs(1);

/// pingora has one time for all that it is given at once.
const MAX_PART: usize = 32 << 10;

/// One stream.
pub(super) struct Http2 {
    session: HttpSession,
    body_done: bool,
    /// Bytes of the body that have come.
    body_bytes: u64,
}

impl Http2 {
    /// One whose client is given up when it takes nothing of an answer for `send_timeout`.
    pub(super) fn new(mut session: HttpSession, send_timeout: Duration) -> Self {
        session.set_write_timeout(Some(send_timeout));
        let body_done = session.is_body_done();
        Self { session, body_done, body_bytes: 0 }
    }

    pub(super) fn request(&self) -> &RequestHeader {
        self.session.req_header()
    }

    pub(super) fn framing(&self) -> Framing {
        if self.body_done {
            return Framing::Length(0);
        }
        declared_length(&self.session.req_header().headers).map_or(Framing::Chunked, Framing::Length)
    }

    pub(super) fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, ClientFault>> {
        loop {
            let data = ready!(pin!(self.session.read_body_bytes()).poll(cx)).map_err(|_| ClientFault::Gone)?;
            self.body_done |= data.is_none();
            self.body_bytes += data.as_ref().map_or(0, |data| data.len() as u64);
            // Many bodies end by an empty frame, which is no data; written as a chunk, it would be the last one.
            if data.as_ref().is_none_or(|data| !data.is_empty()) {
                return Poll::Ready(Ok(data));
            }
        }
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

    /// In parts, for each of which the client has its time.
    pub(super) async fn send(&mut self, mut data: Bytes) -> Result<(), ClientFault> {
        while !data.is_empty() {
            let part = data.split_to(data.len().min(MAX_PART));
            self.session.write_body(part, false).await.map_err(|_| ClientFault::Gone)?;
        }
        Ok(())
    }

    pub(super) async fn finish(&mut self) -> Result<(), ClientFault> {
        self.session.finish().map_err(|_| ClientFault::Gone)?;
        self.await_end().await;
        Ok(())
    }

    /// An application may answer at the last byte of a body, before the frame has come that ends it. A stream that is let go
    /// of then is reset, and some clients throw the answer away with it (against RFC 9113, section 8.1).
    async fn await_end(&mut self) {
        let declared = declared_length(&self.session.req_header().headers);
        if !self.body_done && declared == Some(self.body_bytes) {
            let _ = timeout(END_GRACE, poll_fn(|cx| self.poll_body(cx))).await;
        }
    }

    /// The few bytes of such an answer wait for the client's window by themselves, and nobody with them: a client that opens
    /// none would hold a request's place for each.
    pub(super) fn answer(&mut self, mut answer: Answer) -> Result<(), ClientFault> {
        let length = answer.body.len();
        if answer.head.status != http::StatusCode::NO_CONTENT {
            answer.head.headers.insert(header::CONTENT_LENGTH, length.into());
        }
        self.start(answer.head, length == 0)?;
        if length == 0 || self.session.req_header().method == http::Method::HEAD {
            return Ok(());
        }
        let mut body = self.session.take_response_body_writer().ok_or(ClientFault::Gone)?;
        body.send_data(answer.body.into(), true).map_err(|_| ClientFault::Gone)
    }

    pub(super) fn abort(&mut self) {
        self.session.shutdown();
    }
}

fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
