//! Request heads.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};

use super::{
    body::Framing,
    fields::{self, Connection},
    head::{HeadFault, MAX_FIELDS, MAX_TARGET_BYTES},
};

/// The HTTP version of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
    /// HTTP/2.
    Http2,
}

/// A request without its body, in any HTTP version.
#[derive(Clone, Debug)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// The authority that the client named.
    pub host: String,
    /// The fields.
    pub headers: HeaderMap,
    /// The version.
    pub version: Version,
    target: String,
    path_bytes: usize,
}

/// A request received over HTTP/1.
#[derive(Debug)]
pub struct Http1Request {
    /// The head.
    pub head: RequestHead,
    /// How its body ends.
    pub framing: Framing,
    /// What `Connection` says.
    pub connection: Connection,
}

impl Version {
    /// Returns the name, as logged.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
        }
    }
}

impl RequestHead {
    /// Creates a head; `target` is path and query, or `*`.
    #[must_use]
    pub fn new(method: Method, target: String, host: String, headers: HeaderMap, version: Version) -> Self {
        let path_bytes = target.find('?').unwrap_or(target.len());
        Self { method, host, headers, version, target, path_bytes }
    }

    /// Returns path and query, byte for byte as received.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Checks a head received in frames against the same grammar as one in lines, and returns how its body ends, if it has one.
    ///
    /// # Errors
    /// The head violates the grammar.
    pub fn judge(&self) -> Result<Framing, HeadFault> {
        if self.headers.len() > MAX_FIELDS {
            return Err(HeadFault::TooLarge);
        }
        let (None, _) = read_target(&self.method, &self.target)? else { return Err(HeadFault::Target) };
        let mut hosts = self.headers.get_all(header::HOST).iter();
        let agrees = |host: &HeaderValue| host.as_bytes().eq_ignore_ascii_case(self.host.as_bytes());
        if !hosts.next().is_none_or(agrees) || hosts.next().is_some() || self.host.is_empty() {
            return Err(HeadFault::Host);
        }
        if !self.headers.values().all(fields::is_trimmed) {
            return Err(HeadFault::Field);
        }
        Ok(fields::framing(&self.headers)?.unwrap_or(Framing::Chunked))
    }

    /// Returns true if the client says that it waits for `100 Continue` (RFC 9110, section 10.1.1).
    #[must_use]
    pub fn expects_continue(&self) -> bool {
        let expects = |v: &HeaderValue| v.as_bytes().eq_ignore_ascii_case(b"100-continue");
        self.headers.get(header::EXPECT).is_some_and(expects)
    }

    /// Returns the path, byte for byte as received.
    #[must_use]
    pub fn path(&self) -> &str {
        self.target.get(..self.path_bytes).unwrap_or_default()
    }

    /// Returns the query, byte for byte as received.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.target.get(self.path_bytes + 1..)
    }
}

impl Http1Request {
    /// Parses a complete head, including its final empty line.
    pub fn parse(head: &Bytes) -> Result<Self, HeadFault> {
        let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        let mut request = httparse::Request::new(&mut []);
        match request.parse_with_uninit_headers(head, &mut fields) {
            Ok(httparse::Status::Complete(length)) if length == head.len() => {}
            Ok(_) => return Err(HeadFault::FirstLine),
            Err(error) => return Err(fault(error)),
        }
        let version = if request.version == Some(0) { Version::Http10 } else { Version::Http11 };
        let method = Method::from_bytes(request.method.unwrap_or_default().as_bytes());
        let method = method.map_err(|_| HeadFault::FirstLine)?;
        let headers = fields::field_map(head, request.headers)?;
        let (authority, target) = read_target(&method, request.path.unwrap_or_default())?;
        let host = read_host(&headers, authority)?;
        let framing = request_framing(&headers, version)?;
        let connection = fields::connection(&headers)?;
        let host = host.to_owned();
        let target = target.to_owned();
        Ok(Self { head: RequestHead::new(method, target, host, headers, version), framing, connection })
    }

    /// Returns true if the client keeps the connection open after this request (RFC 9112, section 9.3).
    #[must_use]
    pub fn keeps_alive(&self) -> bool {
        match self.head.version {
            Version::Http10 => self.connection.keep_alive && !self.connection.close,
            Version::Http11 | Version::Http2 => !self.connection.close,
        }
    }

    /// Returns true if the client waits for `100 Continue` before it sends its body.
    #[must_use]
    pub fn expects_continue(&self) -> bool {
        self.head.version == Version::Http11 && self.framing != Framing::Length(0) && self.head.expects_continue()
    }

    /// Returns true if the client asks for a WebSocket (RFC 6455, section 4.1); any other upgrade is an ordinary request.
    #[must_use]
    pub fn asks_for_websocket(&self) -> bool {
        let mut protocols = self.head.headers.get_all(header::UPGRADE).iter();
        let websocket = |v: &HeaderValue| v.as_bytes().eq_ignore_ascii_case(b"websocket");
        self.head.version == Version::Http11
            && self.head.method == Method::GET
            && self.framing == Framing::Length(0)
            && self.connection.upgrade
            && protocols.next().is_some_and(websocket)
            && protocols.next().is_none()
    }
}

fn fault(error: httparse::Error) -> HeadFault {
    match error {
        httparse::Error::TooManyHeaders => HeadFault::TooLarge,
        httparse::Error::HeaderName | httparse::Error::HeaderValue => HeadFault::Field,
        httparse::Error::NewLine => HeadFault::LineEnd,
        httparse::Error::Token | httparse::Error::Version | httparse::Error::Status => HeadFault::FirstLine,
    }
}

/// Splits the target into the authority, if it names one, and path with query (RFC 9112, section 3.2).
fn read_target<'a>(method: &Method, target: &'a str) -> Result<(Option<&'a str>, &'a str), HeadFault> {
    if target.len() > MAX_TARGET_BYTES {
        return Err(HeadFault::TargetTooLong);
    }
    if *method == Method::CONNECT || !target.bytes().all(|b| b.is_ascii_graphic() && b != b'#') {
        return Err(HeadFault::Target);
    }
    if target.starts_with('/') || (target == "*" && *method == Method::OPTIONS) {
        return Ok((None, target));
    }
    let (scheme, rest) = target.split_once("://").ok_or(HeadFault::Target)?;
    if !scheme.eq_ignore_ascii_case("https") && !scheme.eq_ignore_ascii_case("http") {
        return Err(HeadFault::Target);
    }
    match rest.find(['/', '?']) {
        Some(at) if rest.get(at..).is_some_and(|path| path.starts_with('/')) => {
            let (authority, path) = rest.split_at(at);
            Ok((Some(authority), path))
        }
        Some(_) => Err(HeadFault::Target),
        None => Ok((Some(rest), "/")),
    }
}

/// Returns the only authority of a request. The policy validates it, because HTTP/2 requests have one as well.
fn read_host<'a>(headers: &'a HeaderMap, authority: Option<&str>) -> Result<&'a str, HeadFault> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return Err(HeadFault::Host) };
    let host = host.to_str().map_err(|_| HeadFault::Host)?;
    let agrees = authority.is_none_or(|authority| authority.eq_ignore_ascii_case(host));
    if agrees && !host.is_empty() { Ok(host) } else { Err(HeadFault::Host) }
}

/// Returns how the body ends. A request without a length has no body, unless it is `chunked`, which HTTP/1.0 does not allow
/// (section 6.1).
fn request_framing(headers: &HeaderMap, version: Version) -> Result<Framing, HeadFault> {
    match fields::framing(headers)? {
        Some(Framing::Chunked) if version == Version::Http10 => Err(HeadFault::TransferEncoding),
        framing => Ok(framing.unwrap_or(Framing::Length(0))),
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
