//! The admin listener, on loopback: whether the gateway lives, and whether it takes new work.

use http::{StatusCode, header};
use pingora::{http::ResponseHeader, protocols::http::ServerSession, server::ShutdownWatch};

use super::connection::{Vigil, Wake, park};
use crate::edge::Downstream;

/// Answers one request and closes.
pub(super) async fn serve(mut stream: Downstream, stop: ShutdownWatch) {
    if park(&mut stream, &mut Vigil::new(&stop)).await != Wake::Request {
        return;
    }
    let mut session = ServerSession::new_http1(Box::new(stream));
    session.set_keepalive(None);
    if !matches!(session.read_request().await, Ok(true)) {
        return;
    }
    let draining = *stop.borrow();
    let (status, body) = match session.req_header().uri.path() {
        "/healthz" => (StatusCode::OK, "ok\n"),
        "/readyz" if draining => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
        "/readyz" => (StatusCode::OK, "ready\n"),
        _ => (StatusCode::NOT_FOUND, "not found\n"),
    };
    let Ok(mut response) = ResponseHeader::build(status, Some(2)) else { return };
    let _ = response.insert_header(header::CONTENT_LENGTH, body.len());
    let _ = response.insert_header(header::CONTENT_TYPE, "text/plain");
    let _ = session.write_response_header(Box::new(response)).await;
    let _ = session.write_response_body(body.into(), true).await;
    let _ = session.finish().await;
}
