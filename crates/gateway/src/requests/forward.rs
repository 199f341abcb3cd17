//! Forwards a permitted request to its application and the response back, both as streams.

use std::{
    future::poll_fn,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::StatusCode;
use sallyport_core::{
    clock,
    http1::{BodyDecoder, Framing, Http1Response, RequestHead, ResponseHead},
    names::username::UserName,
};
use tokio::time::{Instant, sleep};
use tracing::{debug, warn};

use super::{
    deny::deny,
    exchange::{Exchange, Outcome, Traffic},
    failure::Failure,
    from_upstream::{early_hints, from_upstream, opens_a_page},
    gateway::Gateway,
    to_upstream::{Onward, to_upstream},
    tunnel,
    upload::{Stage, Upload},
};
use crate::{
    clients::{
        client::{Client, Protocol},
        fault::ClientFault,
        pause::Pause,
        read_buffer::ReadBuffer,
        timeouts::{CREDENTIAL_CHECK_INTERVAL, IdleTimeout, Interruption},
    },
    limits::Acquaintance,
    policy::{Denial, Permit, Reason},
    state::GatewayState,
    upstream::{Connection, ResponseFault, UpstreamResponse},
};

/// The maximum number of early hints of one response that are forwarded.
const MAX_HINTS: u8 = 8;

/// Forwards a request. A failure before its response has begun is answered with a denial.
pub(crate) async fn forward(
    gateway: &Gateway,
    client: &mut Client<'_>,
    exchange: &mut Exchange,
) -> Result<(), ClientFault> {
    let Err(failure) = pass(gateway, client, exchange).await else { return Ok(()) };
    let Some(reason) = failure.reason() else { return Err(ClientFault::Gone) };
    if failure.is_the_clients() {
        debug!(request_id = %exchange.id, error = %failure, code = reason.code(), "a request failed");
    } else {
        warn!(request_id = %exchange.id, error = %failure, code = reason.code(), "a request failed");
    }
    if exchange.traffic.status.is_some() {
        exchange.traffic.broken_off = Some(reason);
        return Err(ClientFault::Gone);
    }
    let denial = match exchange.take_permit() {
        Some(permit) if matches!(failure, Failure::Revoked) => {
            let reason = revoked_reason(&permit);
            permit.revoke(reason)
        }
        Some(permit) => permit.revoke(reason),
        None => Denial::bare(reason),
    };
    deny(client, exchange, denial).await
}

async fn pass(gateway: &Gateway, client: &mut Client<'_>, exchange: &mut Exchange) -> Result<(), Failure> {
    let Exchange { id, client: address, outcome: Outcome::Permitted(permit), head, traffic, .. } = exchange else {
        return Err(Failure::NoPermit);
    };
    let framing = client.framing();
    let websocket = client.asks_for_websocket();
    // If enough of the body has arrived to refuse the request, none of it is forwarded.
    if framing == Framing::Chunked && client.arrived().await? > permit.route().max_body {
        return Err(Failure::TooLarge);
    }
    let onward = Onward { head, permit, client: *address, id: *id, framing, websocket };
    let request = to_upstream(&onward, &gateway.state.statement_key, clock::unix_now());
    let idle_timeout = IdleTimeout::new(permit.app().timeout);
    let upload = Upload::new(request, framing, permit);
    let state = &gateway.state;
    let pause = Pause::new(state, &gateway.load, known_user(permit));
    let mut forwarding = Forwarding { state, client, permit, asked: head, traffic, idle_timeout, pause, upload };
    let (mut upstream, response) = forwarding.ask(gateway).await?;
    let switches = websocket && response.switches_to_websocket();
    let Http1Response { head: mut answered, framing, connection, reusable } = response;
    from_upstream(&mut answered, &connection, permit, *id, &head.host);
    if answered.status == StatusCode::SWITCHING_PROTOCOLS {
        return forwarding.tunnel(upstream, answered, switches).await;
    }
    forwarding.respond(&mut upstream, answered, framing).await?;
    if reusable && forwarding.upload.is_whole() {
        gateway.pool.give_back(permit, upstream);
    }
    Ok(())
}

/// Returns the user who makes the request. Any client may have a link, so it does not count against the user who made it.
fn known_user(permit: &Permit) -> Option<&UserName> {
    let identity = permit.identity()?;
    match identity.kind().acquaintance() {
        Acquaintance::Known => Some(&identity.user),
        Acquaintance::Stranger => None,
    }
}

/// One request and its response in transit.
struct Forwarding<'a, 's> {
    state: &'a GatewayState,
    client: &'a mut Client<'s>,
    permit: &'a Permit,
    asked: &'a RequestHead,
    traffic: &'a mut Traffic,
    idle_timeout: IdleTimeout,
    pause: Pause<'a>,
    upload: Upload,
}

impl Forwarding<'_, '_> {
    /// Sends the request and waits for the head of its response.
    ///
    /// The application may have closed a pooled connection in the meantime, and then it is unknown whether it has read the request. So a request
    /// that is not idempotent (RFC 9110, section 9.2.2) uses a pooled connection only just after that connection's last response, and is never
    /// sent twice.
    async fn ask(&mut self, gateway: &Gateway) -> Result<(Connection, Http1Response), Failure> {
        if gateway.worker.keeps_waiting(self.state, self.permit) {
            return Err(Failure::WorkerDown);
        }
        let pool = &gateway.pool;
        let repeatable = self.asked.method.is_idempotent();
        let waiting = if repeatable { pool.take(self.permit) } else { pool.take_fresh(self.permit) };
        if let Some(mut upstream) = waiting {
            match self.head(&mut upstream).await {
                Err(Failure::Response(ResponseFault::Silent)) if repeatable && self.upload.restart() => {}
                Err(fault @ Failure::Response(ResponseFault::Silent)) => {
                    pool.distrust(self.permit);
                    return Err(fault);
                }
                response => return response.map(|response| (upstream, response)),
            }
        }
        let mut upstream = pool.connect(self.permit).await?;
        let response = self.head(&mut upstream).await?;
        Ok((upstream, response))
    }

    async fn head(&mut self, upstream: &mut Connection) -> Result<Http1Response, Failure> {
        let mut hints = MAX_HINTS;
        loop {
            let said = poll_fn(|cx| {
                let stage = self.advance(cx, upstream)?;
                if let Poll::Ready(said) = upstream.poll_head(cx, &self.asked.method) {
                    return Poll::Ready(said.map_err(Failure::from));
                }
                self.poll_wait(cx, stage).map(Err)
            });
            match said.await? {
                UpstreamResponse::Final(response) => {
                    self.traffic.note_upstream_response();
                    return Ok(response);
                }
                UpstreamResponse::Interim(head) => self.interim(&head, &mut hints)?,
            }
        }
    }

    /// An interim response shows that the application is alive. Its early hints are forwarded only to a browser that opens a page; few other
    /// clients expect an interim response before the final one.
    fn interim(&mut self, head: &ResponseHead, hints: &mut u8) -> Result<(), Failure> {
        if self.idle_timeout.reset() {
            self.look()?;
        }
        if *hints > 0
            && opens_a_page(&self.asked.headers)
            && let Some(hint) = early_hints(head)
        {
            *hints -= 1;
            self.client.hint(hint)?;
        }
        Ok(())
    }

    /// Advances the upload. An application that is reading the request is not silent, however long that takes.
    fn advance(&mut self, cx: &mut Context<'_>, upstream: &mut Connection) -> Result<Stage, Failure> {
        let stage = self.upload.advance(cx, self.client, upstream, self.traffic)?;
        if self.upload.has_moved() && self.idle_timeout.reset() {
            self.look()?;
        }
        Ok(stage)
    }

    async fn respond(
        &mut self,
        upstream: &mut Connection,
        head: ResponseHead,
        framing: Framing,
    ) -> Result<(), Failure> {
        self.traffic.status = Some(head.status);
        self.client.start(head, framing).await?;
        let mut body = BodyDecoder::new(framing);
        let mut read_buffer = ReadBuffer::default();
        while let Some(data) = self.next_piece(upstream, &mut body, read_buffer.bytes()).await? {
            let began = Instant::now();
            let bytes = data.len() as u64;
            self.traffic.bytes_out += bytes;
            tokio::select! {
                biased;
                sent = self.client.send(data, &mut self.pause) => sent?,
                () = revoked(self.state, self.permit) => return Err(Failure::Revoked),
            }
            read_buffer.took(bytes, began);
            if self.idle_timeout.reset() {
                self.look()?;
            }
        }
        Ok(self.client.finish().await?)
    }

    async fn next_piece(
        &mut self,
        upstream: &mut Connection,
        body: &mut BodyDecoder,
        most: usize,
    ) -> Result<Option<Bytes>, Failure> {
        poll_fn(|cx| {
            let stage = self.advance(cx, upstream)?;
            if let Poll::Ready(data) = upstream.poll_body(cx, body, most) {
                return Poll::Ready(data.map_err(Failure::from));
            }
            // The application has sent no more yet, so flush the data that the client is waiting for.
            if let Poll::Ready(Err(fault)) = self.client.poll_flush(cx) {
                return Poll::Ready(Err(fault.into()));
            }
            self.poll_wait(cx, stage).map(Err)
        })
        .await
    }

    /// Completes with the failure that ends the wait for the application.
    fn poll_wait(&mut self, cx: &mut Context<'_>, stage: Stage) -> Poll<Failure> {
        match stage {
            Stage::Ended if self.client.poll_gone(cx).is_ready() => return Poll::Ready(ClientFault::Gone.into()),
            // The client has its own limits, and its silence does not count as the application's.
            Stage::AwaitsClient
                if self.idle_timeout.reset()
                    && let Err(revoked) = self.look() =>
            {
                return Poll::Ready(revoked);
            }
            Stage::Ended | Stage::AwaitsClient | Stage::AwaitsUpstream => {}
        }
        loop {
            match ready!(self.idle_timeout.poll_interruption(cx)) {
                Interruption::TimedOut => return Poll::Ready(Failure::Silence(self.permit.app().timeout)),
                Interruption::CheckCredential => {
                    if let Err(revoked) = self.look() {
                        return Poll::Ready(revoked);
                    }
                }
            }
        }
    }

    /// Fails if the credential of the request is no longer valid.
    fn look(&self) -> Result<(), Failure> {
        if is_still_valid(self.state, self.permit) { Ok(()) } else { Err(Failure::Revoked) }
    }

    /// Connects client and application, which both speak WebSocket from now on.
    async fn tunnel(&mut self, upstream: Connection, head: ResponseHead, asked: bool) -> Result<(), Failure> {
        let Protocol::Http1(http1) = &mut self.client.protocol else { return Err(Failure::Switched) };
        if !asked {
            return Err(Failure::Switched);
        }
        self.traffic.status = Some(head.status);
        let stream = http1.switch(&head).await?;
        tokio::select! {
            () = tunnel::join(stream, upstream, self.traffic) => Ok(()),
            () = revoked(self.state, self.permit) => Err(Failure::Revoked),
        }
    }
}

/// Returns the reason for a credential that is no longer valid. A link has expired, and the client is not asked for a credential.
pub(crate) fn revoked_reason(permit: &Permit) -> Reason {
    let is_link = permit.identity().is_some_and(|identity| identity.kind().is_link());
    if is_link { Reason::ExpiredLink } else { Reason::BadCredential }
}

/// Returns whether the credential of a permitted request is still valid.
pub(crate) fn is_still_valid(state: &GatewayState, permit: &Permit) -> bool {
    permit.identity().is_none_or(|identity| state.authority.load().is_still_valid(identity, clock::unix_now()))
}

/// Completes once the credential of a permitted request is no longer valid.
async fn revoked(state: &GatewayState, permit: &Permit) {
    while is_still_valid(state, permit) {
        sleep(CREDENTIAL_CHECK_INTERVAL).await;
    }
}
