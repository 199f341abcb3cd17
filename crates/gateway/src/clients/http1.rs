//! One request of an HTTP/1 connection: reads its body and writes its response, each by its own framing.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, SystemTime},
};

use bytes::{Buf, Bytes, BytesMut};
use http::{Method, header};
use sallyport_core::{
    http1::{
        BodyDecoder, BodyEncoder, Encoded, Framing, Http1Request, Persistence, ResponseHead, Version, http_date,
        write_response,
    },
    sockets::write_all::poll_write_all,
};
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    time::timeout,
};
use tokio_util::io::poll_read_buf;

use super::{fault::ClientFault, http1_end::AfterRequest, own_response::OwnResponse, pause::Pause};
use crate::edge::Downstream;

/// The maximum number of bytes of a body that are read at once.
const READ_BYTES: usize = 16 * 1024;
/// The rest of an unwanted body is read and discarded up to these limits, so that the connection can be reused.
const MAX_DRAIN_BYTES: u64 = 64 * 1024;
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// An HTTP/1 client and its one request.
pub(crate) struct Http1<'s> {
    stream: &'s mut Downstream,
    version: Version,
    is_head: bool,
    framing: Framing,
    body: BodyDecoder,
    /// Bytes that arrived with the head and were not parsed yet.
    ahead: Bytes,
    input: BytesMut,
    interim: Interim,
    keeps_alive: bool,
    asks_for_websocket: bool,
    response: ResponseProgress,
}

/// How much of the response has been sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ResponseProgress {
    Nothing,
    Head(BodyEncoder),
    Whole,
    /// It was aborted, or is shorter than its head said.
    Part,
}

/// Whether the client waits for `100 Continue` before it sends its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Interim {
    None,
    Awaited,
    Written,
}

impl<'s> Http1<'s> {
    /// Creates the request whose head was read from `stream`, with the bytes that arrived after it.
    pub(crate) fn new(stream: &'s mut Downstream, request: &Http1Request, ahead: Bytes, keeps_alive: bool) -> Self {
        Self {
            stream,
            version: request.head.version,
            is_head: request.head.method == Method::HEAD,
            framing: request.framing,
            body: BodyDecoder::new(request.framing),
            ahead,
            input: BytesMut::new(),
            interim: if request.expects_continue() { Interim::Awaited } else { Interim::None },
            keeps_alive: keeps_alive && request.keeps_alive(),
            asks_for_websocket: request.asks_for_websocket(),
            response: ResponseProgress::Nothing,
        }
    }

    pub(crate) fn framing(&self) -> Framing {
        self.framing
    }

    pub(crate) fn asks_for_websocket(&self) -> bool {
        self.asks_for_websocket
    }

    pub(crate) fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, ClientFault>> {
        loop {
            match self.body.decode(&mut self.ahead) {
                Ok(Some(data)) => return Poll::Ready(Ok(Some(data))),
                Ok(None) if self.body.is_done() => return Poll::Ready(Ok(None)),
                Ok(None) => {}
                Err(fault) => {
                    self.keeps_alive = false;
                    return Poll::Ready(Err(fault.into()));
                }
            }
            ready!(self.poll_continue(cx))?;
            self.input.reserve(READ_BYTES);
            if ready!(poll_read_buf(Pin::new(&mut *self.stream), cx, &mut self.input))? == 0 {
                self.keeps_alive = false;
                return Poll::Ready(Err(ClientFault::Gone));
            }
            self.ahead = self.input.split().freeze();
        }
    }

    /// Returns how many bytes of the body have arrived, after checking their framing. Also reads what is available at the socket, without waiting.
    pub(crate) fn arrived(&mut self, cx: &mut Context<'_>) -> Result<u64, ClientFault> {
        self.input.extend_from_slice(&self.ahead);
        while self.interim != Interim::Awaited && self.input.len() < READ_BYTES {
            self.input.reserve(READ_BYTES);
            let read = poll_read_buf(Pin::new(&mut *self.stream), cx, &mut self.input);
            if !matches!(read, Poll::Ready(Ok(1..))) {
                break;
            }
        }
        self.ahead = self.input.split().freeze();
        self.body.judge(&self.ahead).map_err(|fault| {
            self.keeps_alive = false;
            fault.into()
        })
    }

    /// Sends `100 Continue` to a client that waits for it.
    fn poll_continue(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.interim == Interim::Awaited && self.response == ResponseProgress::Nothing {
            ready!(poll_write_all(&mut *self.stream, cx, &mut &CONTINUE[..]))?;
            self.interim = Interim::Written;
        }
        if self.interim == Interim::Written {
            ready!(Pin::new(&mut *self.stream).poll_flush(cx))?;
            self.interim = Interim::None;
        }
        Poll::Ready(Ok(()))
    }

    /// Data that arrives in the meantime belongs to the next request and is kept; from then on, a disconnect can no longer be seen.
    pub(crate) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.ahead.is_empty() || !self.body.is_done() {
            return Poll::Pending;
        }
        self.input.reserve(1);
        match ready!(poll_read_buf(Pin::new(&mut *self.stream), cx, &mut self.input)) {
            Ok(0) | Err(_) => Poll::Ready(()),
            Ok(_) => {
                self.ahead = self.input.split().freeze();
                Poll::Pending
            }
        }
    }

    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ClientFault>> {
        Pin::new(&mut *self.stream).poll_flush(cx).map_err(Into::into)
    }

    pub(crate) async fn start(&mut self, head: &ResponseHead, framing: Framing) -> Result<(), ClientFault> {
        let framing = self.response_framing(framing);
        let mut out = Vec::with_capacity(1024);
        self.write_head(&mut out, head, framing);
        self.response = ResponseProgress::Head(framing.into());
        self.put(&out[..]).await
    }

    /// Forwards the application's switch of protocols.
    pub(crate) async fn switch(&mut self, head: &ResponseHead) -> Result<&mut Downstream, ClientFault> {
        let mut out = Vec::with_capacity(512);
        write_response(&mut out, head, None, None, Persistence::Upgrade);
        self.response = ResponseProgress::Whole;
        self.keeps_alive = false;
        self.put(&out[..]).await?;
        self.stream.flush().await?;
        self.stream.unread(std::mem::take(&mut self.ahead));
        Ok(self.stream)
    }

    pub(crate) async fn send(&mut self, data: Bytes, pause: &mut Pause<'_>) -> Result<(), ClientFault> {
        if self.is_head || data.is_empty() {
            return Ok(());
        }
        let ResponseProgress::Head(encoder) = &mut self.response else { return Err(ClientFault::Gone) };
        let mut encoded = encoder.encode(data).map_err(|_| ClientFault::Gone)?;
        poll_fn(|cx| {
            if let Poll::Ready(sent) = self.poll_sent(cx, &mut encoded) {
                return Poll::Ready(sent);
            }
            // The kernel sees each byte that the client takes, and closes the connection itself.
            loop {
                self.stream.give_up_after(ready!(pause.poll_stall(cx)).limit);
            }
        })
        .await?;
        if let Some(limit) = pause.end() {
            self.stream.give_up_after(limit);
        }
        Ok(())
    }

    fn poll_sent(&mut self, cx: &mut Context<'_>, encoded: &mut Encoded) -> Poll<io::Result<()>> {
        ready!(poll_write_all(&mut *self.stream, cx, encoded))?;
        self.stream.poll_settle(cx)
    }

    pub(crate) async fn finish(&mut self) -> Result<(), ClientFault> {
        let ResponseProgress::Head(encoder) = self.response else { return Err(ClientFault::Gone) };
        let end = if self.is_head { Some(&b""[..]) } else { encoder.end() };
        self.response = if end.is_some() { ResponseProgress::Whole } else { ResponseProgress::Part };
        self.put(end.unwrap_or_default()).await?;
        Ok(self.stream.flush().await?)
    }

    /// Sends head and body together, as one TLS record.
    pub(crate) async fn respond(&mut self, response: OwnResponse) -> Result<(), ClientFault> {
        self.drop_arrived().await;
        let framing = Framing::Length(response.body.len() as u64);
        let mut out = Vec::with_capacity(1024);
        self.write_head(&mut out, &response.head, framing);
        if !self.is_head {
            out.extend_from_slice(&response.body);
        }
        self.response = ResponseProgress::Whole;
        self.put(&out[..]).await?;
        Ok(self.stream.flush().await?)
    }

    pub(crate) fn close_after(&mut self) {
        self.keeps_alive = false;
    }

    pub(crate) fn abort(&mut self) {
        self.response = ResponseProgress::Part;
        self.keeps_alive = false;
    }

    /// Ends the request and prepares the connection for the next one, or for closing.
    pub(crate) async fn leave(mut self) -> AfterRequest {
        if self.response != ResponseProgress::Whole {
            return AfterRequest::Cut;
        }
        if !self.body.is_done() {
            let drained = self.keeps_alive && matches!(timeout(DRAIN_TIMEOUT, self.drain()).await, Ok(Ok(())));
            if !drained {
                return AfterRequest::Linger;
            }
        }
        if !self.keeps_alive {
            return AfterRequest::Linger;
        }
        self.stream.unread(self.ahead);
        AfterRequest::KeepAlive
    }

    /// Returns whether the rest of the body is small enough to be read for the sake of the connection.
    fn can_drain(&self) -> bool {
        let small = match self.framing {
            Framing::Length(length) => length <= MAX_DRAIN_BYTES,
            // The rest has an unknown size, and a response that keeps the connection open must not be followed by a close.
            Framing::Chunked | Framing::UntilClose => false,
        };
        self.body.is_done() || (small && self.interim != Interim::Awaited)
    }

    /// Discards the part of a chunked body that has arrived. If it is all of the body, the connection can be reused.
    async fn drop_arrived(&mut self) {
        if self.framing != Framing::Chunked || self.interim == Interim::Awaited || !self.keeps_alive {
            return;
        }
        let mut left = MAX_DRAIN_BYTES;
        poll_fn(|cx| {
            while let Poll::Ready(Ok(Some(data))) = self.poll_body(cx) {
                let Some(rest) = left.checked_sub(data.len() as u64) else { break };
                left = rest;
            }
            Poll::Ready(())
        })
        .await;
    }

    async fn drain(&mut self) -> Result<(), ClientFault> {
        let mut left = MAX_DRAIN_BYTES;
        while let Some(data) = poll_fn(|cx| self.poll_body(cx)).await? {
            left = left.checked_sub(data.len() as u64).ok_or(ClientFault::TooSlow)?;
        }
        Ok(())
    }

    /// Returns the framing to use: HTTP/1.0 has no chunks.
    fn response_framing(&mut self, framing: Framing) -> Framing {
        match (framing, self.version) {
            (Framing::Length(_), _) => framing,
            (_, Version::Http10) => {
                self.keeps_alive = false;
                Framing::UntilClose
            }
            (Framing::Chunked | Framing::UntilClose, _) => Framing::Chunked,
        }
    }

    fn write_head(&mut self, out: &mut Vec<u8>, head: &ResponseHead, framing: Framing) {
        let bodiless = self.is_head || head.status.is_informational() || matches!(head.status.as_u16(), 204 | 304);
        self.keeps_alive &= self.can_drain();
        let persistence = match (self.keeps_alive, self.version) {
            (false, _) => Persistence::Close,
            (true, Version::Http10) => Persistence::KeepAliveSaid,
            (true, _) => Persistence::KeepAlive,
        };
        // RFC 9110, section 6.6.1: a response without a Date gets one.
        let date = (!head.headers.contains_key(header::DATE)).then(|| http_date(SystemTime::now()));
        write_response(out, head, date, (!bodiless).then_some(framing), persistence);
    }

    async fn put(&mut self, mut bytes: impl Buf) -> Result<(), ClientFault> {
        Ok(poll_fn(|cx| poll_write_all(&mut *self.stream, cx, &mut bytes)).await?)
    }
}
