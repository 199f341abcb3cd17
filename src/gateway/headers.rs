//! Header fields on their way: what never reaches the application, what the gateway states, what an answer gets.

use http::{HeaderName, HeaderValue, header};
use pingora::{
    ErrorType, OrErr, Result,
    http::{RequestHeader, ResponseHeader},
};

use super::context::{Context, host};
use crate::{
    policy::{CorsAnswer, Permit},
    statement::{self, Statement},
};

/// Prefixes of names that only the gateway may set, with every sign read as `-`, since CGI makes `_` of all of them.
const MANAGED_PREFIXES: [&str; 5] = ["x-forwarded-", "remote-", "x-auth-", "x-accel-", "x-sallyport-"];
/// Whole names of the same kind; names by which some applications take another path, method or client than was judged;
/// and the credentials that end here.
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

pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const REMOTE_USER: HeaderName = HeaderName::from_static("remote-user");
const POWERED_BY: HeaderName = HeaderName::from_static("x-powered-by");

const SESSION_COOKIE: &[u8] = b"__Host-sallyport=";

/// Turns the client's head into what the application gets.
pub(super) fn to_upstream(request: &mut RequestHeader, permit: &Permit, context: &Context) -> Result<()> {
    let host = host(request).to_owned();
    strip_managed(request, &permit.route().app_headers);
    strip_session_cookie(request)?;
    if let Some(target) = target(request, permit) {
        request.set_raw_path(target.as_bytes())?;
    }
    if let Some(body) = permit.body() {
        request.remove_header(&header::TRANSFER_ENCODING);
        request.remove_header(&header::EXPECT);
        request.remove_header(&header::CONTENT_ENCODING);
        request.insert_header(header::CONTENT_LENGTH, body.len())?;
        request.insert_header(header::CONTENT_TYPE, "application/json")?;
    }
    request.insert_header(FORWARDED_FOR, context.client.to_string())?;
    request.insert_header(FORWARDED_PROTO, HeaderValue::from_static("https"))?;
    request.insert_header(FORWARDED_HOST, host)?;
    request.insert_header(REQUEST_ID, context.id.as_str())?;
    if let Some(identity) = permit.identity() {
        request.insert_header(REMOTE_USER, identity.user.as_str())?;
    }
    Ok(())
}

/// What the gateway says of this request to an application that believes only that.
pub(super) fn statement(request: &RequestHeader, permit: &Permit, context: &Context, now: i64) -> Statement {
    let identity = permit.identity();
    Statement {
        user: identity.map(|i| i.user.clone()),
        admin: identity.is_some_and(|i| i.admin),
        request_id: context.id.as_str().to_owned(),
        method: request.method.as_str().to_owned(),
        target: String::from_utf8_lossy(request.raw_path()).into_owned(),
        at: now,
    }
}

/// Puts a signed statement on the request.
pub(super) fn set_statement(request: &mut RequestHeader, value: String) -> Result<()> {
    request.insert_header(statement::HEADER, value)
}

/// Turns the application's head into what the client gets.
pub(super) fn from_upstream(
    response: &mut ResponseHeader,
    cors: &CorsAnswer,
    context: &Context,
    host: &str,
) -> Result<()> {
    strip_own(response);
    secure(response)?;
    set_transport_security(response, host)?;
    response.insert_header(REQUEST_ID, request_id(context)?)?;
    set_cors(response, cors)
}

/// The request's id as a header value that HTTP/2 does not put in its table: no other answer will have the same.
pub(super) fn request_id(context: &Context) -> Result<HeaderValue> {
    let mut value = HeaderValue::from_str(context.id.as_str()).or_err(ErrorType::InternalError, "a request id")?;
    value.set_sensitive(true);
    Ok(value)
}

/// The security headers that every answer has.
pub(super) fn secure(response: &mut ResponseHeader) -> Result<()> {
    response.insert_header(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"))?;
    response.insert_header(header::X_FRAME_OPTIONS, HeaderValue::from_static("SAMEORIGIN"))?;
    response.insert_header(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"))
}

/// HSTS is for names: browsers ignore it for addresses, and on `localhost` it would lock out every other program there.
pub(super) fn set_transport_security(response: &mut ResponseHeader, host: &str) -> Result<()> {
    if host.starts_with("localhost") {
        return Ok(());
    }
    response.insert_header(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"))
}

/// The CORS headers of an answer; a cache must know that the origin mattered, whatever the answer was.
pub(super) fn set_cors(response: &mut ResponseHeader, cors: &CorsAnswer) -> Result<()> {
    if *cors == CorsAnswer::None {
        return Ok(());
    }
    let varies =
        |v: &HeaderValue| v.to_str().is_ok_and(|v| v.split(',').any(|n| n.trim().eq_ignore_ascii_case("origin")));
    if !response.headers.get_all(header::VARY).iter().any(varies) {
        response.append_header(header::VARY, HeaderValue::from_static("Origin"))?;
    }
    if let CorsAnswer::Allow { origin, credentials, expose } = cors {
        response.insert_header(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone())?;
        response.insert_header(header::ACCESS_CONTROL_EXPOSE_HEADERS, expose.clone())?;
        if *credentials {
            response.insert_header(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"))?;
        }
    }
    Ok(())
}

fn strip_managed(request: &mut RequestHeader, app_headers: &[HeaderName]) {
    let managed = |name: &&HeaderName| is_managed(name.as_str()) && !app_headers.contains(name);
    let managed: Vec<HeaderName> = request.headers.keys().filter(managed).cloned().collect();
    for name in managed {
        request.remove_header(&name);
    }
}

fn is_managed(name: &str) -> bool {
    // `HeaderName` is lower case by construction.
    let sign = |c: char| !c.is_ascii_alphanumeric() && c != '-';
    if !name.contains(sign) {
        return matches_managed(name);
    }
    matches_managed(&name.replace(sign, "-"))
}

fn matches_managed(name: &str) -> bool {
    MANAGED_NAMES.contains(&name) || MANAGED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

fn strip_session_cookie(request: &mut RequestHeader) -> Result<()> {
    let holds = |v: &HeaderValue| v.as_bytes().windows(SESSION_COOKIE.len()).any(|w| w == SESSION_COOKIE);
    if !request.headers.get_all(header::COOKIE).iter().any(holds) {
        return Ok(());
    }
    let cookies: Vec<u8> = {
        let all = request.headers.get_all(header::COOKIE).iter().flat_map(|v| v.as_bytes().split(|b| *b == b';'));
        let kept = all.map(<[u8]>::trim_ascii).filter(|c| !c.starts_with(SESSION_COOKIE) && !c.is_empty());
        kept.collect::<Vec<_>>().join(&b"; "[..])
    };
    request.remove_header(&header::COOKIE);
    match HeaderValue::from_bytes(&cookies) {
        Ok(value) if !cookies.is_empty() => request.insert_header(header::COOKIE, value),
        _ => Ok(()),
    }
}

/// Path and query in origin form where they are not what came: a credential was taken out, or an authority stood before.
fn target(request: &RequestHeader, permit: &Permit) -> Option<String> {
    let rewritten = permit.rewritten_target(request.uri.path());
    if rewritten.is_none() && request.raw_path().first() != Some(&b'/') {
        return request.uri.path_and_query().map(|pq| pq.as_str().to_owned());
    }
    rewritten
}

fn strip_own(response: &mut ResponseHeader) {
    for name in [header::SERVER, POWERED_BY] {
        response.remove_header(&name);
    }
    let foreign = |name: &HeaderName| {
        let name = name.as_str();
        name.starts_with("access-control-") || name.starts_with("x-accel-") || name == "x-sallyport-statement"
    };
    let names: Vec<HeaderName> = response.headers.keys().filter(|n| foreign(n)).cloned().collect();
    for name in names {
        response.remove_header(&name);
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
    fn the_gateways_cookie_is_taken_out_of_the_others() {
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        request.append_header("cookie", "a=1; __Host-sallyport=secret; b=2").unwrap();
        request.append_header("cookie", "__Host-sallyport=secret").unwrap();
        strip_session_cookie(&mut request).unwrap();
        let left: Vec<_> = request.headers.get_all("cookie").iter().collect();
        assert_eq!(left, ["a=1; b=2"]);
    }
}
