//! Splits the fuzzer's input into lines, fields and pieces.

use http::{HeaderMap, HeaderName, HeaderValue};

/// Returns the first byte, or 0 if there is none, and the rest.
pub(super) fn byte(data: &[u8]) -> (u8, &[u8]) {
    data.split_first().map_or((0, data), |(first, rest)| (*first, rest))
}

/// Returns the first line and the rest.
pub(super) fn line(data: &[u8]) -> (&[u8], &[u8]) {
    data.iter().position(|b| *b == b'\n').map_or((data, &[]), |at| (&data[..at], &data[at + 1..]))
}

/// Returns the first line as text, empty if it is not UTF-8, and the rest.
pub(super) fn text(data: &[u8]) -> (&str, &[u8]) {
    let (first, rest) = line(data);
    (std::str::from_utf8(first).unwrap_or_default(), rest)
}

/// Returns lines of `name: value` up to an empty line, as HTTP/2 would deliver them, and the rest.
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
