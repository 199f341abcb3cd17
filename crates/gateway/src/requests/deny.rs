//! Answers a client with a denial, or with another answer of the gateway itself.

use tracing::debug;

use super::{
    exchange::{Exchange, Outcome},
    respond,
};
use crate::{
    clients::{answer::Answer, client::Client, fault::ClientFault},
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
    let answer = respond::denial(exchange, &denial);
    exchange.outcome = Outcome::Denied(denial.reason, denial.identity, denial.steps);
    reply(client, exchange, answer).await
}

/// Sends an answer of the gateway itself.
pub(crate) async fn reply(client: &mut Client<'_>, exchange: &mut Exchange, answer: Answer) -> Result<(), ClientFault> {
    exchange.traffic.status = Some(answer.head.status);
    exchange.traffic.bytes_out = answer.body.len() as u64;
    client.answer(answer).await
}
