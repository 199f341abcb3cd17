//! Creates signed links for `POST /.sallyport/links`.

use std::sync::Arc;

use http::StatusCode;
use sallyport_core::http1::RequestHead;
use serde::Deserialize;
use tracing::debug;

use super::{
    deny::{deny, reply},
    exchange::{Exchange, Outcome},
    respond,
};
use crate::{
    clients::{client::Client, fault::ClientFault},
    policy::Permit,
    state::{GatewayState, LinkPlace, LinkRefusal, LinkRequest},
};

/// The body of `POST /.sallyport/links`, which its policy rule has already validated.
#[derive(Deserialize)]
struct CreateLink {
    path: String,
    expires: Option<String>,
    user: Option<String>,
}

/// Creates the link that a permitted request asks for.
pub(crate) async fn create_link(
    state: &Arc<GatewayState>,
    client: &mut Client<'_>,
    exchange: &mut Exchange,
    permit: Permit,
) -> Result<(), ClientFault> {
    let made = match link_request(&exchange.head, &permit) {
        Ok(request) => state.make_link(request).await,
        Err(refusal) => Err(refusal),
    };
    match made {
        Ok(link) => {
            let response = respond::json(exchange, StatusCode::CREATED, &permit, &link);
            exchange.outcome = Outcome::Permitted(permit);
            reply(client, exchange, response).await
        }
        Err(refusal) => {
            // The response is the same for several causes; whoever runs the gateway may see which it was.
            debug!(request_id = %exchange.id, ?refusal, "a link was refused");
            let mut denial = permit.revoke(refusal.reason());
            denial.detail = Some(refusal.to_string());
            deny(client, exchange, denial).await
        }
    }
}

fn link_request(head: &RequestHead, permit: &Permit) -> Result<LinkRequest, LinkRefusal> {
    let maker = permit.identity().ok_or(LinkRefusal::NoMaker)?;
    let body = permit.body().ok_or(LinkRefusal::Internal)?;
    let body: CreateLink = serde_json::from_slice(body).map_err(|_| LinkRefusal::Internal)?;
    let user = body.user.map(|user| user.parse()).transpose().map_err(|_| LinkRefusal::BadUser)?;
    let life = body.expires.map(|text| text.parse()).transpose().map_err(|_| LinkRefusal::BadLife)?;
    Ok(LinkRequest {
        place: LinkPlace::Host(head.host.clone()),
        target: body.path,
        life,
        user: user.unwrap_or_else(|| maker.user.clone()),
        owner: None,
        maker: Some(Arc::clone(maker)),
        base: format!("https://{}", head.host),
    })
}
