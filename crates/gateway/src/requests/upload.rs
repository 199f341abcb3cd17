//! Sends a request to its application.

use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use sallyport_core::http1::{BodyEncoder, Encoded, Framing};

use super::{exchange::Traffic, failure::Failure};
use crate::{
    clients::{client::Client, fault::ClientFault},
    policy::Permit,
    upstream::Connection,
};

/// A request being sent: its head, with the validated body if there is one, then the client's body.
pub(crate) struct Upload {
    request: Bytes,
    piece: Option<Encoded>,
    encoder: BodyEncoder,
    max_bytes: u64,
    state: State,
    /// The state at the beginning of each attempt.
    first: State,
    /// Some of the client's body was read, and cannot be read again.
    spent: bool,
    moved: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The body, or the rest of it, has not arrived yet.
    Open,
    /// All of it has arrived.
    Whole,
    /// The application reads no more of it; it may have answered nevertheless.
    Refused,
}

/// Which side the upload waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    AwaitsClient,
    AwaitsUpstream,
    Ended,
}

impl Upload {
    pub(crate) fn new(request: Bytes, framing: Framing, permit: &Permit) -> Self {
        let bodiless = permit.body().is_some() || framing == Framing::Length(0);
        let first = if bodiless { State::Whole } else { State::Open };
        Self {
            piece: Some(whole(request.clone())),
            request,
            encoder: framing.into(),
            max_bytes: permit.route().max_body,
            state: first,
            first,
            spent: false,
            moved: false,
        }
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.state == State::Whole && self.piece.is_none()
    }

    /// Returns whether the application has read anything since the last call.
    pub(crate) fn has_moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }

    /// Restarts for another connection; returns false if some of the client's body was spent on the last one.
    pub(crate) fn restart(&mut self) -> bool {
        self.piece = Some(whole(self.request.clone()));
        self.state = self.first;
        !self.spent
    }

    /// Sends as much as possible without waiting.
    pub(crate) fn advance(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Client<'_>,
        upstream: &mut Connection,
        traffic: &mut Traffic,
    ) -> Result<Stage, Failure> {
        loop {
            if let Some(piece) = &mut self.piece {
                let before = piece.remaining();
                let sent = upstream.poll_send(cx, piece);
                self.moved |= piece.remaining() < before;
                match sent {
                    Poll::Pending => return Ok(Stage::AwaitsUpstream),
                    Poll::Ready(Ok(())) => self.piece = None,
                    Poll::Ready(Err(_)) => {
                        self.piece = None;
                        self.state = State::Refused;
                    }
                }
            }
            if matches!(self.state, State::Whole | State::Refused) {
                return Ok(Stage::Ended);
            }
            match client.poll_body(cx) {
                Poll::Pending => return Ok(Stage::AwaitsClient),
                Poll::Ready(data) => self.take(data?, traffic)?,
            }
        }
    }

    fn take(&mut self, data: Option<Bytes>, traffic: &mut Traffic) -> Result<(), Failure> {
        self.spent = true;
        let Some(data) = data else {
            let end = self.encoder.end().ok_or(ClientFault::Gone)?;
            self.piece = Some(whole(Bytes::from_static(end)));
            self.state = State::Whole;
            return Ok(());
        };
        traffic.bytes_in += data.len() as u64;
        if traffic.bytes_in > self.max_bytes {
            return Err(Failure::TooLarge);
        }
        self.piece = Some(self.encoder.encode(data).map_err(|_| ClientFault::Gone)?);
        Ok(())
    }
}

fn whole(bytes: Bytes) -> Encoded {
    Bytes::new().chain(bytes).chain(Bytes::new())
}
