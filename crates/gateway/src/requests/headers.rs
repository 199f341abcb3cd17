//! Header fields: which ones never reach the application, which ones the gateway sets, and which ones an answer gains and loses.

use std::{
    borrow::Cow,
    net::{IpAddr, Ipv4Addr},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use sallyport_core::{
    http1::{Connection, Framing, RequestHead, ResponseHead, connection, is_hop_by_hop, write_field},
    statement::{self, Role, Statement, StatementKey, UserLimits},
};

use crate::{
    identity::{Grant, Identity},
    observe::RequestId,
    policy::{CorsAnswer, DEFAULT_REFERRER_POLICY, Permit, ReferrerPolicy, SecurityHeaders, Stated, is_discreet},
};

/// Prefixes of names that only the gateway may set. Every punctuation character counts as `-`, since CGI turns all of them into `_`.
/// The fields of client certificates are `Client-Cert` and `Client-Cert-Chain` (RFC 9440, section 2.4) and their older names.
const MANAGED_PREFIXES: [&str; 9] = [
    "x-forwarded-",
    "remote-",
    "x-auth-",
    "x-accel-",
    "x-sallyport-",
    "client-cert",
    "x-client-cert",
    "x-ssl-",
    "ssl-client-",
];
/// Whole names of the same kind; names that make some applications see another path, method or client than the one that was checked;
/// and the credentials, which end at the gateway.
const MANAGED_NAMES: [&str; 16] = [
    "forwarded",
    "x-forwarded",
    "x-real-ip",
    "x-client-ip",
    "true-client-ip",
    "x-cluster-client-ip",
    "x-request-id",
    "x-original-url",
    "x-rewrite-url",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "proxy",
    "proxy-authorization",
    "authorization",
    "x-api-key",
];

/// Prefixes that are removed from an application's answers, with `WITHHELD_NAMES`: the software in use, instructions to a server in front
/// of it, and permissions for other origins, which only the policy grants.
const WITHHELD_PREFIXES: [&str; 2] = ["access-control-", "x-accel-"];
const WITHHELD_NAMES: [&str; 3] = ["server", "x-powered-by", statement::HEADER];

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const REMOTE_USER: HeaderName = HeaderName::from_static("remote-user");
const FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const STATEMENT: HeaderName = HeaderName::from_static(statement::HEADER);

const SESSION_COOKIE: &[u8] = b"__Host-sallyport=";

/// A request that is forwarded, with everything that its application is told about it.
#[derive(Clone, Copy, Debug)]
pub struct Onward<'a> {
    /// Its head.
    pub head: &'a RequestHead,
    /// Its permit.
    pub permit: &'a Permit,
    /// The address of its client.
    pub client: IpAddr,
    /// Its id.
    pub id: RequestId,
    /// How the client's body ends.
    pub framing: Framing,
    /// Whether the client asks to upgrade to WebSocket.
    pub websocket: bool,
}

/// Writes the request for the application: the head, and the validated body if there is one.
///
/// The head is built from nothing rather than filtered: a field that is not written here does not reach the application.
#[must_use]
pub fn to_upstream(onward: &Onward<'_>, key: &StatementKey, now: i64) -> Bytes {
    let Onward { head, permit, .. } = *onward;
    let target = permit.rewritten_target(head.path()).map_or(Cow::Borrowed(head.target()), Cow::Owned);
    let mut out = Vec::with_capacity(1024);
    for part in [head.method.as_str(), " ", &target, " HTTP/1.1\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    write_field(&mut out, &header::HOST, head.host.as_bytes());
    write_client_fields(&mut out, head, permit);
    write_own_fields(&mut out, onward);
    if let Some(stated) = &permit.app().statement {
        let statement = key.sign(&statement(onward, stated, &target, now));
        write_field(&mut out, &STATEMENT, statement.as_bytes());
    }
    write_framing(&mut out, onward);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(permit.body().unwrap_or_default());
    out.into()
}

fn write_client_fields(out: &mut Vec<u8>, head: &RequestHead, permit: &Permit) {
    let named = connection(&head.headers).unwrap_or_default().named;
    for (name, value) in &head.headers {
        let kept = permit.route().app_headers.contains(name) || !is_managed(name.as_str());
        if kept && !is_rewritten(name, permit) && !frames(&folded(name.as_str())) && !named.contains(name) {
            let value = if *name == header::REFERER { without_link(value.as_bytes()) } else { value.as_bytes() };
            write_field(out, name, value);
        }
    }
    if !named.contains(&header::COOKIE)
        && let Some(cookies) = cookies(&head.headers)
    {
        write_field(out, &header::COOKIE, &cookies);
    }
}

/// Returns the URL without its query if that holds a signed link. A page that was opened by a link names it in the `Referer` of everything
/// that it loads, and like every credential, a link ends at the gateway.
fn without_link(url: &[u8]) -> &[u8] {
    const SIGNATURES: [&[u8]; 2] = [b"sp_sig=", b"signature="];
    let Some(at) = url.iter().position(|b| *b == b'?') else { return url };
    let (path, query) = url.split_at(at);
    let signed = SIGNATURES.iter().any(|name| query.windows(name.len()).any(|window| window == *name));
    if signed { path } else { url }
}

/// Returns true for a field, in any spelling, that frames a message or controls its connection.
fn frames(folded: &str) -> bool {
    is_hop_by_hop(folded) || folded == "content-length"
}

/// Returns true for fields that the gateway writes itself.
fn is_rewritten(name: &HeaderName, permit: &Permit) -> bool {
    let judged = permit.body().is_some();
    matches!(*name, header::HOST | header::CONTENT_LENGTH | header::EXPECT | header::COOKIE)
        || (judged && matches!(*name, header::CONTENT_TYPE | header::CONTENT_ENCODING))
}

fn write_own_fields(out: &mut Vec<u8>, onward: &Onward<'_>) {
    write_field(out, &FORWARDED_FOR, onward.client.to_string().as_bytes());
    write_field(out, &FORWARDED_PROTO, b"https");
    write_field(out, &FORWARDED_HOST, onward.head.host.as_bytes());
    write_field(out, &REQUEST_ID, onward.id.as_str().as_bytes());
    if let Some(identity) = onward.permit.identity() {
        write_field(out, &REMOTE_USER, identity.user.as_str().as_bytes());
    }
}

fn write_framing(out: &mut Vec<u8>, onward: &Onward<'_>) {
    let length = |out: &mut Vec<u8>, n: u64| write_field(out, &header::CONTENT_LENGTH, n.to_string().as_bytes());
    if onward.websocket {
        write_field(out, &header::CONNECTION, b"upgrade");
        write_field(out, &header::UPGRADE, b"websocket");
    }
    match (onward.permit.body(), onward.framing) {
        (Some(body), _) => {
            write_field(out, &header::CONTENT_TYPE, b"application/json");
            length(out, body.len() as u64);
        }
        // A method that usually has a body states that there is none (RFC 9110, section 8.6).
        (None, Framing::Length(0)) if !matches!(onward.head.method, Method::POST | Method::PUT | Method::PATCH) => {}
        (None, Framing::Length(n)) => length(out, n),
        (None, Framing::Chunked | Framing::UntilClose) => write_field(out, &header::TRANSFER_ENCODING, b"chunked"),
    }
}

/// Returns the gateway's statement about this request, for an application that trusts nothing else.
fn statement(onward: &Onward<'_>, stated: &Stated, target: &str, now: i64) -> Statement {
    let identity = onward.permit.identity();
    let (role, limits) = match identity {
        Some(identity) if identity.admin => (Role::Admin, UserLimits::default()),
        _ => (Role::User, stated.limits),
    };
    Statement {
        user: identity.map(|i| i.user.clone()),
        generation: identity.and_then(|i| i.generation).map(|id| id.0),
        role,
        limits,
        to: stated.to.clone(),
        request_id: onward.id.as_str().to_owned(),
        method: onward.head.method.as_str().to_owned(),
        target: target.to_owned(),
        at: now,
        link: onward.permit.link().map(str::to_owned),
        link_id: identity.and_then(|identity| link_id(identity)),
    }
}

/// Returns the id of the link that a request used. OfflineTube's links have no ids, so all of a user's links share one.
fn link_id(identity: &Identity) -> Option<String> {
    match &identity.grant {
        Grant::Link(link) => Some(link.id.to_string()),
        Grant::OfflinetubeLink(_) => Some(identity.kind().name().to_owned()),
        Grant::ApiKey(_) | Grant::Jwt(_) | Grant::ClientCertificate(_) => None,
    }
}

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
    // RFC 9110, section 8.6: a client that trusts it would wait for a body, or take the next answer for one.
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

/// Returns the request's id as a header value that HTTP/2 does not index, since no other answer has the same.
pub(crate) fn request_id(id: RequestId) -> HeaderValue {
    let mut value = HeaderValue::from_str(id.as_str()).unwrap_or_else(|_| HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}

/// Sets the security headers of an application's answer, except for HSTS. An application knows its own pages and frames best, but it may
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

/// Returns true if the answer already forbids all framing, in exactly one field, since browsers disagree about two.
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

/// Sets the CORS headers of an answer. A cache must know that the answer depends on the origin, whatever it is.
pub(crate) fn set_cors(headers: &mut HeaderMap, cors: &CorsAnswer) {
    if *cors == CorsAnswer::None {
        return;
    }
    let varies =
        |v: &HeaderValue| v.to_str().is_ok_and(|v| v.split(',').any(|n| n.trim().eq_ignore_ascii_case("origin")));
    if !headers.get_all(header::VARY).iter().any(varies) {
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
    }
    if let CorsAnswer::Allow { origin, credentials, expose } = cors {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, expose.clone());
        if *credentials {
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
    }
}

fn is_managed(name: &str) -> bool {
    let name = &*folded(name);
    MANAGED_NAMES.contains(&name) || MANAGED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Returns the name with every punctuation character as `-`. A `HeaderName` is lower case by construction.
fn folded(name: &str) -> Cow<'_, str> {
    let sign = |c: char| !c.is_ascii_alphanumeric() && c != '-';
    if name.contains(sign) { name.replace(sign, "-").into() } else { name.into() }
}

/// Returns all cookies except the gateway's own, as one field, which HTTP/2 may have split (RFC 9113, section 8.2.3).
fn cookies(headers: &HeaderMap) -> Option<Vec<u8>> {
    let all = headers.get_all(header::COOKIE).iter().flat_map(|v| v.as_bytes().split(|b| *b == b';'));
    let kept = all.map(<[u8]>::trim_ascii).filter(|c| !c.starts_with(SESSION_COOKIE) && !c.is_empty());
    let cookies = kept.collect::<Vec<_>>().join(&b"; "[..]);
    (!cookies.is_empty()).then_some(cookies)
}

fn strip_own(headers: &mut HeaderMap, connection: &Connection) {
    let foreign = |name: &HeaderName| {
        let text = &*folded(name.as_str());
        WITHHELD_NAMES.contains(&text)
            || WITHHELD_PREFIXES.iter().any(|prefix| text.starts_with(prefix))
            || is_hop_by_hop(text)
            || connection.named.contains(name)
    };
    let names: Vec<HeaderName> = headers.keys().filter(|n| foreign(n)).cloned().collect();
    for name in names {
        headers.remove(&name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_managed_name_is_managed() {
        for name in [
            "x-forwarded-for",
            "x_forwarded_for",
            "x-forwarded.host",
            "forwarded",
            "x-real-ip",
            "x_real_ip",
            "remote-user",
            "remote_user",
            "x-auth-user",
            "x-accel-redirect",
            "x-sallyport-statement",
            "client-cert",
            "client_cert_chain",
            "x-ssl-client-s-dn",
            "x-request-id",
            "authorization",
            "remote!user",
            "x-rewrite-url",
            "x_http_method_override",
        ] {
            assert!(is_managed(name), "{name}");
        }
        for name in ["accept", "x-requested-with", "range", "content-type", "cookie", "my_header"] {
            assert!(!is_managed(name), "{name}");
        }
    }

    #[test]
    fn a_referer_loses_its_query_if_that_holds_a_link() {
        for (url, kept) in [
            ("https://h/a?x=1&sp_user=a&sp_sig=AA", "https://h/a"),
            ("https://h/a?expires=1&signature=00&user=a", "https://h/a"),
            ("https://h/a?x=1", "https://h/a?x=1"),
            ("https://h/sp_sig=a", "https://h/sp_sig=a"),
            ("", ""),
        ] {
            assert_eq!(without_link(url.as_bytes()), kept.as_bytes(), "{url}");
        }
    }

    #[test]
    fn the_gateways_own_cookie_is_removed_and_the_others_are_kept() {
        let mut headers = HeaderMap::new();
        headers.append("cookie", HeaderValue::from_static("a=1; __Host-sallyport=secret; b=2"));
        headers.append("cookie", HeaderValue::from_static("__Host-sallyport=secret"));
        assert_eq!(cookies(&headers).unwrap(), b"a=1; b=2");
        headers.remove("cookie");
        headers.append("cookie", HeaderValue::from_static("__Host-sallyport=secret"));
        assert_eq!(cookies(&headers), None);
    }
}
