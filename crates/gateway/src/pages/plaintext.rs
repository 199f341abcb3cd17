//! The plaintext listener: answers one request per connection, without an application, and closes the connection.

use std::{net::IpAddr, sync::Arc};

use http::{HeaderValue, StatusCode, header};
use sallyport_core::{
    addresses::is_local,
    config::{Config, TlsMode},
    http1::RequestHead,
};
use tokio::sync::watch;
use tracing::warn;

use super::{
    redirect::{ClientLocation, Redirect},
    trust_page::{TRUST_PAGE, TrustPage},
};
use crate::{
    clients::{
        client_address::client_address,
        http1_end::{AfterRequest, end, respond_once},
        http1_head::{NextRequest, RequestWait, next},
        own_response::{OwnResponse, REQUEST_ID, request_id},
    },
    edge::{Caller, Certificates, local_ca::LocalCa, trust_anchor::TrustAnchor},
    observe::RequestId,
    state::GatewayState,
};

/// The responses of the plaintext listener, in order: the ACME challenge, the trust page and the redirect, which always applies.
pub(crate) struct Plain {
    certificates: Arc<Certificates>,
    state: Arc<GatewayState>,
    /// For clients in the local network, if the certificate authority is the local one.
    trust_page: Option<TrustPage>,
    redirect: Redirect,
}

impl Plain {
    pub(crate) fn new(config: &Config, certificates: Arc<Certificates>, state: &Arc<GatewayState>) -> Self {
        Self {
            state: Arc::clone(state),
            certificates,
            trust_page: trust_page(&config.tls.mode),
            redirect: Redirect::new(config),
        }
    }

    /// Answers one request and closes the connection.
    pub(crate) async fn serve(self: Arc<Self>, caller: Caller, stop: watch::Receiver<bool>) {
        let Caller { mut stream, address, .. } = caller;
        let (method, mut response) = match next(&mut stream, &mut RequestWait::new(&stop)).await {
            NextRequest::Request(request, _) => {
                let response = self.respond(&request.head, address.ip());
                (request.head.method, response)
            }
            NextRequest::Refused(_) => (http::Method::GET, OwnResponse::bare(StatusCode::BAD_REQUEST)),
            NextRequest::Closed => return,
        };
        response.head.headers.insert(REQUEST_ID, request_id(RequestId::next()));
        respond_once(&mut stream, &method, &response).await;
        end(&mut stream, AfterRequest::Linger).await;
    }

    fn respond(&self, head: &RequestHead, peer: IpAddr) -> OwnResponse {
        let client = client_address(peer, &head.headers, &self.state.rules.load().config.proxies);
        let reach = if is_local(client) { ClientLocation::Local } else { ClientLocation::Outside };
        let own = self.acme_response(head).or_else(|| self.trust_response(head, reach));
        own.unwrap_or_else(|| self.redirect.respond(head, reach))
    }

    /// Answers an HTTP challenge (RFC 8555, section 8.3), by which an ACME authority validates that a name is ours.
    fn acme_response(&self, head: &RequestHead) -> Option<OwnResponse> {
        let token = head.target().strip_prefix("/.well-known/acme-challenge/")?;
        let body = self.certificates.challenge_answer(token)?;
        let mut response = OwnResponse::bare(StatusCode::OK);
        response.head.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        response.body = body.into_bytes();
        Some(response)
    }

    fn trust_response(&self, head: &RequestHead, reach: ClientLocation) -> Option<OwnResponse> {
        match reach {
            ClientLocation::Local => self.trust_page.as_ref()?.respond(head),
            ClientLocation::Outside => None,
        }
    }
}

/// Reads the trust page; everything else works without it.
fn trust_page(mode: &TlsMode) -> Option<TrustPage> {
    let TlsMode::LocalCa { dir, .. } = mode else { return None };
    match TrustAnchor::read(&LocalCa::new(dir).authority_cert()) {
        Ok(anchor) => Some(TrustPage::new(&anchor)),
        Err(error) => {
            warn!(%error, path = TRUST_PAGE, "the page for devices that should trust the local authority is not available");
            None
        }
    }
}
