//! One request's client, whichever version of HTTP it speaks: its body comes from here and its answer goes here.

use std::{
    future::poll_fn,
    io,
    num::NonZeroU64,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use thiserror::Error;

use super::{http1::Http1, http2::Http2, pace::Pace, pause::Pause};
use crate::message::{BodyFault, Framing, ResponseHead};

/// A client that waits for an answer.
pub(super) struct Client<'s> {
    pub(super) speaks: Speaks<'s>,
    pace: Pace,
}

/// What it speaks.
pub(super) enum Speaks<'s> {
    Http1(Http1<'s>),
    Http2(Box<Http2>),
}

/// An answer of the gateway's own, body and all.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) head: ResponseHead,
    pub(super) body: Vec<u8>,
}

/// What went wrong with a client.
#[derive(Debug, Error)]
pub(super) enum ClientFault {
    /// It is gone.
    #[error("the client is gone")]
    Gone,
    /// It sends or takes nothing.
    #[error("the client is too slow")]
    TooSlow,
    /// Its body breaks the framing.
    #[error(transparent)]
    Malformed(#[from] BodyFault),
}

impl From<io::Error> for ClientFault {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

impl<'s> Client<'s> {
    /// A client whose body keeps an average of `min_body_rate` bytes for each second.
    pub(super) fn new(speaks: Speaks<'s>, min_body_rate: Option<NonZeroU64>) -> Self {
        Self { speaks, pace: Pace::new(min_body_rate) }
    }

    /// How the request's body ends.
    pub(super) fn framing(&self) -> Framing {
        match &self.speaks {
            Speaks::Http1(http1) => http1.framing(),
            Speaks::Http2(http2) => http2.framing(),
        }
    }

    /// Whether the client wants to speak WebSocket from here on.
    pub(super) fn asks_for_websocket(&self) -> bool {
        match &self.speaks {
            Speaks::Http1(http1) => http1.asks_for_websocket(),
            Speaks::Http2(_) => false,
        }
    }

    /// The next data of the request's body; None at its end.
    pub(super) fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, ClientFault>> {
        let read = match &mut self.speaks {
            Speaks::Http1(http1) => http1.poll_body(cx),
            Speaks::Http2(http2) => http2.poll_body(cx),
        };
        if let Poll::Ready(read) = read {
            self.pace.received(read.as_ref().map_or(0, |data| data.as_ref().map_or(0, Bytes::len)));
            return Poll::Ready(read);
        }
        ready!(self.pace.poll_too_slow(cx));
        Poll::Ready(Err(ClientFault::TooSlow))
    }

    /// How many bytes of the body have come with its head, all of them by its framing.
    pub(super) async fn arrived(&mut self) -> Result<u64, ClientFault> {
        match &mut self.speaks {
            Speaks::Http1(http1) => poll_fn(|cx| Poll::Ready(http1.arrived(cx))).await,
            // There it is the frames that frame, and a fault in them ends the stream.
            Speaks::Http2(_) => Ok(0),
        }
    }

    /// Ready once the client has gone, which is looked for after its body has come.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.speaks {
            Speaks::Http1(http1) => http1.poll_gone(cx),
            Speaks::Http2(http2) => http2.poll_gone(cx),
        }
    }

    /// Sends on its way what was written.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ClientFault>> {
        match &mut self.speaks {
            Speaks::Http1(http1) => http1.poll_flush(cx),
            // The task of the connection does that.
            Speaks::Http2(_) => Poll::Ready(Ok(())),
        }
    }

    /// Says something before the answer, to clients that are known to expect that.
    pub(super) fn hint(&mut self, head: ResponseHead) -> Result<(), ClientFault> {
        match &mut self.speaks {
            Speaks::Http1(_) => Ok(()),
            Speaks::Http2(http2) => http2.interim(head),
        }
    }

    /// Begins an answer whose body ends so.
    pub(super) async fn start(&mut self, head: ResponseHead, framing: Framing) -> Result<(), ClientFault> {
        match &mut self.speaks {
            Speaks::Http1(http1) => http1.start(&head, framing).await,
            Speaks::Http2(http2) => http2.start(head, framing == Framing::Length(0)),
        }
    }

    /// Sends a piece of the answer's body.
    pub(super) async fn send(&mut self, data: Bytes, pause: &mut Pause<'_>) -> Result<(), ClientFault> {
        match &mut self.speaks {
            Speaks::Http1(http1) => http1.send(data, pause).await,
            Speaks::Http2(http2) => http2.send(data, pause).await,
        }
    }

    /// Ends the answer.
    pub(super) async fn finish(&mut self) -> Result<(), ClientFault> {
        match &mut self.speaks {
            Speaks::Http1(http1) => http1.finish().await,
            Speaks::Http2(http2) => http2.finish(),
        }
    }

    /// Sends a whole answer of the gateway's own.
    pub(super) async fn answer(&mut self, answer: Answer) -> Result<(), ClientFault> {
        match &mut self.speaks {
            Speaks::Http1(http1) => http1.answer(answer).await,
            Speaks::Http2(http2) => http2.answer(answer),
        }
    }

    /// Makes this request the last of a connection on which nobody can say where the next one begins.
    pub(super) fn close_after(&mut self) {
        match &mut self.speaks {
            Speaks::Http1(http1) => http1.close_after(),
            // A stream begins and ends by itself.
            Speaks::Http2(_) => {}
        }
    }

    /// Takes no further request on this connection. What it has begun goes on.
    pub(super) fn end_connection(&mut self) {
        match &mut self.speaks {
            Speaks::Http1(http1) => http1.close_after(),
            Speaks::Http2(http2) => http2.end_connection(),
        }
    }

    /// Breaks off an answer so that nobody takes what came of it for the whole.
    pub(super) fn abort(&mut self) {
        match &mut self.speaks {
            Speaks::Http1(http1) => http1.abort(),
            Speaks::Http2(http2) => http2.abort(),
        }
    }
}
