//! The life of an HTTP/1 connection: parked between requests, then one request at a time.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method};
use sallyport_core::http1::{Http1Request, RequestHead, Version};
use tokio::sync::watch;

use crate::{
    clients::{
        client::{Client, Speaks},
        head_error::HeadError,
        http1::Http1,
        http1_end::{Then, answer_once, end},
        http1_head::{Next, Vigil, next},
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
    let mut vigil = Vigil::new(&stop);
    let then = loop {
        let (request, ahead) = match next(&mut stream, &mut vigil).await {
            Next::Request(request, ahead) => (request, ahead),
            Next::Closed => break Then::Close,
            Next::Refused(refusal) => break Box::pin(refuse(&mut stream, peer.clone(), refusal, &gateway)).await,
        };
        let _busy = activity.begin();
        // On the heap, since the future that serves a request is much larger than the one that waits for it.
        let served = Box::pin(one_request(&mut stream, request, ahead, peer.clone(), &gateway, !*stop.borrow()));
        match served.await {
            Then::Next => {}
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
) -> Then {
    let http1 = Http1::new(stream, &request, ahead, keeps_alive);
    let mut client = Client::new(Speaks::Http1(http1), gateway.live.rules.load().config.limits.min_body_rate);
    handle(gateway, &mut client, request.head, peer).await;
    match client.speaks {
        Speaks::Http1(http1) => http1.leave().await,
        Speaks::Http2(_) => Then::Close,
    }
}

/// Answers a head that was refused, and logs it like a request.
async fn refuse(stream: &mut Downstream, peer: Peer, refusal: HeadError, gateway: &Gateway) -> Then {
    let mut exchange = Exchange::new(&gateway.live, unread_head(), peer);
    gateway.live.note_unread(exchange.client, refusal.reason());
    let denial = refusal.denial(&gateway.live.rules.load().site);
    let answer = respond::denial(&exchange, &denial);
    exchange.traffic.status = Some(answer.head.status);
    exchange.traffic.bytes_out = answer.body.len() as u64;
    exchange.outcome = Outcome::Unread(denial.reason);
    answer_once(stream, &exchange.head.method, &answer).await;
    Then::Linger
}

/// Returns a placeholder for a head that could not be read; nothing of it is logged.
fn unread_head() -> RequestHead {
    RequestHead::new(Method::default(), String::new(), String::new(), HeaderMap::new(), Version::Http11)
}
