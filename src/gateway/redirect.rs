//! The way to TLS: 308 to the same path on the other port.

use http::{HeaderValue, StatusCode, header};

use super::{client::Answer, plain::bare};
use crate::message::RequestHead;

/// Where plain requests are sent to.
#[derive(Clone, Debug)]
pub(super) struct Redirect {
    /// The port of TLS as the outside sees it.
    pub(super) port: u16,
}

impl Redirect {
    /// What everybody gets who asks for nothing that is served without TLS.
    pub(super) fn answer(&self, head: &RequestHead) -> Answer {
        let Some(location) = self.location(head) else { return bare(StatusCode::BAD_REQUEST) };
        let mut answer = bare(StatusCode::PERMANENT_REDIRECT);
        answer.head.headers.insert(header::LOCATION, location);
        answer
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

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Method};

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
