//! The redirect to TLS: 308 to the same path on the port where this client reaches TLS.

use http::{HeaderValue, StatusCode, header};
use sallyport_core::{config::Config, http1::RequestHead};

use crate::{clients::own_response::OwnResponse, policy::host_name};

/// The target of redirects from the plaintext listener.
#[derive(Clone, Debug)]
pub(crate) struct Redirect {
    /// The host of `gateway.public_url`.
    public_host: String,
    /// The port of `gateway.public_url`.
    public_port: u16,
    /// The ports of the plaintext listeners.
    plain_ports: Vec<u16>,
    /// The port of the first TLS listener.
    tls_port: u16,
}

/// Where a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientLocation {
    /// In a local network, where it can reach the listeners without going through a router that forwards ports.
    Local,
    /// Anywhere else.
    Outside,
}

impl Redirect {
    pub(crate) fn new(config: &Config) -> Self {
        let public_port = config.public_url.port_or_known_default().unwrap_or(443);
        Self {
            public_host: config.public_url.host_str().unwrap_or_default().to_owned(),
            public_port,
            plain_ports: config.http_listen.iter().map(std::net::SocketAddr::port).collect(),
            tls_port: config.listen.first().map_or(public_port, std::net::SocketAddr::port),
        }
    }

    /// Redirects a request for anything that is not served without TLS.
    pub(crate) fn respond(&self, head: &RequestHead, reach: ClientLocation) -> OwnResponse {
        let Some(location) = self.location(head, reach) else { return OwnResponse::bare(StatusCode::BAD_REQUEST) };
        let mut response = OwnResponse::bare(StatusCode::PERMANENT_REDIRECT);
        response.head.headers.insert(header::LOCATION, location);
        response
    }

    /// Returns the target; `None` if the host contains characters that could change its meaning.
    fn location(&self, head: &RequestHead, reach: ClientLocation) -> Option<HeaderValue> {
        let name = host_name(&head.host);
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-.[]:".contains(&b);
        if name.is_empty() || !name.bytes().all(plain) {
            return None;
        }
        let target = if head.target().starts_with('/') { head.target() } else { "/" };
        let location = match self.port(&head.host, reach) {
            443 => format!("https://{name}{target}"),
            port => format!("https://{name}:{port}{target}"),
        };
        HeaderValue::try_from(location).ok()
    }

    /// Returns the TLS port for this client. A client in the local network that names the port of a plaintext listener has connected to it
    /// directly. If a router forwards 443 to another port, nothing answers on 443 of the address that such a client used. The public host
    /// always uses the configured port.
    fn port(&self, host: &str, reach: ClientLocation) -> u16 {
        let name = host_name(host);
        let asked = host.get(name.len()..).and_then(|rest| rest.strip_prefix(':')).map_or(Ok(80), str::parse);
        let direct = asked.is_ok_and(|port| self.plain_ports.contains(&port));
        if reach == ClientLocation::Local && direct && !name.eq_ignore_ascii_case(&self.public_host) {
            self.tls_port
        } else {
            self.public_port
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Method};

    use super::*;
    use sallyport_core::http1::Version;

    fn location(host: &str, path: &str, public_port: u16, reach: ClientLocation) -> Option<HeaderValue> {
        let head = RequestHead::new(Method::GET, path.into(), host.into(), HeaderMap::new(), Version::Http11);
        let public_host = "home.example".to_owned();
        let plain_ports = vec![8080];
        Redirect { public_host, public_port, plain_ports, tls_port: 8443 }.location(&head, reach)
    }

    #[test]
    fn the_target_stays_and_the_port_changes() {
        let outside = |host, path, port| location(host, path, port, ClientLocation::Outside);
        assert_eq!(outside("h:8080", "/a?b=c", 8443).unwrap(), "https://h:8443/a?b=c");
        assert_eq!(outside("h", "/", 443).unwrap(), "https://h/");
        assert_eq!(outside("[::1]:8080", "/", 8443).unwrap(), "https://[::1]:8443/");
        for host in ["", "evil.example/x", "a@b", "h\\x", "h x"] {
            assert_eq!(outside(host, "/", 443), None, "{host:?}");
        }
    }

    #[test]
    fn behind_a_router_that_forwards_443_each_client_is_sent_where_it_reaches_tls() {
        for (host, reach, url) in [
            ("home.example", ClientLocation::Outside, "https://home.example/"),
            ("films.example", ClientLocation::Outside, "https://films.example/"),
            ("films.example:8080", ClientLocation::Outside, "https://films.example/"),
            ("192.168.1.5:8080", ClientLocation::Local, "https://192.168.1.5:8443/"),
            ("nas.local:8080", ClientLocation::Local, "https://nas.local:8443/"),
            ("[fd00::5]:8080", ClientLocation::Local, "https://[fd00::5]:8443/"),
            ("nas.local", ClientLocation::Local, "https://nas.local/"),
            ("HOME.example:8080", ClientLocation::Local, "https://HOME.example/"),
            ("nas.local:9080", ClientLocation::Local, "https://nas.local/"),
        ] {
            assert_eq!(location(host, "/", 443, reach).unwrap(), url, "{host} {reach:?}");
        }
    }
}
