//! The plain listener: sends everybody to TLS (308), and nothing else.

use std::sync::Arc;

use http::{StatusCode, header};
use pingora::{
    http::{RequestHeader, ResponseHeader},
    protocols::http::ServerSession,
    server::ShutdownWatch,
};

use super::{
    connection::{Vigil, Wake, park},
    context::host,
};
use crate::{edge::Downstream, observe::RequestId};

/// Where plain requests are sent to.
#[derive(Clone, Debug)]
pub(super) struct Redirect {
    /// The port of TLS as the outside sees it.
    pub(super) port: u16,
}

impl Redirect {
    /// Answers one request and closes.
    pub(super) async fn serve(self: Arc<Self>, mut stream: Downstream, stop: ShutdownWatch) {
        if park(&mut stream, &mut Vigil::new(&stop)).await != Wake::Request {
            return;
        }
        let mut session = ServerSession::new_http1(Box::new(stream));
        session.set_keepalive(None);
        let response = match session.read_request().await {
            Ok(true) => response(self.location(session.req_header())),
            Ok(false) => return,
            Err(_) => response(None),
        };
        if let Some(response) = response {
            let _ = session.write_response_header(Box::new(response)).await;
        }
        let _ = session.finish().await;
    }

    /// None where the host could smuggle something into the target.
    fn location(&self, request: &RequestHeader) -> Option<String> {
        let host = host(request);
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
            _ => host,
        };
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-.[]:".contains(&b);
        if name.is_empty() || !name.bytes().all(plain) {
            return None;
        }
        let target = request.uri.path_and_query().map_or("/", |pq| pq.as_str());
        let target = if target.starts_with('/') { target } else { "/" };
        match self.port {
            443 => Some(format!("https://{name}{target}")),
            port => Some(format!("https://{name}:{port}{target}")),
        }
    }
}

fn response(location: Option<String>) -> Option<ResponseHeader> {
    let status = if location.is_some() { StatusCode::PERMANENT_REDIRECT } else { StatusCode::BAD_REQUEST };
    let mut response = ResponseHeader::build(status, Some(4)).ok()?;
    if let Some(location) = location {
        response.insert_header(header::LOCATION, location).ok()?;
    }
    response.insert_header("x-request-id", RequestId::next().as_str()).ok()?;
    response.insert_header(header::CONTENT_LENGTH, 0).ok()?;
    Some(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(host: &str, path: &str, port: u16) -> Option<String> {
        let mut request = RequestHeader::build("GET", path.as_bytes(), None).unwrap();
        request.insert_header("host", host).unwrap();
        Redirect { port }.location(&request)
    }

    #[test]
    fn the_target_stays_and_the_port_changes() {
        assert_eq!(location("h:8080", "/a?b=c", 8443).unwrap(), "https://h:8443/a?b=c");
        assert_eq!(location("h", "/", 443).unwrap(), "https://h/");
        assert_eq!(location("[::1]:8080", "/", 8443).unwrap(), "https://[::1]:8443/");
        for host in ["", "evil.example/x", "a@b", "h\\x", "h x"] {
            assert_eq!(location(host, "/", 443), None, "{host:?}");
        }
    }
}
