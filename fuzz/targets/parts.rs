//! Input taken apart: the fuzzer's bytes as lines, fields and pieces.

use http::{HeaderMap, HeaderName, HeaderValue};

/// The first byte and the rest; 0 where there is none.
pub(super) fn byte(data: &[u8]) -> (u8, &[u8]) {
    data.split_first().map_or((0, data), |(first, rest)| (*first, rest))
}

/// The first line and what comes after it.
pub(super) fn line(data: &[u8]) -> (&[u8], &[u8]) {
    data.iter().position(|b| *b == b'\n').map_or((data, &[]), |at| (&data[..at], &data[at + 1..]))
}

/// The same as text; what is not UTF-8 is no line.
pub(super) fn text(data: &[u8]) -> (&str, &[u8]) {
    let (first, rest) = line(data);
    (std::str::from_utf8(first).unwrap_or_default(), rest)
}

/// Lines of `name: value` up to an empty one, as HTTP/2 would deliver them, and what comes after it.
pub(super) fn fields(mut data: &[u8]) -> (HeaderMap, &[u8]) {
    let mut headers = HeaderMap::new();
    while !data.is_empty() {
        let (field, rest) = line(data);
        data = rest;
        if field.is_empty() {
            break;
        }
        let Some(colon) = field.iter().position(|b| *b == b':') else { continue };
        let value = field[colon + 1..].trim_ascii();
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(&field[..colon]), HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    (headers, data)
}
