//! A permitted request goes to its application, and the answer comes back, both piece by piece.

use std::{
    future::poll_fn,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, Bytes};
use http::{Method, StatusCode};
use thiserror::Error;
use tokio::io::copy_bidirectional;
use tracing::warn;

use super::{
    client::{Client, ClientFault, Speaks},
    exchange::{Exchange, Outcome, Traffic},
    handle::{Gateway, deny},
    headers::{self, Onward},
    live::now,
    pace::Patience,
};
use crate::{
    message::{BodyDecoder, BodyEncoder, Encoded, Framing, Http1Response, ResponseHead},
    policy::{Denial, Permit, Reason},
    upstream::{AnswerFault, ConnectFault, Connection},
};

/// What went wrong between client and application.
#[derive(Debug, Error)]
enum Failure {
    #[error(transparent)]
    Client(#[from] ClientFault),
    #[error(transparent)]
    Connect(#[from] ConnectFault),
    #[error(transparent)]
    Answer(#[from] AnswerFault),
    #[error("the application was silent for {0:?}")]
    Silence(Duration),
    #[error("the body is larger than its route takes")]
    TooLarge,
    #[error("the application switches protocols unasked")]
    Switched,
    #[error("no permit")]
    NoPermit,
}

impl Failure {
    /// None where it is the client that went.
    const fn reason(&self) -> Option<Reason> {
        match self {
            Self::Client(ClientFault::Gone) => None,
            Self::Client(ClientFault::TooSlow) => Some(Reason::BodyTooSlow),
            Self::Client(ClientFault::Malformed(_)) => Some(Reason::BadFraming),
            Self::TooLarge => Some(Reason::BodyTooLarge),
            Self::Silence(_) => Some(Reason::UpstreamTimeout),
            Self::Connect(_) | Self::Answer(_) | Self::Switched => Some(Reason::UpstreamUnreachable),
            Self::NoPermit => Some(Reason::Internal),
        }
    }
}

/// Forwards a request, and answers what goes wrong before its answer has begun.
pub(super) async fn forward(
    gateway: &Gateway,
    client: &mut Client<'_>,
    exchange: &mut Exchange,
) -> Result<(), ClientFault> {
    let Err(failure) = pass(gateway, client, exchange).await else { return Ok(()) };
    let Some(reason) = failure.reason() else { return Err(ClientFault::Gone) };
    warn!(request_id = %exchange.id, error = %failure, code = reason.code(), "a request failed");
    if exchange.traffic.status.is_some() {
        return Err(ClientFault::Gone);
    }
    let denial = match exchange.take_permit() {
        Some(permit) => permit.revoke(reason),
        None => Denial::bare(reason),
    };
    deny(client, exchange, denial).await
}

async fn pass(gateway: &Gateway, client: &mut Client<'_>, exchange: &mut Exchange) -> Result<(), Failure> {
    let onward = Onward { framing: client.framing(), websocket: client.asks_for_websocket() };
    let request =
        headers::to_upstream(exchange, onward, &gateway.live.statement_key, now()).ok_or(Failure::NoPermit)?;
    let Exchange { id, outcome: Outcome::Permitted(permit), head, traffic, .. } = exchange else {
        return Err(Failure::NoPermit);
    };
    let patience = Patience::new(permit.app().timeout);
    let upload = Upload::new(request, onward.framing, permit);
    let mut passage = Passage { client, permit, method: &head.method, traffic, patience, upload };
    let (mut upstream, answer) = passage.ask(gateway).await?;
    let Http1Response { head: mut answered, framing, connection, reusable } = answer;
    headers::from_upstream(&mut answered, &connection, permit.cors(), *id, &head.host);
    if answered.status == StatusCode::SWITCHING_PROTOCOLS {
        return passage.tunnel(upstream, answered, onward.websocket && connection.upgrade).await;
    }
    passage.answer(&mut upstream, answered, framing).await?;
    if reusable && passage.upload.is_whole() {
        gateway.pool.give_back(permit, upstream);
    }
    Ok(())
}

/// One request on its way there and back.
struct Passage<'a, 's> {
    client: &'a mut Client<'s>,
    permit: &'a Permit,
    method: &'a Method,
    traffic: &'a mut Traffic,
    patience: Patience,
    upload: Upload,
}

impl Passage<'_, '_> {
    /// Sends the request and waits for the head of its answer.
    ///
    /// A connection that has waited may have been closed meanwhile, and whoever closed it cannot say whether it had read
    /// the request; so only what may be repeated goes over such a connection (RFC 9110, section 9.2.2).
    async fn ask(&mut self, gateway: &Gateway) -> Result<(Connection, Http1Response), Failure> {
        if self.method.is_idempotent()
            && let Some(mut upstream) = gateway.pool.take(self.permit)
        {
            match self.head(&mut upstream).await {
                Err(Failure::Answer(AnswerFault::Silent)) if self.upload.restart() => {}
                answer => return answer.map(|answer| (upstream, answer)),
            }
        }
        let mut upstream = gateway.pool.connect(self.permit).await?;
        let answer = self.head(&mut upstream).await?;
        Ok((upstream, answer))
    }

    async fn head(&mut self, upstream: &mut Connection) -> Result<Http1Response, Failure> {
        let answer = poll_fn(|cx| {
            let stage = self.upload.advance(cx, self.client, upstream, self.traffic)?;
            if let Poll::Ready(answer) = upstream.poll_head(cx, self.method) {
                return Poll::Ready(answer.map_err(Failure::from));
            }
            self.poll_wait(cx, stage).map(Err)
        });
        let answer = answer.await?;
        self.traffic.note_upstream_answer();
        Ok(answer)
    }

    async fn answer(&mut self, upstream: &mut Connection, head: ResponseHead, framing: Framing) -> Result<(), Failure> {
        self.traffic.status = Some(head.status);
        self.client.start(head, framing).await?;
        let mut body = BodyDecoder::new(framing);
        while let Some(data) = self.next_piece(upstream, &mut body).await? {
            self.traffic.bytes_out += data.len() as u64;
            self.client.send(data).await?;
            self.patience.reset();
        }
        Ok(self.client.finish().await?)
    }

    async fn next_piece(
        &mut self,
        upstream: &mut Connection,
        body: &mut BodyDecoder,
    ) -> Result<Option<Bytes>, Failure> {
        poll_fn(|cx| {
            let stage = self.upload.advance(cx, self.client, upstream, self.traffic)?;
            if let Poll::Ready(data) = upstream.poll_body(cx, body) {
                return Poll::Ready(data.map_err(Failure::from));
            }
            // Nothing more is here for now, so what was written must not wait any longer.
            if let Poll::Ready(Err(fault)) = self.client.poll_flush(cx) {
                return Poll::Ready(Err(fault.into()));
            }
            self.poll_wait(cx, stage).map(Err)
        })
        .await
    }

    /// Ready with the reason when the wait for the application ends otherwise.
    fn poll_wait(&mut self, cx: &mut Context<'_>, stage: Stage) -> Poll<Failure> {
        match stage {
            // The client has limits of its own.
            Stage::AwaitsClient => {
                self.patience.reset();
                return Poll::Pending;
            }
            Stage::Ended if self.client.poll_gone(cx).is_ready() => return Poll::Ready(ClientFault::Gone.into()),
            Stage::Ended | Stage::AwaitsUpstream => {}
        }
        self.patience.poll_over(cx).map(|()| Failure::Silence(self.permit.app().timeout))
    }

    /// Joins client and application, who both speak WebSocket from here on.
    async fn tunnel(&mut self, mut upstream: Connection, head: ResponseHead, asked: bool) -> Result<(), Failure> {
        let Speaks::Http1(http1) = &mut self.client.speaks else { return Err(Failure::Switched) };
        if !asked {
            return Err(Failure::Switched);
        }
        self.traffic.status = Some(head.status);
        let stream = http1.switch(&head).await?;
        if let Ok((up, down)) = copy_bidirectional(stream, &mut upstream).await {
            (self.traffic.bytes_in, self.traffic.bytes_out) = (up, down);
        }
        Ok(())
    }
}

/// The request on its way to the application: its head, with a judged body if there is one, then the client's body.
struct Upload {
    request: Bytes,
    piece: Option<Encoded>,
    encoder: BodyEncoder,
    max_bytes: u64,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The body is still to come, and nothing of it has.
    Untouched,
    /// Some of the body has come.
    Begun,
    /// All of it has come.
    Whole,
    /// The application takes no more of it; it may have answered all the same.
    Refused,
}

/// Who has to do something for the request to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    AwaitsClient,
    AwaitsUpstream,
    Ended,
}

impl Upload {
    fn new(request: Bytes, framing: Framing, permit: &Permit) -> Self {
        let bodiless = permit.body().is_some() || framing == Framing::Length(0);
        let state = if bodiless { State::Whole } else { State::Untouched };
        let max_bytes = permit.route().max_body;
        Self { piece: Some(whole(request.clone())), request, encoder: framing.into(), max_bytes, state }
    }

    fn is_whole(&self) -> bool {
        self.state == State::Whole && self.piece.is_none()
    }

    /// Begins anew for another connection, if nothing of the client's body was spent on the last.
    fn restart(&mut self) -> bool {
        self.piece = Some(whole(self.request.clone()));
        matches!(self.state, State::Untouched | State::Whole) && self.encoder.end().is_none_or(<[u8]>::is_empty)
    }

    /// Moves what can be moved.
    fn advance(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Client<'_>,
        upstream: &mut Connection,
        traffic: &mut Traffic,
    ) -> Result<Stage, Failure> {
        loop {
            if let Some(piece) = &mut self.piece {
                match upstream.poll_send(cx, piece) {
                    Poll::Pending => return Ok(Stage::AwaitsUpstream),
                    Poll::Ready(Ok(())) => self.piece = None,
                    Poll::Ready(Err(_)) => (self.piece, self.state) = (None, State::Refused),
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
        let Some(data) = data else {
            let end = self.encoder.end().ok_or(ClientFault::Gone)?;
            (self.piece, self.state) = (Some(whole(Bytes::from_static(end))), State::Whole);
            return Ok(());
        };
        traffic.bytes_in += data.len() as u64;
        if traffic.bytes_in > self.max_bytes {
            return Err(Failure::TooLarge);
        }
        self.piece = Some(self.encoder.encode(data).map_err(|_| ClientFault::Gone)?);
        self.state = State::Begun;
        Ok(())
    }
}

fn whole(bytes: Bytes) -> Encoded {
    Bytes::new().chain(bytes).chain(Bytes::new())
}
