//! The admin listener, on loopback: whether the gateway lives, and whether it takes new work.

use http::{HeaderMap, HeaderValue, StatusCode, header};
use pingora::server::ShutdownWatch;

use super::{
    connection::{Next, Vigil, end, next},
    http1::{Then, answer_once},
};
use crate::{edge::Downstream, message::ResponseHead};

/// Answers one request and closes.
pub(super) async fn serve(mut stream: Downstream, stop: ShutdownWatch) {
    let (status, body) = match next(&mut stream, &mut Vigil::new(&stop)).await {
        Next::Request(request, _) => page(request.head.path(), *stop.borrow()),
        Next::Refused(_) => (StatusCode::BAD_REQUEST, "bad request\n"),
        Next::Closed => return,
    };
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    answer_once(&mut stream, &ResponseHead { status, headers }, body.as_bytes()).await;
    end(&mut stream, Then::Close).await;
}

fn page(path: &str, draining: bool) -> (StatusCode, &'static str) {
    match path {
        "/healthz" => (StatusCode::OK, "ok\n"),
        "/readyz" if draining => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
        "/readyz" => (StatusCode::OK, "ready\n"),
        _ => (StatusCode::NOT_FOUND, "not found\n"),
    }
}
