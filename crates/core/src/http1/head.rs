//! Finds the end of a message head, and lists everything that can be wrong with one.

use bytes::{Buf, BytesMut};
use thiserror::Error;

/// The longest message head, in bytes.
pub const MAX_HEAD_BYTES: usize = 32 * 1024;
/// The longest request target, in bytes.
pub const MAX_TARGET_BYTES: usize = 8 * 1024;
/// The maximum number of fields in a head.
pub(super) const MAX_FIELDS: usize = 100;
/// The longest first line: a target, with room for method and version.
const MAX_LINE_BYTES: usize = MAX_TARGET_BYTES + 64;

/// Why a head is refused (sections of RFC 9112).
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum HeadFault {
    /// Section 2.2.
    #[error("a line does not end with CRLF")]
    LineEnd,
    /// Sections 3 and 4.
    #[error("the first line is malformed")]
    FirstLine,
    /// Section 3.2.
    #[error("the request target is not valid for a proxy")]
    Target,
    /// The first line is longer than [`MAX_TARGET_BYTES`] allows.
    #[error("the target is longer than 8 KiB")]
    TargetTooLong,
    /// The head is longer than [`MAX_HEAD_BYTES`] or has too many fields.
    #[error("the head is longer than 32 KiB or has more than 100 fields")]
    TooLarge,
    /// Section 5.
    #[error("a header field is not of the form \"name: value\"")]
    Field,
    /// Section 3.2.
    #[error("Host is missing, repeated or different from the request target")]
    Host,
    /// Section 6.2.
    #[error("Content-Length is repeated or not a plain number")]
    ContentLength,
    /// Section 6.1.
    #[error("Transfer-Encoding is anything other than a single \"chunked\"")]
    TransferEncoding,
    /// Section 6.3.
    #[error("both Content-Length and Transfer-Encoding are present")]
    TwoLengths,
    /// RFC 9110, section 7.6.1.
    #[error("Connection is not a list of names")]
    Connection,
}

/// How many empty lines may precede a request, since some clients send one after a body (section 2.2).
const MAX_EMPTY_LINES: u8 = 4;
const EMPTY_LINE_BYTES: usize = 2;

/// Finds the end of a head as its bytes arrive, without looking at any byte twice.
#[derive(Debug, Default)]
pub struct HeadScan {
    line: usize,
    seen: usize,
    empty_lines: u8,
}

impl HeadScan {
    /// Returns the length of a request's head once it is complete. A few empty lines before it are removed from `bytes`.
    pub fn request_end(&mut self, bytes: &mut BytesMut) -> Result<Option<usize>, HeadFault> {
        loop {
            match self.end(bytes)? {
                Some(EMPTY_LINE_BYTES) if self.empty_lines < MAX_EMPTY_LINES => {
                    bytes.advance(EMPTY_LINE_BYTES);
                    *self = Self { empty_lines: self.empty_lines + 1, ..Self::default() };
                }
                end => return Ok(end),
            }
        }
    }

    /// Returns the length of the head once it is complete; `bytes` is everything received so far.
    pub fn end(&mut self, bytes: &[u8]) -> Result<Option<usize>, HeadFault> {
        while let Some(feed) = bytes.get(self.seen..).and_then(|rest| memchr::memchr(b'\n', rest)) {
            let feed = self.seen + feed;
            let line = bytes.get(self.line..feed).unwrap_or_default();
            let Some(line) = line.strip_suffix(b"\r") else { return Err(HeadFault::LineEnd) };
            if self.line == 0 && line.len() > MAX_LINE_BYTES {
                return Err(HeadFault::TargetTooLong);
            }
            (self.line, self.seen) = (feed + 1, feed + 1);
            if line.is_empty() {
                return if feed < MAX_HEAD_BYTES { Ok(Some(feed + 1)) } else { Err(HeadFault::TooLarge) };
            }
        }
        self.seen = bytes.len();
        match (self.line, bytes.len()) {
            (0, length) if length > MAX_LINE_BYTES => Err(HeadFault::TargetTooLong),
            (_, length) if length >= MAX_HEAD_BYTES => Err(HeadFault::TooLarge),
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_found_however_the_bytes_arrive() {
        let head = b"GET / HTTP/1.1\r\nHost: h\r\n\r\nbody";
        assert_eq!(HeadScan::default().end(head), Ok(Some(27)));
        let mut scan = HeadScan::default();
        let ends: Vec<_> = (1..=head.len()).map(|n| scan.end(&head[..n])).take_while(|e| *e == Ok(None)).collect();
        assert_eq!(ends.len(), 26);
    }

    #[test]
    fn a_few_empty_lines_before_a_request_are_dropped_however_they_arrive() {
        let head = b"\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\nbody";
        let mut scan = HeadScan::default();
        let mut bytes = BytesMut::new();
        let end = head.iter().find_map(|byte| {
            bytes.extend_from_slice(&[*byte]);
            scan.request_end(&mut bytes).unwrap()
        });
        assert_eq!((end, &bytes[..4]), (Some(27), &b"GET "[..]));
        let mut bytes = BytesMut::from(&b"\r\n".repeat(5)[..]);
        assert_eq!(
            HeadScan::default().request_end(&mut bytes),
            Ok(Some(2)),
            "one empty line too many is read as an empty head"
        );
        for bad in ["\n\r\nGET / HTTP/1.1\r\n\r\n", "\r\n\nGET / HTTP/1.1\r\n\r\n"] {
            assert_eq!(HeadScan::default().request_end(&mut BytesMut::from(bad)), Err(HeadFault::LineEnd), "{bad:?}");
        }
    }

    #[test]
    fn a_line_must_end_with_both_bytes() {
        for head in ["GET / HTTP/1.1\n\n", "GET / HTTP/1.1\r\nHost: h\n\r\n", "\n", "GET / HTTP/1.1\r\n\n"] {
            assert_eq!(HeadScan::default().end(head.as_bytes()), Err(HeadFault::LineEnd), "{head:?}");
        }
    }

    #[test]
    fn a_head_that_is_too_long_is_refused_before_it_is_complete() {
        let target = format!("GET /{}", "a".repeat(9_000));
        assert_eq!(HeadScan::default().end(target.as_bytes()), Err(HeadFault::TargetTooLong));
        let head = format!("GET / HTTP/1.1\r\nx: {}", "a".repeat(33_000));
        assert_eq!(HeadScan::default().end(head.as_bytes()), Err(HeadFault::TooLarge));
        assert_eq!(HeadScan::default().end(format!("{head}\r\n\r\n").as_bytes()), Err(HeadFault::TooLarge));
    }
}
