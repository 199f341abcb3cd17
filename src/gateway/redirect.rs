//! The plain listener: sends everybody to TLS (308), and nothing else.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio::sync::watch;

use super::{
    connection::{Next, Vigil, end, next},
    headers::{REQUEST_ID, request_id},
    http1::{Then, answer_once},
};
use crate::{
    edge::Downstream,
    message::{RequestHead, ResponseHead},
    observe::RequestId,
};

/// Where plain requests are sent to.
#[derive(Clone, Debug)]
pub(super) struct Redirect {
    /// The port of TLS as the outside sees it.
    pub(super) port: u16,
}

impl Redirect {
    /// Answers one request and closes.
    pub(super) async fn serve(self: Arc<Self>, mut stream: Downstream, stop: watch::Receiver<bool>) {
        let location = match next(&mut stream, &mut Vigil::new(&stop)).await {
            Next::Request(request, _) => self.location(&request.head),
            Next::Refused(_) => None,
            Next::Closed => return,
        };
        answer_once(&mut stream, &redirect(location), b"").await;
        end(&mut stream, Then::Linger).await;
    }

    /// None where the host could smuggle something into the target.
    fn location(&self, head: &RequestHead) -> Option<HeaderValue> {
        let name = match head.host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
            _ => &head.host,
        };
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-.[]:".contains(&b);
        if name.is_empty() || !name.bytes().all(plain) {
            return None;
        }
        let target = if head.target().starts_with('/') { head.target() } else { "/" };
        let location = match self.port {
            443 => format!("https://{name}{target}"),
            port => format!("https://{name}:{port}{target}"),
        };
        HeaderValue::try_from(location).ok()
    }
}

fn redirect(location: Option<HeaderValue>) -> ResponseHead {
    let status = if location.is_some() { StatusCode::PERMANENT_REDIRECT } else { StatusCode::BAD_REQUEST };
    let mut headers = HeaderMap::new();
    if let Some(location) = location {
        headers.insert(header::LOCATION, location);
    }
    headers.insert(REQUEST_ID, request_id(RequestId::next()));
    ResponseHead { status, headers }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::message::Version;

    fn location(host: &str, path: &str, port: u16) -> Option<HeaderValue> {
        let head = RequestHead::new(Method::GET, path.into(), host.into(), HeaderMap::new(), Version::Http11);
        Redirect { port }.location(&head)
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
