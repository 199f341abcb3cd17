//! Answers a client with a denial, or with another response of the gateway itself.

use tracing::debug;

use super::{
    exchange::{Exchange, Outcome},
    respond,
};
use crate::{
    clients::{client::Client, fault::ClientFault, own_response::OwnResponse},
    policy::{Denial, Reason},
};

/// Answers with a denial.
pub(crate) async fn deny(client: &mut Client<'_>, exchange: &mut Exchange, denial: Denial) -> Result<(), ClientFault> {
    debug!(request_id = %exchange.id, steps = ?denial.steps, "denied");
    // A proxy's connection also carries requests of other clients, which are not banned.
    let banned = denial.reason == Reason::Banned && exchange.is_direct();
    if banned {
        client.end_connection();
    } else if matches!(denial.reason, Reason::BadHost | Reason::BadFraming) {
        client.close_after();
    }
    let response = respond::denial(exchange, &denial);
    exchange.outcome = Outcome::Denied(denial.reason, denial.identity, denial.steps);
    reply(client, exchange, response).await
}

/// Sends a response of the gateway itself.
pub(crate) async fn reply(
    client: &mut Client<'_>,
    exchange: &mut Exchange,
    response: OwnResponse,
) -> Result<(), ClientFault> {
    exchange.traffic.status = Some(response.head.status);
    exchange.traffic.bytes_out = response.body.len() as u64;
    client.respond(response).await
}
