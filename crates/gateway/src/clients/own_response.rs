//! A complete response of the gateway itself, and the fields that each of its responses has.

use std::sync::LazyLock;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use sallyport_core::http1::ResponseHead;

use crate::observe::RequestId;

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The headers of every response of the gateway itself: it is data, not a page.
static OWN_HEADERS: LazyLock<HeaderMap> = LazyLock::new(|| {
    let mut headers = HeaderMap::with_capacity(16);
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
});

/// A complete response of the gateway itself.
#[derive(Debug)]
pub(crate) struct OwnResponse {
    pub(crate) head: ResponseHead,
    pub(crate) body: Vec<u8>,
}

impl OwnResponse {
    /// Returns a response without a body.
    pub(crate) fn bare(status: StatusCode) -> Self {
        Self { head: ResponseHead { status, headers: HeaderMap::new() }, body: Vec::new() }
    }
}

/// Returns the headers of every response of the gateway itself.
pub(crate) fn own_headers() -> HeaderMap {
    OWN_HEADERS.clone()
}

/// Returns the request's id as a header value that HTTP/2 does not index, since no other response has the same.
pub(crate) fn request_id(id: RequestId) -> HeaderValue {
    let mut value = HeaderValue::from_str(id.as_str()).unwrap_or_else(|_| HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}
