//! The life of an HTTP/1 connection: parked between requests, then one request at a time.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method};
use sallyport_core::http1::{Http1Request, RequestHead, Version};
use tokio::sync::watch;

use crate::{
    clients::{
        client::{Client, Protocol},
        head_error::HeadError,
        http1::Http1,
        http1_end::{AfterRequest, end, respond_once},
        http1_head::{NextRequest, RequestWait, next},
    },
    edge::{Downstream, connection_limits::Activity},
    requests::{
        exchange::{Exchange, Outcome, Peer},
        gateway::Gateway,
        handle::handle,
        respond,
    },
};

/// Serves one client until either side closes the connection.
pub(crate) async fn serve(
    mut stream: Downstream,
    peer: Peer,
    gateway: Arc<Gateway>,
    activity: Arc<Activity>,
    stop: watch::Receiver<bool>,
) {
    let mut wait = RequestWait::new(&stop);
    let then = loop {
        let (request, ahead) = match next(&mut stream, &mut wait).await {
            NextRequest::Request(request, ahead) => (request, ahead),
            NextRequest::Closed => break AfterRequest::Close,
            NextRequest::Refused(refusal) => {
                break Box::pin(refuse(&mut stream, peer.clone(), refusal, &gateway)).await;
            }
        };
        let _busy = activity.begin();
        // On the heap, since the future that serves a request is much larger than the one that waits for it.
        let served = Box::pin(one_request(&mut stream, request, ahead, peer.clone(), &gateway, !*stop.borrow()));
        match served.await {
            AfterRequest::KeepAlive => {}
            then => break then,
        }
    };
    end(&mut stream, then).await;
}

async fn one_request(
    stream: &mut Downstream,
    request: Http1Request,
    ahead: Bytes,
    peer: Peer,
    gateway: &Gateway,
    keeps_alive: bool,
) -> AfterRequest {
    let http1 = Http1::new(stream, &request, ahead, keeps_alive);
    let mut client = Client::new(Protocol::Http1(http1), gateway.state.rules.load().config.limits.min_body_rate);
    handle(gateway, &mut client, request.head, peer).await;
    match client.protocol {
        Protocol::Http1(http1) => http1.leave().await,
        Protocol::Http2(_) => AfterRequest::Close,
    }
}

/// Answers a head that was refused, and logs it like a request.
async fn refuse(stream: &mut Downstream, peer: Peer, refusal: HeadError, gateway: &Gateway) -> AfterRequest {
    let mut exchange = Exchange::new(&gateway.state, unread_head(), peer);
    gateway.state.note_unread(exchange.client, refusal.reason());
    let denial = refusal.denial(&gateway.state.rules.load().site);
    let response = respond::denial(&exchange, &denial);
    exchange.traffic.status = Some(response.head.status);
    exchange.traffic.bytes_out = response.body.len() as u64;
    exchange.outcome = Outcome::Unread(denial.reason);
    respond_once(stream, &exchange.head.method, &response).await;
    AfterRequest::Linger
}

/// Returns a placeholder for a head that could not be read; nothing of it is logged.
fn unread_head() -> RequestHead {
    RequestHead::new(Method::default(), String::new(), String::new(), HeaderMap::new(), Version::Http11)
}
