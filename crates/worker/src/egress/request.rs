//! A child's request to the guard: a tunnel to a host, or one request to forward.

use bytes::Bytes;
use data_encoding::BASE64;
use http::header;
use sallyport_core::{
    addresses::Authority,
    http1::{Framing, HeadFault, Http1Request, is_hop_by_hop, write_field},
};
use thiserror::Error;
use url::{Host, Url};

use super::dial::Destination;

/// A request to the guard.
pub(super) struct Request {
    pub(super) to: Destination,
    /// `USER:PASSWORD` for the proxy, if given.
    pub(super) credential: Option<String>,
    pub(super) kind: Kind,
}

/// The kind of a request.
pub(super) enum Kind {
    /// `CONNECT`: bytes both ways.
    Tunnel,
    /// A plain HTTP request: the head to forward, and the length of the body after it.
    Forward { head: Vec<u8>, body: u64 },
}

/// Why a request cannot be served.
#[derive(Debug, Error)]
pub(super) enum RequestError {
    #[error(transparent)]
    Head(#[from] HeadFault),
    #[error("this is a proxy; send an http:// URL or CONNECT")]
    NotForProxy,
    #[error("a request with a body needs a Content-Length")]
    Unbounded,
}

impl Request {
    /// Parses a complete head.
    pub(super) fn parse(head: &Bytes) -> Result<Self, RequestError> {
        if head.starts_with(b"CONNECT ") { Self::tunnel(head) } else { Self::forward(head) }
    }

    fn tunnel(head: &[u8]) -> Result<Self, RequestError> {
        let mut fields = [httparse::EMPTY_HEADER; 32];
        let mut request = httparse::Request::new(&mut fields);
        match request.parse(head) {
            Ok(httparse::Status::Complete(length)) if length == head.len() => {}
            _ => return Err(HeadFault::FirstLine.into()),
        }
        let to = request.path.and_then(authority).ok_or(HeadFault::Target)?;
        let credential = request.headers.iter().find(|field| field.name.eq_ignore_ascii_case("proxy-authorization"));
        Ok(Self { to, credential: credential.and_then(|field| basic(field.value)), kind: Kind::Tunnel })
    }

    fn forward(head: &Bytes) -> Result<Self, RequestError> {
        let line = head.split(|b| *b == b'\r').next().unwrap_or_default();
        let target = line.split(|b| *b == b' ').nth(1).unwrap_or_default();
        // The parser removes the host from the target, so this checks first that it is there.
        if !target.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"http://")) {
            return Err(RequestError::NotForProxy);
        }
        let request = Http1Request::parse(head)?;
        let Framing::Length(body) = request.framing else { return Err(RequestError::Unbounded) };
        let to = destination(&format!("http://{}/", request.head.host)).ok_or(HeadFault::Host)?;
        let credential = request.head.headers.get(header::PROXY_AUTHORIZATION);
        let credential = credential.and_then(|value| basic(value.as_bytes()));
        Ok(Self { to, credential, kind: Kind::Forward { head: passed_on(&request), body } })
    }
}

/// Returns the head without the fields for the proxy, and with `Connection: close`, so that no second request follows on the connection.
fn passed_on(request: &Http1Request) -> Vec<u8> {
    let head = &request.head;
    let mut out = format!("{} {} HTTP/1.1\r\nHost: {}\r\n", head.method, head.target(), head.host).into_bytes();
    let named = |name: &header::HeaderName| request.connection.named.contains(name);
    for (name, value) in &head.headers {
        let of_proxy = name.as_str().starts_with("proxy-");
        if *name != header::HOST && !of_proxy && !is_hop_by_hop(name.as_str()) && !named(name) {
            write_field(&mut out, name, value.as_bytes());
        }
    }
    out.extend_from_slice(b"Connection: close\r\n\r\n");
    out
}

/// Parses `host:port`, with a mandatory port (RFC 9110, section 9.3.6).
fn authority(text: &str) -> Option<Destination> {
    let plain = |b: u8| b.is_ascii_graphic() && !b"*/?#@\\".contains(&b);
    let port = Authority::split(text).port_number()?;
    let to = text.bytes().all(plain).then(|| destination(&format!("http://{text}/")))??;
    // The URL parser leaves out the port if it is the scheme's default.
    (to.port == port).then_some(to)
}

fn destination(url: &str) -> Option<Destination> {
    let url = Url::parse(url).ok()?;
    let host: Host = url.host()?.to_owned();
    Some(Destination { host, port: url.port_or_known_default()? })
}

fn basic(value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok()?;
    let (scheme, rest) = text.split_once(' ')?;
    let decoded = scheme.eq_ignore_ascii_case("basic").then(|| BASE64.decode(rest.trim().as_bytes()).ok())??;
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(head: &str) -> Result<Request, RequestError> {
        Request::parse(&Bytes::copy_from_slice(head.as_bytes()))
    }

    fn to(head: &str) -> Option<(String, u16)> {
        parse(head).ok().map(|request| (request.to.host.to_string(), request.to.port))
    }

    #[test]
    fn a_tunnel_goes_to_one_host_and_port_however_they_are_spelled() {
        let tunnel = |authority: &str| to(&format!("CONNECT {authority} HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert_eq!(tunnel("example.com:443"), Some(("example.com".into(), 443)));
        assert_eq!(tunnel("example.com:80"), Some(("example.com".into(), 80)));
        assert_eq!(tunnel("0x7f.1:443"), Some(("127.0.0.1".into(), 443)));
        assert_eq!(tunnel("[::ffff:10.0.0.1]:443"), Some(("[::ffff:a00:1]".into(), 443)));
        for bad in ["example.com", "a@b:443", "example.com:443/x", "example.com:99999", ":443", "a:b:443", "*:443"] {
            assert_eq!(tunnel(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_request_is_forwarded_without_the_fields_for_the_proxy() {
        let head = "GET http://example.com:8080/a?b HTTP/1.1\r\nHost: example.com:8080\r\nRange: bytes=1-\r\n\
                    Proxy-Authorization: Basic dTpw\r\nProxy-Connection: keep-alive\r\nConnection: keep-alive, x-a\r\nX-A: 1\r\n\r\n";
        let request = parse(head).unwrap();
        assert_eq!((request.to.port, request.credential.as_deref()), (8080, Some("u:p")));
        let head = match request.kind {
            Kind::Forward { head, body: 0 } => String::from_utf8(head).unwrap().to_ascii_lowercase(),
            _ => String::new(),
        };
        assert_eq!(head, "get /a?b http/1.1\r\nhost: example.com:8080\r\nrange: bytes=1-\r\nconnection: close\r\n\r\n");
    }

    #[test]
    fn a_request_that_is_not_for_a_proxy_or_has_no_length_is_refused() {
        for head in [
            "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n",
            "GET https://example.com/ HTTP/1.1\r\nHost: example.com\r\n\r\n",
            "GET http://example.com/ HTTP/1.1\r\nHost: other.example\r\n\r\n",
            "POST http://example.com/ HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n\r\n",
            "GET ftp://example.com/ HTTP/1.1\r\nHost: example.com\r\n\r\n",
        ] {
            assert!(parse(head).is_err(), "{head}");
        }
    }
}
