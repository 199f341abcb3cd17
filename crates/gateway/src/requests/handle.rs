//! Handles one request from its head to its response, over HTTP/1 or HTTP/2.

use std::{future::poll_fn, net::IpAddr};

use sallyport_core::http1::RequestHead;
use tracing::debug;

use super::{
    create_link::create_link,
    deny::{deny, reply},
    exchange::{Exchange, Outcome, Peer},
    forward::{self, forward},
    gateway::Gateway,
    respond,
};
use crate::{
    clients::{client::Client, client_address::client_address, fault::ClientFault, head_error::HeadError},
    policy::{Behind, Decision, Denial, PendingBody, Permit, Reason, RequestFacts, Target},
    state::GatewayState,
};

/// The client that a request counts against; `None` for an address that many clients share.
pub(crate) type CountedAs = Option<IpAddr>;

/// Decides on one request and answers it.
pub(crate) async fn handle(gateway: &Gateway, client: &mut Client<'_>, head: RequestHead, peer: Peer) -> CountedAs {
    let mut exchange = Exchange::new(&gateway.state, head, peer);
    let counted_as = identify(gateway, &mut exchange);
    let limits = gateway.state.rules.load().config.limits;
    let Some(_share) = gateway.load.admit(&limits, counted_as) else {
        client.close_after();
        let denial = exchange.denial(Reason::Overloaded);
        let _ = deny(client, &mut exchange, denial).await;
        return counted_as;
    };
    if respond(gateway, client, &mut exchange).await.is_err() {
        client.abort();
    }
    counted_as
}

/// Answers a request whose head violates the grammar.
pub(crate) async fn refuse(
    gateway: &Gateway,
    client: &mut Client<'_>,
    head: RequestHead,
    peer: Peer,
    refusal: HeadError,
) -> CountedAs {
    let mut exchange = Exchange::new(&gateway.state, head, peer);
    let counted_as = identify(gateway, &mut exchange);
    gateway.state.note_unread(exchange.client, refusal.reason());
    let denial = Denial { detail: refusal.detail(), ..exchange.denial(refusal.reason()) };
    let _ = deny(client, &mut exchange, denial).await;
    counted_as
}

/// Decides on the request, including its body if the route has a rule for it, and carries out the decision.
async fn respond(gateway: &Gateway, client: &mut Client<'_>, exchange: &mut Exchange) -> Result<(), ClientFault> {
    let permit = match judge_head(&gateway.state, exchange, client.asks_for_websocket()) {
        Decision::Forward(permit) => permit,
        Decision::Judge(pending) => match judge_body(client, exchange, pending).await? {
            // A body may take long to arrive, and the credential may have been revoked in the meantime.
            Ok(permit) if !forward::is_still_valid(&gateway.state, &permit) => {
                let reason = forward::revoked_reason(&permit);
                return deny(client, exchange, permit.revoke(reason)).await;
            }
            Ok(permit) => permit,
            Err(denial) => return deny(client, exchange, denial).await,
        },
        Decision::Preflight(response) => {
            let response = respond::preflight(exchange, &response);
            exchange.outcome = Outcome::Preflight;
            return reply(client, exchange, response).await;
        }
        Decision::Respond(denial) => return deny(client, exchange, denial).await,
    };
    // On the heap, so that a denial does not pay for the state that only forwarding needs.
    Box::pin(permitted(gateway, client, exchange, permit)).await
}

/// Determines the client's address.
fn identify(gateway: &Gateway, exchange: &mut Exchange) -> CountedAs {
    let rules = gateway.state.rules.load();
    let proxies = &rules.config.proxies;
    exchange.client = client_address(exchange.client, &exchange.head.headers, proxies);
    (!proxies.is_shared(exchange.client)).then_some(exchange.client)
}

fn judge_head(state: &GatewayState, exchange: &mut Exchange, upgrade: bool) -> Decision {
    let head = &exchange.head;
    let rules = state.rules.load();
    let now = exchange.at.as_second();
    if state.bans.shut_out(&rules.config, exchange.client, now) {
        return Decision::Respond(exchange.denial(Reason::Banned));
    }
    let facts = RequestFacts {
        method: &head.method,
        path: head.path(),
        query: head.query(),
        headers: &head.headers,
        host: &head.host,
        addressing: exchange.addressing(),
        client: exchange.client,
        behind: if rules.config.proxies.is_shared(exchange.client) { Behind::Many } else { Behind::One },
        acquaintance: state.bans.acquaintance(exchange.client, now),
        countries: rules.countries.as_ref().map(|known| known as _),
        upgrade,
        certificate: exchange.certificate(),
    };
    let authority = state.authority.load();
    let decision = rules.site.decide(&facts, &authority, now);
    state.bans.note(&rules.config, &facts, &decision, &authority, now);
    decision
}

async fn judge_body(
    client: &mut Client<'_>,
    exchange: &mut Exchange,
    pending: PendingBody,
) -> Result<Result<Permit, Denial>, ClientFault> {
    let mut body = Vec::new();
    loop {
        match poll_fn(|cx| client.poll_body(cx)).await {
            Ok(Some(data)) if body.len() as u64 + data.len() as u64 > pending.max_bytes() => {
                return Ok(Err(pending.deny(Reason::BodyTooLarge)));
            }
            Ok(Some(data)) => body.extend_from_slice(&data),
            Ok(None) => break,
            Err(ClientFault::Gone) => return Err(ClientFault::Gone),
            Err(ClientFault::TooSlow) => return Ok(Err(pending.deny(Reason::BodyTooSlow))),
            Err(ClientFault::Malformed(_)) => return Ok(Err(pending.deny(Reason::BadFraming))),
        }
        exchange.traffic.bytes_in = body.len() as u64;
    }
    Ok(pending.judge(&exchange.head.headers, &body))
}

async fn permitted(
    gateway: &Gateway,
    client: &mut Client<'_>,
    exchange: &mut Exchange,
    permit: Permit,
) -> Result<(), ClientFault> {
    debug!(request_id = %exchange.id, steps = ?permit.steps(), "permitted");
    match permit.target() {
        Target::CreateLink => create_link(&gateway.state, client, exchange, permit).await,
        Target::Welcome => {
            let response = respond::welcome(exchange, &permit);
            exchange.outcome = Outcome::Permitted(permit);
            reply(client, exchange, response).await
        }
        Target::Upstream(_) => {
            exchange.outcome = Outcome::Permitted(permit);
            forward(gateway, client, exchange).await
        }
    }
}
