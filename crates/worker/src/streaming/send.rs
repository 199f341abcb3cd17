//! Sends a file through the connection's send queue, with conditional requests and ranges (RFC 9110, sections 13 and 14).

use std::{
    collections::VecDeque,
    fs::{File, Metadata},
    os::unix::fs::MetadataExt,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use thiserror::Error;
use tokio::task::{JoinError, spawn_blocking};

use super::{
    multipart::{Multipart, Segment},
    pieces,
    range::{ByteRange, RequestedRange},
    sendfile::SendQueue,
};
use crate::{
    media::{files::open_regular, read_leases::ReadLease},
    tasks::{digest::Digest, id::TaskId},
};

/// RFC 9530, section 3: the digest of the whole file, whatever part of it is sent.
const REPR_DIGEST: HeaderName = HeaderName::from_static("repr-digest");

/// The characters that are escaped in `filename*` (RFC 8187, section 3.2.1).
const ATTR_CHAR: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

/// What a browser should do with the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disposition {
    /// Play or show it.
    Inline,
    /// Save it.
    Attachment,
}

/// A file to send, with its metadata.
pub(crate) struct Sending {
    pub(crate) id: TaskId,
    pub(crate) path: PathBuf,
    pub(crate) content_type: &'static str,
    pub(crate) disposition: Disposition,
    /// The name to save it by.
    pub(crate) name: Option<String>,
    pub(crate) reading: Arc<ReadLease>,
    /// What the file contained when it was finished, if that is known.
    pub(crate) content: Option<FinishedContent>,
}

/// A file's content, as it was when it was finished.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FinishedContent {
    pub(crate) digest: Digest,
    pub(crate) bytes: u64,
    /// When it was finished. That differs from the modification time if the file is shared with other tasks.
    pub(crate) at: Timestamp,
}

/// The reason why a file cannot be sent.
#[derive(Debug, Error)]
pub(crate) enum SendError {
    /// The cause is in the log.
    #[error("the file cannot be read")]
    Gone,
    #[error("a background thread failed: {0}")]
    Lost(#[from] JoinError),
}

/// The validators of the current version of a file.
struct Validators {
    etag: String,
    modified: SystemTime,
}

impl Sending {
    /// Answers a GET or HEAD with the given headers on the connection of `queue`. Fails if the file is gone.
    pub(crate) async fn respond(
        self,
        method: &Method,
        headers: &HeaderMap,
        queue: SendQueue,
    ) -> Result<Response, SendError> {
        let path = self.path.clone();
        let opened = spawn_blocking(move || open_regular(&path)).await?;
        let (file, about) = opened.map_err(|error| {
            tracing::error!(task = %self.id, %error, "cannot read a finished file");
            SendError::Gone
        })?;
        // A file of another length was replaced, so the digest does not apply.
        let content = self.content.filter(|content| content.bytes == about.len());
        let digest = content.map(|content| content.digest);
        let validators = Validators::of(self.id, &about, content);
        let mut response = match validators.judge(headers, SystemTime::now()) {
            Some(status) => status.into_response(),
            None => self.content_response(file, about.len(), validators.part(method, headers, about.len()), queue),
        };
        validators.describe(response.headers_mut());
        if response.status() == StatusCode::OK
            && let Some(value) = digest.and_then(|digest| HeaderValue::try_from(digest.repr_digest()).ok())
        {
            response.headers_mut().insert(REPR_DIGEST, value);
        }
        if response.status() != StatusCode::NOT_MODIFIED {
            self.describe(response.headers_mut());
        }
        Ok(response)
    }

    fn content_response(&self, file: File, length: u64, part: RequestedRange, queue: SendQueue) -> Response {
        let body = |segments| self.body(file, segments, queue);
        match part {
            RequestedRange::Whole if length == 0 => StatusCode::OK.into_response(),
            RequestedRange::Whole => {
                let whole = ByteRange { first: 0, last: length.saturating_sub(1) };
                (StatusCode::OK, [length_of(length)], body([Segment::File(whole)].into())).into_response()
            }
            RequestedRange::Single(slice) => {
                let range = format!("bytes {}-{}/{length}", slice.first, slice.last);
                let headers = [length_of(slice.len()), (header::CONTENT_RANGE, range)];
                (StatusCode::PARTIAL_CONTENT, headers, body([Segment::File(slice)].into())).into_response()
            }
            RequestedRange::Multiple(slices) => {
                let parts = Multipart::new(&slices, self.content_type, length);
                let headers = [length_of(parts.content_length()), (header::CONTENT_TYPE, parts.content_type())];
                (StatusCode::PARTIAL_CONTENT, headers, body(parts.into_segments())).into_response()
            }
            RequestedRange::Unsatisfiable => {
                let range = format!("bytes */{length}");
                (StatusCode::RANGE_NOT_SATISFIABLE, [(header::CONTENT_RANGE, range)]).into_response()
            }
        }
    }

    fn body(&self, file: File, segments: VecDeque<Segment>, queue: SendQueue) -> Body {
        pieces::body(Arc::new(file), segments, queue, Arc::clone(&self.reading))
    }

    fn describe(&self, headers: &mut HeaderMap) {
        headers.entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static(self.content_type));
        headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        if let Ok(value) = HeaderValue::try_from(self.content_disposition()) {
            headers.insert(header::CONTENT_DISPOSITION, value);
        }
    }

    /// Returns the header of RFC 6266, with an ASCII name for clients that support no other.
    fn content_disposition(&self) -> String {
        let kind = match self.disposition {
            Disposition::Inline => "inline",
            Disposition::Attachment => "attachment",
        };
        let Some(name) = &self.name else { return kind.to_owned() };
        let plain: String = name.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
        format!("{kind}; filename=\"{plain}\"; filename*=UTF-8''{}", utf8_percent_encode(name, ATTR_CHAR))
    }
}

impl Validators {
    fn of(id: TaskId, about: &Metadata, content: Option<FinishedContent>) -> Self {
        let written = || format!("\"{id}-{:x}-{:x}-{:x}\"", about.len(), about.mtime(), about.mtime_nsec());
        let etag = content.map_or_else(written, |content| content.digest.etag());
        let at = content.map_or(about.mtime(), |content| content.at.as_second());
        let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(at.max(0).cast_unsigned());
        Self { etag, modified }
    }

    /// Evaluates the preconditions (RFC 9110, section 13.2.2). Returns the status if one of them ends the request.
    fn judge(&self, headers: &HeaderMap, now: SystemTime) -> Option<StatusCode> {
        if let Some(tags) = listed(headers, &header::IF_MATCH) {
            if !tags.iter().any(|tag| tag == "*" || *tag == self.etag) {
                return Some(StatusCode::PRECONDITION_FAILED);
            }
        } else if date(headers, &header::IF_UNMODIFIED_SINCE).is_some_and(|since| self.modified > since) {
            return Some(StatusCode::PRECONDITION_FAILED);
        }
        let unchanged = match listed(headers, &header::IF_NONE_MATCH) {
            Some(tags) => tags.iter().any(|tag| tag == "*" || tag.trim_start_matches("W/") == self.etag),
            None => date(headers, &header::IF_MODIFIED_SINCE).is_some_and(|at| self.modified <= at && at <= now),
        };
        unchanged.then_some(StatusCode::NOT_MODIFIED)
    }

    /// Returns the part to send. Ranges apply only to GET, and only if the client has the current version.
    fn part(&self, method: &Method, headers: &HeaderMap, length: u64) -> RequestedRange {
        if method != Method::GET || !self.is_current(headers) {
            return RequestedRange::Whole;
        }
        let mut ranges = headers.get_all(header::RANGE).iter();
        match (ranges.next(), ranges.next()) {
            (Some(range), None) => RequestedRange::of(range.to_str().ok(), length),
            _ => RequestedRange::Whole,
        }
    }

    /// Evaluates `If-Range` (section 13.1.5): a strong tag matches, or the exact date if it is too old to be ambiguous.
    fn is_current(&self, headers: &HeaderMap) -> bool {
        let Some(value) = headers.get(header::IF_RANGE) else { return true };
        let Ok(value) = value.to_str() else { return false };
        let settled = self.modified.elapsed().is_ok_and(|age| age >= Duration::from_secs(2));
        value == self.etag || (settled && value == httpdate::fmt_http_date(self.modified))
    }

    fn describe(&self, headers: &mut HeaderMap) {
        let values = [
            (header::ETAG, self.etag.clone()),
            (header::LAST_MODIFIED, httpdate::fmt_http_date(self.modified)),
            (header::CACHE_CONTROL, "private".to_owned()),
        ];
        for (name, value) in values {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(name, value);
            }
        }
    }
}

fn length_of(bytes: u64) -> (HeaderName, String) {
    (header::CONTENT_LENGTH, bytes.to_string())
}

/// Returns the members of a list header across all its lines, or `None` if the header is missing.
fn listed(headers: &HeaderMap, name: &HeaderName) -> Option<Vec<String>> {
    let lines: Vec<_> = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
    let members = lines.iter().flat_map(|line| line.split(',')).map(|tag| tag.trim().to_owned());
    if headers.contains_key(name) { Some(members.collect()) } else { None }
}

fn date(headers: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok()
}

fn is_plain(c: char) -> bool {
    matches!(c, ' '..='~') && !matches!(c, '"' | '\\' | '%')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc6266_a_name_is_sent_in_ascii_and_in_full() {
        let sending = Sending {
            id: "550e8400-e29b-41d4-a716-446655440000".parse().unwrap(),
            path: PathBuf::new(),
            content_type: "video/mp4",
            disposition: Disposition::Attachment,
            reading: crate::media::read_leases::ReadLeases::default()
                .begin("550e8400-e29b-41d4-a716-446655440000".parse().unwrap()),
            content: None,
            name: Some("añb\"c\r\n 100%.mp4".into()),
        };
        assert_eq!(
            sending.content_disposition(),
            "attachment; filename=\"a_b_c__ 100_.mp4\"; filename*=UTF-8''a%C3%B1b%22c%0D%0A%20100%25.mp4"
        );
    }
}
