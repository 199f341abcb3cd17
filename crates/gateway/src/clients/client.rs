//! The client of one request, over HTTP/1 or HTTP/2: the source of its body and the sink of its response.

use std::{
    future::poll_fn,
    num::NonZeroU64,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use sallyport_core::http1::{Framing, ResponseHead};

use super::{
    fault::ClientFault, http1::Http1, http2::Http2, own_response::OwnResponse, pause::Pause, timeouts::MinRate,
};

/// A client that waits for a response.
pub(crate) struct Client<'s> {
    pub(crate) protocol: Protocol<'s>,
    min_rate: MinRate,
}

/// The protocol of a client.
pub(crate) enum Protocol<'s> {
    Http1(Http1<'s>),
    Http2(Box<Http2>),
}

impl<'s> Client<'s> {
    /// Creates a client whose body must average at least `min_body_rate` bytes per second.
    pub(crate) fn new(protocol: Protocol<'s>, min_body_rate: Option<NonZeroU64>) -> Self {
        Self { protocol, min_rate: MinRate::new(min_body_rate) }
    }

    /// Returns how the request's body ends.
    pub(crate) fn framing(&self) -> Framing {
        match &self.protocol {
            Protocol::Http1(http1) => http1.framing(),
            Protocol::Http2(http2) => http2.framing(),
        }
    }

    /// Returns whether the client asks to upgrade to WebSocket.
    pub(crate) fn asks_for_websocket(&self) -> bool {
        match &self.protocol {
            Protocol::Http1(http1) => http1.asks_for_websocket(),
            Protocol::Http2(_) => false,
        }
    }

    /// Returns the next data of the request's body, `None` at its end.
    pub(crate) fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, ClientFault>> {
        let read = match &mut self.protocol {
            Protocol::Http1(http1) => http1.poll_body(cx),
            Protocol::Http2(http2) => http2.poll_body(cx),
        };
        if let Poll::Ready(read) = read {
            self.min_rate.received(read.as_ref().map_or(0, |data| data.as_ref().map_or(0, Bytes::len)));
            return Poll::Ready(read);
        }
        ready!(self.min_rate.poll_too_slow(cx));
        Poll::Ready(Err(ClientFault::TooSlow))
    }

    /// Returns how many bytes of the body arrived with the head, after checking their framing.
    pub(crate) async fn arrived(&mut self) -> Result<u64, ClientFault> {
        match &mut self.protocol {
            Protocol::Http1(http1) => poll_fn(|cx| Poll::Ready(http1.arrived(cx))).await,
            // HTTP/2 frames the body itself, and a fault in a frame ends the stream.
            Protocol::Http2(_) => Ok(0),
        }
    }

    /// Completes once the client has disconnected. It is polled only after the whole body has arrived.
    pub(crate) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.protocol {
            Protocol::Http1(http1) => http1.poll_gone(cx),
            Protocol::Http2(http2) => http2.poll_gone(cx),
        }
    }

    /// Flushes written data to the socket.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ClientFault>> {
        match &mut self.protocol {
            Protocol::Http1(http1) => http1.poll_flush(cx),
            // The connection's task flushes.
            Protocol::Http2(_) => Poll::Ready(Ok(())),
        }
    }

    /// Sends an interim response, if the client is known to expect one.
    pub(crate) fn hint(&mut self, head: ResponseHead) -> Result<(), ClientFault> {
        match &mut self.protocol {
            Protocol::Http1(_) => Ok(()),
            Protocol::Http2(http2) => http2.interim(head),
        }
    }

    /// Begins a response whose body ends as `framing` says.
    pub(crate) async fn start(&mut self, head: ResponseHead, framing: Framing) -> Result<(), ClientFault> {
        match &mut self.protocol {
            Protocol::Http1(http1) => http1.start(&head, framing).await,
            Protocol::Http2(http2) => http2.start(head, framing == Framing::Length(0)),
        }
    }

    /// Sends a piece of the response's body.
    pub(crate) async fn send(&mut self, data: Bytes, pause: &mut Pause<'_>) -> Result<(), ClientFault> {
        match &mut self.protocol {
            Protocol::Http1(http1) => http1.send(data, pause).await,
            Protocol::Http2(http2) => http2.send(data, pause).await,
        }
    }

    /// Ends the response.
    pub(crate) async fn finish(&mut self) -> Result<(), ClientFault> {
        match &mut self.protocol {
            Protocol::Http1(http1) => http1.finish().await,
            Protocol::Http2(http2) => http2.finish(),
        }
    }

    /// Sends a complete response of the gateway itself.
    pub(crate) async fn respond(&mut self, response: OwnResponse) -> Result<(), ClientFault> {
        match &mut self.protocol {
            Protocol::Http1(http1) => http1.respond(response).await,
            Protocol::Http2(http2) => http2.respond(response),
        }
    }

    /// Makes this request the last of its connection, because it is unclear where the next one would begin.
    pub(crate) fn close_after(&mut self) {
        match &mut self.protocol {
            Protocol::Http1(http1) => http1.close_after(),
            // A stream has its own beginning and end.
            Protocol::Http2(_) => {}
        }
    }

    /// Accepts no further request on this connection; requests that have begun continue.
    pub(crate) fn end_connection(&mut self) {
        match &mut self.protocol {
            Protocol::Http1(http1) => http1.close_after(),
            Protocol::Http2(http2) => http2.end_connection(),
        }
    }

    /// Aborts a response in a way that shows the client that it is incomplete.
    pub(crate) fn abort(&mut self) {
        match &mut self.protocol {
            Protocol::Http1(http1) => http1.abort(),
            Protocol::Http2(http2) => http2.abort(),
        }
    }
}
