//! The plain listener: one request of each client, answered without an application, and then the connection ends.

use std::{net::IpAddr, sync::Arc};

use http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio::sync::watch;

use super::{
    client::Answer,
    connection::{Next, Vigil, end, next},
    headers::{REQUEST_ID, request_id},
    http1::{Then, answer_once},
    redirect::Redirect,
};
use crate::{
    config::Config,
    edge::{Caller, Certificates},
    message::{RequestHead, ResponseHead},
    observe::RequestId,
};

/// Who may answer here; the first that has something to say does, and the redirect always has.
pub(super) struct Plain {
    certificates: Arc<Certificates>,
    redirect: Redirect,
}

impl Plain {
    pub(super) fn new(config: &Config, certificates: Arc<Certificates>) -> Self {
        Self { certificates, redirect: Redirect { port: config.public_url.port_or_known_default().unwrap_or(443) } }
    }

    /// Answers one request and closes.
    pub(super) async fn serve(self: Arc<Self>, caller: Caller, stop: watch::Receiver<bool>) {
        let Caller { mut stream, address, .. } = caller;
        let (method, mut answer) = match next(&mut stream, &mut Vigil::new(&stop)).await {
            Next::Request(request, _) => {
                let answer = self.answer(&request.head, address.ip());
                (request.head.method, answer)
            }
            Next::Refused(_) => (http::Method::GET, bare(StatusCode::BAD_REQUEST)),
            Next::Closed => return,
        };
        answer.head.headers.insert(REQUEST_ID, request_id(RequestId::next()));
        answer_once(&mut stream, &method, &answer).await;
        end(&mut stream, Then::Linger).await;
    }

    fn answer(&self, head: &RequestHead, _client: IpAddr) -> Answer {
        self.acme_answer(head).unwrap_or_else(|| self.redirect.answer(head))
    }
}

impl Plain {
    /// What an authority wants to see (RFC 8555, section 8.3), while it looks whether a name is ours.
    fn acme_answer(&self, head: &RequestHead) -> Option<Answer> {
        let token = head.target().strip_prefix("/.well-known/acme-challenge/")?;
        let body = self.certificates.challenge_answer(token)?;
        let mut answer = bare(StatusCode::OK);
        answer.head.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        answer.body = body.into_bytes();
        Some(answer)
    }
}

/// An answer without a body.
pub(super) fn bare(status: StatusCode) -> Answer {
    Answer { head: ResponseHead { status, headers: HeaderMap::new() }, body: Vec::new() }
}
