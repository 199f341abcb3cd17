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
        answer::{Answer, REQUEST_ID, request_id},
        client_address::client_address,
        http1_end::{AfterRequest, answer_once, end},
        http1_head::{NextRequest, RequestWait, next},
    },
    edge::{Caller, Certificates, local_ca::LocalCa, trust_anchor::TrustAnchor},
    observe::RequestId,
    state::GatewayState,
};

/// The answers of the plaintext listener, in order: the ACME challenge, the trust page and the redirect, which always applies.
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
        let (method, mut answer) = match next(&mut stream, &mut RequestWait::new(&stop)).await {
            NextRequest::Request(request, _) => {
                let answer = self.answer(&request.head, address.ip());
                (request.head.method, answer)
            }
            NextRequest::Refused(_) => (http::Method::GET, Answer::bare(StatusCode::BAD_REQUEST)),
            NextRequest::Closed => return,
        };
        answer.head.headers.insert(REQUEST_ID, request_id(RequestId::next()));
        answer_once(&mut stream, &method, &answer).await;
        end(&mut stream, AfterRequest::Linger).await;
    }

    fn answer(&self, head: &RequestHead, peer: IpAddr) -> Answer {
        let client = client_address(peer, &head.headers, &self.state.rules.load().config.proxies);
        let reach = if is_local(client) { ClientLocation::Local } else { ClientLocation::Outside };
        let own = self.acme_answer(head).or_else(|| self.trust_answer(head, reach));
        own.unwrap_or_else(|| self.redirect.answer(head, reach))
    }

    /// Answers an HTTP challenge (RFC 8555, section 8.3), by which an ACME authority validates that a name is ours.
    fn acme_answer(&self, head: &RequestHead) -> Option<Answer> {
        let token = head.target().strip_prefix("/.well-known/acme-challenge/")?;
        let body = self.certificates.challenge_answer(token)?;
        let mut answer = Answer::bare(StatusCode::OK);
        answer.head.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        answer.body = body.into_bytes();
        Some(answer)
    }

    fn trust_answer(&self, head: &RequestHead, reach: ClientLocation) -> Option<Answer> {
        match reach {
            ClientLocation::Local => self.trust_page.as_ref()?.answer(head),
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
