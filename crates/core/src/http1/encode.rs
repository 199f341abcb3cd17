//! Encodes messages for HTTP/1.

use std::io::Write;

use bytes::{Buf, Bytes, buf::Chain};
use http::{HeaderName, HeaderValue, header};
use thiserror::Error;

use super::{body::Framing, response::ResponseHead};

/// What happens to a connection after a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// It stays open, as is the default in HTTP/1.1.
    KeepAlive,
    /// It stays open, and the response says so, for HTTP/1.0.
    KeepAliveSaid,
    /// It is closed.
    Close,
    /// It switches to WebSocket.
    Upgrade,
}

/// Encodes a body in its framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyEncoder {
    /// A body of known length; this many bytes are still to come.
    Length(u64),
    /// Chunks.
    Chunked,
    /// Unframed, until the connection is closed.
    UntilClose,
}

/// A piece of a body with its framing.
pub type Encoded = Chain<Chain<Bytes, Bytes>, Bytes>;

/// A body is longer than its head declares.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("a body is longer than its Content-Length")]
pub struct Overlong;

impl From<Framing> for BodyEncoder {
    fn from(framing: Framing) -> Self {
        match framing {
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::Chunked,
            Framing::UntilClose => Self::UntilClose,
        }
    }
}

impl BodyEncoder {
    /// Encodes one piece of data for the wire. An empty piece becomes nothing at all, since an empty chunk would end the body.
    pub fn encode(&mut self, data: Bytes) -> Result<Encoded, Overlong> {
        let mut before = Bytes::new();
        let mut after = Bytes::new();
        match self {
            Self::Length(left) => *left = left.checked_sub(data.len() as u64).ok_or(Overlong)?,
            Self::Chunked if data.is_empty() => {}
            Self::Chunked => {
                before = Bytes::from(format!("{:x}\r\n", data.len()));
                after = Bytes::from_static(b"\r\n");
            }
            Self::UntilClose => {}
        }
        Ok(before.chain(data).chain(after))
    }

    /// Returns the bytes that end the body; `None` if fewer bytes were written than declared.
    #[must_use]
    pub fn end(self) -> Option<&'static [u8]> {
        match self {
            Self::Length(0) | Self::UntilClose => Some(b""),
            Self::Length(_) => None,
            Self::Chunked => Some(b"0\r\n\r\n"),
        }
    }
}

/// Appends a response head. The fields on connection and framing are written here and nowhere else.
pub fn write_response(
    out: &mut Vec<u8>,
    head: &ResponseHead,
    date: Option<HeaderValue>,
    framing: Option<Framing>,
    persistence: Persistence,
) {
    let reason = head.status.canonical_reason().unwrap_or_default();
    let _ = write!(out, "HTTP/1.1 {} {reason}\r\n", head.status.as_str());
    for (name, value) in &head.headers {
        write_field(out, name, value.as_bytes());
    }
    if let Some(date) = date {
        write_field(out, &header::DATE, date.as_bytes());
    }
    match framing {
        Some(Framing::Chunked) => write_field(out, &header::TRANSFER_ENCODING, b"chunked"),
        Some(Framing::Length(length)) if !head.headers.contains_key(header::CONTENT_LENGTH) => {
            write_field(out, &header::CONTENT_LENGTH, HeaderValue::from(length).as_bytes());
        }
        _ => {}
    }
    match persistence {
        Persistence::KeepAlive => {}
        Persistence::KeepAliveSaid => write_field(out, &header::CONNECTION, b"keep-alive"),
        Persistence::Close => write_field(out, &header::CONNECTION, b"close"),
        Persistence::Upgrade => {
            write_field(out, &header::CONNECTION, b"upgrade");
            write_field(out, &header::UPGRADE, b"websocket");
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends one field.
pub fn write_field(out: &mut Vec<u8>, name: &HeaderName, value: &[u8]) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::StatusCode;

    fn encoded(encoder: &mut BodyEncoder, data: &'static [u8]) -> Result<Bytes, Overlong> {
        encoder.encode(Bytes::from_static(data)).map(|mut b| b.copy_to_bytes(b.remaining()))
    }

    #[test]
    fn a_body_ends_as_its_head_declares() {
        let mut sized = BodyEncoder::Length(5);
        assert_eq!(encoded(&mut sized, b"abc").unwrap(), "abc");
        assert_eq!(sized.end(), None);
        assert_eq!(encoded(&mut sized, b"def"), Err(Overlong));
        assert_eq!(encoded(&mut sized, b"de").unwrap(), "de");
        assert_eq!(sized.end(), Some(&b""[..]));
        let mut chunked = BodyEncoder::Chunked;
        assert_eq!(encoded(&mut chunked, b"").unwrap(), "");
        assert_eq!(encoded(&mut chunked, b"0123456789abcdef").unwrap(), "10\r\n0123456789abcdef\r\n");
        assert_eq!(chunked.end(), Some(&b"0\r\n\r\n"[..]));
    }

    #[test]
    fn a_head_says_how_its_body_ends_and_whether_the_connection_stays_open() {
        let head = ResponseHead {
            status: StatusCode::OK,
            headers: [(header::AGE, HeaderValue::from(1))].into_iter().collect(),
        };
        let written = |framing, persistence| {
            let mut out = Vec::new();
            write_response(&mut out, &head, None, framing, persistence);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(written(None, Persistence::KeepAlive), "HTTP/1.1 200 OK\r\nage: 1\r\n\r\n");
        let chunked = written(Some(Framing::Chunked), Persistence::Close);
        assert_eq!(chunked, "HTTP/1.1 200 OK\r\nage: 1\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n");
        let sized = written(Some(Framing::Length(2)), Persistence::KeepAliveSaid);
        assert_eq!(sized, "HTTP/1.1 200 OK\r\nage: 1\r\ncontent-length: 2\r\nconnection: keep-alive\r\n\r\n");
    }
}
