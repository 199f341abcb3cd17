//! The request as its application gets it: what of the client's fields is kept, and what the gateway says about it.

use std::{borrow::Cow, net::IpAddr};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, header};
use sallyport_core::{
    http1::{Framing, RequestHead, connection, write_field},
    names::role::Role,
    statement::{self, Statement, StatementKey, UserLimits},
};

use super::field_names::{frames, is_managed};
use crate::{
    clients::own_response::REQUEST_ID,
    observe::RequestId,
    policy::{Permit, Stated},
};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const REMOTE_USER: HeaderName = HeaderName::from_static("remote-user");
const STATEMENT: HeaderName = HeaderName::from_static(statement::HEADER);

const SESSION_COOKIE: &[u8] = b"__Host-sallyport=";

/// A request that is forwarded, with everything that its application is told about it.
#[derive(Clone, Copy, Debug)]
pub struct Onward<'a> {
    /// Its head.
    pub head: &'a RequestHead,
    /// Its permit.
    pub permit: &'a Permit,
    /// The client's address.
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
        if kept && !is_rewritten(name, permit) && !frames(name.as_str()) && !named.contains(name) {
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
    let role = identity.map_or(Role::User, |identity| identity.role);
    let limits = match role {
        Role::Admin => UserLimits::default(),
        Role::User => stated.limits,
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
        link_id: identity.and_then(|i| i.proof.stated_link_id()).map(str::to_owned),
    }
}

/// Returns all cookies except the gateway's own, as one field, which HTTP/2 may have split (RFC 9113, section 8.2.3).
fn cookies(headers: &HeaderMap) -> Option<Vec<u8>> {
    let all = headers.get_all(header::COOKIE).iter().flat_map(|v| v.as_bytes().split(|b| *b == b';'));
    let kept = all.map(<[u8]>::trim_ascii).filter(|c| !c.starts_with(SESSION_COOKIE) && !c.is_empty());
    let cookies = kept.collect::<Vec<_>>().join(&b"; "[..]);
    (!cookies.is_empty()).then_some(cookies)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

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
