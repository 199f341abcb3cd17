//! The plain listener: one request of each client, answered without an application, and then the connection ends.

use std::{net::IpAddr, sync::Arc};

use http::{HeaderMap, StatusCode};
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
    edge::Caller,
    message::{RequestHead, ResponseHead},
    observe::RequestId,
};

/// Who may answer here; the first that has something to say does, and the redirect always has.
pub(super) struct Plain {
    redirect: Redirect,
}

impl Plain {
    pub(super) fn new(config: &Config) -> Self {
        Self { redirect: Redirect { port: config.public_url.port_or_known_default().unwrap_or(443) } }
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
        self.redirect.answer(head)
    }
}

/// An answer without a body.
pub(super) fn bare(status: StatusCode) -> Answer {
    Answer { head: ResponseHead { status, headers: HeaderMap::new() }, body: Vec::new() }
}
