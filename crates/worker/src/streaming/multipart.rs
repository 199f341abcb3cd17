//! Several ranges of a file in one response (RFC 9110, section 14.6).

use std::{collections::VecDeque, iter::once};

use axum::body::Bytes;
use uuid::Uuid;

use super::range::ByteRange;

/// A segment of a response body.
#[derive(Debug)]
pub(crate) enum Segment {
    Text(Bytes),
    File(ByteRange),
}

/// A response body of type `multipart/byteranges`.
pub(crate) struct Multipart {
    boundary: String,
    segments: VecDeque<Segment>,
}

impl Multipart {
    /// Builds the body for the given ranges of a file of `length` bytes.
    pub(crate) fn new(slices: &[ByteRange], content_type: &str, length: u64) -> Self {
        // Random, so that no file can contain it.
        let boundary = Uuid::new_v4().simple().to_string();
        let mut lead = "";
        let mut segments = VecDeque::new();
        for slice in slices {
            let ByteRange { first, last } = slice;
            let head = format!(
                "{lead}--{boundary}\r\nContent-Type: {content_type}\r\nContent-Range: bytes {first}-{last}/{length}\r\n\r\n"
            );
            segments.extend([Segment::Text(head.into()), Segment::File(*slice)]);
            lead = "\r\n";
        }
        segments.extend(once(Segment::Text(format!("\r\n--{boundary}--\r\n").into())));
        Self { boundary, segments }
    }

    pub(crate) fn content_type(&self) -> String {
        format!("multipart/byteranges; boundary={}", self.boundary)
    }

    /// Returns the length in bytes, including everything between the ranges.
    pub(crate) fn content_length(&self) -> u64 {
        self.segments.iter().map(Segment::len).sum()
    }

    pub(crate) fn into_segments(self) -> VecDeque<Segment> {
        self.segments
    }
}

impl Segment {
    fn len(&self) -> u64 {
        match self {
            Self::Text(text) => text.len() as u64,
            Self::File(slice) => slice.len(),
        }
    }
}
