//! Header fields: converts raw lines to a map, and reads the fields on framing and connection.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::{body::Framing, head::HeadFault};

/// Fields that belong to one connection, whether `Connection` names them or not (RFC 9110, section 7.6.1).
const HOP_BY_HOP: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "proxy-authenticate",
];

/// What `Connection` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connection {
    /// `close`: the connection is closed after this message.
    pub close: bool,
    /// `keep-alive`: the connection stays open (HTTP/1.0).
    pub keep_alive: bool,
    /// `upgrade`: the `Upgrade` field applies.
    pub upgrade: bool,
    /// The fields that it names, which are not forwarded; usually none.
    pub named: Vec<HeaderName>,
}

/// Returns true for a field that is never forwarded beyond one connection.
#[must_use]
pub fn is_hop_by_hop(name: &str) -> bool {
    HOP_BY_HOP.contains(&name)
}

/// Parses all `Connection` fields; members can be empty, but must otherwise be names.
pub fn connection(headers: &HeaderMap) -> Result<Connection, HeadFault> {
    let mut connection = Connection::default();
    for member in headers.get_all(header::CONNECTION).iter().flat_map(|v| v.as_bytes().split(|b| *b == b',')) {
        let member = member.trim_ascii();
        match member {
            b"" => {}
            _ if member.eq_ignore_ascii_case(b"close") => connection.close = true,
            _ if member.eq_ignore_ascii_case(b"keep-alive") => connection.keep_alive = true,
            _ if member.eq_ignore_ascii_case(b"upgrade") => connection.upgrade = true,
            _ => connection.named.push(HeaderName::from_bytes(member).map_err(|_| HeadFault::Connection)?),
        }
    }
    Ok(connection)
}

/// Returns the map of all fields; values share the memory of `head`.
pub(super) fn field_map(head: &Bytes, fields: &[httparse::Header<'_>]) -> Result<HeaderMap, HeadFault> {
    let mut map = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| HeadFault::Field)?;
        let value = HeaderValue::from_maybe_shared(head.slice_ref(field.value)).map_err(|_| HeadFault::Field)?;
        map.append(name, value);
    }
    Ok(map)
}

/// Returns true for a value without surrounding white space, which is not part of the value in HTTP/1 (RFC 9113, section 8.2.1).
pub(super) fn is_trimmed(value: &HeaderValue) -> bool {
    let blank = |b: Option<&u8>| matches!(b, Some(b' ' | b'\t'));
    let bytes = value.as_bytes();
    !blank(bytes.first()) && !blank(bytes.last())
}

/// Returns what the fields say about the body's length (RFC 9112, section 6); `None` if they say nothing.
pub(super) fn framing(headers: &HeaderMap) -> Result<Option<Framing>, HeadFault> {
    let length = content_length(headers)?;
    let chunked = is_chunked(headers)?;
    match (length, chunked) {
        (Some(_), true) => Err(HeadFault::TwoLengths),
        (Some(length), false) => Ok(Some(Framing::Length(length))),
        (None, true) => Ok(Some(Framing::Chunked)),
        (None, false) => Ok(None),
    }
}

fn content_length(headers: &HeaderMap) -> Result<Option<u64>, HeadFault> {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(length) = lengths.next() else { return Ok(None) };
    let text = length.to_str().map_err(|_| HeadFault::ContentLength)?;
    let plain = text == "0" || (!text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit()));
    if !plain || lengths.next().is_some() {
        return Err(HeadFault::ContentLength);
    }
    text.parse().map(Some).map_err(|_| HeadFault::ContentLength)
}

fn is_chunked(headers: &HeaderMap) -> Result<bool, HeadFault> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(false),
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(true),
        _ => Err(HeadFault::TransferEncoding),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&'static str, &str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_length_is_a_single_plain_number() {
        assert_eq!(framing(&map(&[("content-length", "12")])), Ok(Some(Framing::Length(12))));
        assert_eq!(framing(&map(&[("content-length", "0")])), Ok(Some(Framing::Length(0))));
        for length in ["", "+1", "-1", "01", "00", "1,1", "1, 1", "0x1", "1 ", "99999999999999999999", "1\t2"] {
            let headers = map(&[("content-length", length)]);
            assert_eq!(framing(&headers), Err(HeadFault::ContentLength), "{length:?}");
        }
        let twice = map(&[("content-length", "1"), ("content-length", "1")]);
        assert_eq!(framing(&twice), Err(HeadFault::ContentLength));
    }

    #[test]
    fn the_only_transfer_coding_is_a_single_chunked() {
        assert_eq!(framing(&map(&[("transfer-encoding", "Chunked")])), Ok(Some(Framing::Chunked)));
        for coding in
            ["", "gzip", "gzip, chunked", "chunked, chunked", "chunked,", ", chunked", "chunked;a=b", "xchunked"]
        {
            let headers = map(&[("transfer-encoding", coding)]);
            assert_eq!(framing(&headers), Err(HeadFault::TransferEncoding), "{coding:?}");
        }
        let both = map(&[("transfer-encoding", "chunked"), ("content-length", "1")]);
        assert_eq!(framing(&both), Err(HeadFault::TwoLengths));
    }

    #[test]
    fn connection_is_a_list_of_names() {
        let read = connection(&map(&[("connection", "Keep-Alive, , x-hop"), ("connection", "Upgrade")])).unwrap();
        assert!(read.keep_alive && read.upgrade && !read.close);
        assert_eq!(read.named, ["x-hop"]);
        assert_eq!(connection(&map(&[("connection", "a b")])), Err(HeadFault::Connection));
    }
}
