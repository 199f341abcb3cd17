//! Response heads.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use super::{
    body::Framing,
    fields::{self, Connection},
    head::{HeadFault, MAX_FIELDS},
};

/// A response without its body, in any HTTP version.
#[derive(Clone, Debug)]
pub struct ResponseHead {
    /// The status.
    pub status: StatusCode,
    /// The fields.
    pub headers: HeaderMap,
}

/// A response received over HTTP/1.
#[derive(Debug)]
pub struct Http1Response {
    /// The head.
    pub head: ResponseHead,
    /// How its body ends.
    pub framing: Framing,
    /// What `Connection` says.
    pub connection: Connection,
    /// Whether the connection can be reused for another request once the body has ended.
    pub reusable: bool,
}

impl Http1Response {
    /// Parses a complete head, including its final empty line; `method` is the method of the request.
    pub fn parse(head: &Bytes, method: &Method) -> Result<Self, HeadFault> {
        let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        let mut response = httparse::Response::new(&mut []);
        let parsed = lenient().parse_response_with_uninit_headers(&mut response, head, &mut fields);
        match parsed {
            Ok(httparse::Status::Complete(length)) if length == head.len() => {}
            Ok(_) | Err(_) => return Err(HeadFault::FirstLine),
        }
        let status = StatusCode::from_u16(response.code.unwrap_or_default()).map_err(|_| HeadFault::FirstLine)?;
        let headers = fields::field_map(head, response.headers)?;
        let framing = response_framing(&headers, status, method)?;
        // HTTP/1.0 has no transfer codings (RFC 9112, section 6.1).
        if response.version == Some(0) && headers.contains_key(header::TRANSFER_ENCODING) {
            return Err(HeadFault::TransferEncoding);
        }
        let connection = fields::connection(&headers)?;
        let persistent = if response.version == Some(0) { connection.keep_alive } else { true };
        let reusable = persistent && !connection.close && framing != Framing::UntilClose;
        Ok(Self { head: ResponseHead { status, headers }, framing, connection, reusable })
    }
}

impl Http1Response {
    /// Returns true if the response switches the connection to WebSocket (RFC 6455, section 4.2.2).
    #[must_use]
    pub fn switches_to_websocket(&self) -> bool {
        let websocket = |v: &HeaderValue| v.as_bytes().eq_ignore_ascii_case(b"websocket");
        self.head.status == StatusCode::SWITCHING_PROTOCOLS
            && self.connection.upgrade
            && self.head.headers.get(header::UPGRADE).is_some_and(websocket)
    }
}

/// Removes white space between a name and its colon from a response, as required; a request with it is refused (RFC 9112, section 5.1).
fn lenient() -> httparse::ParserConfig {
    let mut config = httparse::ParserConfig::default();
    config.allow_spaces_after_header_name_in_responses(true);
    config
}

/// Returns how the body ends (RFC 9112, section 6.3).
fn response_framing(headers: &HeaderMap, status: StatusCode, method: &Method) -> Result<Framing, HeadFault> {
    let framing = fields::framing(headers)?;
    let bodiless = status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if bodiless || *method == Method::HEAD {
        return Ok(Framing::Length(0));
    }
    Ok(framing.unwrap_or(Framing::UntilClose))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(head: &str) -> Result<Http1Response, HeadFault> {
        Http1Response::parse(&Bytes::copy_from_slice(head.as_bytes()), &Method::GET)
    }

    #[test]
    fn the_head_of_a_response_says_how_its_body_ends() {
        let sized = parse("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n").unwrap();
        assert_eq!((sized.framing, sized.reusable), (Framing::Length(5), true));
        let chunked = parse("HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
        assert_eq!((chunked.framing, chunked.reusable), (Framing::Chunked, true));
        let open = parse("HTTP/1.1 200 OK\r\n\r\n").unwrap();
        assert_eq!((open.framing, open.reusable), (Framing::UntilClose, false));
        let empty = parse("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n").unwrap();
        assert_eq!((empty.framing, empty.reusable), (Framing::Length(0), true));
        assert!(!parse("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").unwrap().reusable);
        assert!(!parse("HTTP/1.0 204 No Content\r\n\r\n").unwrap().reusable);
        let head = Bytes::from_static(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
        assert_eq!(Http1Response::parse(&head, &Method::HEAD).unwrap().framing, Framing::Length(0));
    }

    #[test]
    fn white_space_before_a_colon_is_removed() {
        let response = parse("HTTP/1.1 200 OK\r\nX-A : 1\r\nContent-Length \t: 5\r\n\r\n").unwrap();
        assert_eq!((response.framing, &response.head.headers["x-a"]), (Framing::Length(5), &"1".parse().unwrap()));
    }

    #[test]
    fn a_response_must_follow_the_same_rules_as_a_request() {
        for bad in [
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX\u{b}: 1\r\n\r\n",
            "HTTP/1.1 200 OK\r\n : 1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length : 5\r\nTransfer-Encoding : chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX: 1\r\n folded\r\n\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/2.0 200 OK\r\n\r\n",
            "ICY 200 OK\r\n\r\n",
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
