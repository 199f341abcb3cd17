//! The application's response as the client gets it: which fields it loses and gains.

use std::net::Ipv4Addr;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use sallyport_core::http1::{Connection, ResponseHead};

use super::field_names::is_withheld;
use crate::{
    clients::own_response::{REQUEST_ID, request_id},
    observe::RequestId,
    policy::{CorsHeaders, DEFAULT_REFERRER_POLICY, Permit, ReferrerPolicy, SecurityHeaders, is_discreet},
};

const FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// Turns the application's response head into the one that the client gets.
pub(crate) fn from_upstream(
    response: &mut ResponseHead,
    connection: &Connection,
    permit: &Permit,
    id: RequestId,
    host: &str,
) {
    let headers = &mut response.headers;
    strip_own(headers, connection);
    // RFC 9110, section 8.6: a client that trusts it would wait for a body, or take the next response for one.
    if response.status == StatusCode::NO_CONTENT || response.status.is_informational() {
        headers.remove(header::CONTENT_LENGTH);
    }
    secure(headers, &permit.app().headers);
    set_transport_security(headers, &permit.app().headers, host);
    headers.insert(REQUEST_ID, request_id(id));
    set_cors(headers, permit.cors());
}

/// Returns true if a browser requests a page to show.
pub(crate) fn opens_a_page(headers: &HeaderMap) -> bool {
    headers.get(FETCH_MODE).is_some_and(|mode| mode.as_bytes() == b"navigate")
}

/// Returns the part of a 103 response (RFC 8297) that is forwarded: links to resources that the page will need.
pub(crate) fn early_hints(head: &ResponseHead) -> Option<ResponseHead> {
    let mut headers = HeaderMap::new();
    for link in head.headers.get_all(header::LINK) {
        headers.append(header::LINK, link.clone());
    }
    let hints = head.status == StatusCode::EARLY_HINTS && !headers.is_empty();
    hints.then_some(ResponseHead { status: head.status, headers })
}

/// Sets the security headers of an application's response, except for HSTS. An application knows its own pages and frames best, but it may
/// not weaken the protection of others: URLs contain links, and files contain untrusted bytes.
fn secure(headers: &mut HeaderMap, policy: &SecurityHeaders) {
    if let Some(value) = &policy.content_type_options {
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, value.clone());
    }
    match &policy.referrer_policy {
        ReferrerPolicy::Set(value) => _ = headers.insert(header::REFERRER_POLICY, value.clone()),
        ReferrerPolicy::Default if is_discreet(headers.get_all(header::REFERRER_POLICY).iter()) => {}
        ReferrerPolicy::Default => {
            headers.insert(header::REFERRER_POLICY, HeaderValue::from_static(DEFAULT_REFERRER_POLICY));
        }
        ReferrerPolicy::Application => {}
    }
    if let Some(value) = &policy.frame_options
        && !forbids_frames(headers)
    {
        headers.insert(header::X_FRAME_OPTIONS, value.clone());
    }
    if let Some(value) = &policy.content_security_policy
        && !headers.contains_key(header::CONTENT_SECURITY_POLICY)
    {
        headers.insert(header::CONTENT_SECURITY_POLICY, value.clone());
    }
}

/// Returns true if the response already forbids all framing, in exactly one field, since browsers disagree about two.
fn forbids_frames(headers: &HeaderMap) -> bool {
    let mut fields = headers.get_all(header::X_FRAME_OPTIONS).iter();
    fields.next().is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"DENY")) && fields.next().is_none()
}

/// Sets HSTS as the policy says, for names only: browsers ignore it for addresses (RFC 6797, section 8.1.1), and on `localhost` it would
/// lock out every other program there.
pub(crate) fn set_transport_security(headers: &mut HeaderMap, policy: &SecurityHeaders, host: &str) {
    let Some(value) = &policy.transport_security else { return };
    if is_shared_name(host) {
        headers.remove(header::STRICT_TRANSPORT_SECURITY);
    } else {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, value.clone());
    }
}

/// Returns true for `localhost` and addresses, with or without a port. The host was validated before.
fn is_shared_name(host: &str) -> bool {
    let name = host.split(':').next().unwrap_or_default();
    let local = |label: &str| label.eq_ignore_ascii_case("localhost");
    host.starts_with('[') || name.rsplit('.').next().is_some_and(local) || name.parse::<Ipv4Addr>().is_ok()
}

/// Sets the CORS headers of a response. A cache must know that the response depends on the origin, whatever it is.
pub(crate) fn set_cors(headers: &mut HeaderMap, cors: &CorsHeaders) {
    if *cors == CorsHeaders::None {
        return;
    }
    let varies =
        |v: &HeaderValue| v.to_str().is_ok_and(|v| v.split(',').any(|n| n.trim().eq_ignore_ascii_case("origin")));
    if !headers.get_all(header::VARY).iter().any(varies) {
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
    }
    if let CorsHeaders::Allow { origin, credentials, expose } = cors {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, expose.clone());
        if *credentials {
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
    }
}

fn strip_own(headers: &mut HeaderMap, connection: &Connection) {
    let foreign = |name: &HeaderName| is_withheld(name.as_str()) || connection.named.contains(name);
    let names: Vec<HeaderName> = headers.keys().filter(|n| foreign(n)).cloned().collect();
    for name in names {
        headers.remove(&name);
    }
}
