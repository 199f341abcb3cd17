//! The one place where a denial becomes a response.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use sallyport_core::{http1::ResponseHead, problem::Problem};
use serde::Serialize;
use serde_json::json;

use super::{
    exchange::Exchange,
    from_upstream::{set_cors, set_transport_security},
};
use crate::{
    clients::own_response::{OwnResponse, REQUEST_ID, own_headers, request_id},
    limits::Exceeded,
    pages::welcome,
    policy::{App, BasicChallenge, CorsHeaders, Denial, ErrorStyle, Permit, PreflightResponse, Reason},
};

const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Returns the response to a denied request.
pub(crate) fn denial(exchange: &Exchange, denial: &Denial) -> OwnResponse {
    let content_type = match denial.style {
        ErrorStyle::Problem => "application/problem+json",
        ErrorStyle::Fastapi => "application/json",
    };
    let mut head = start(exchange, denial.app.as_deref(), denial.reason.status());
    head.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    head.headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(challenge) = challenge(denial.reason) {
        head.headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        if denial.reason.status() == StatusCode::UNAUTHORIZED && offers_basic(denial.basic, &exchange.head.headers) {
            head.headers.append(header::WWW_AUTHENTICATE, HeaderValue::from_static(BASIC));
        }
    }
    if let Some(allow) = &denial.allow {
        head.headers.insert(header::ALLOW, allow.clone());
    }
    if let Some(seconds) = retry_after(denial.reason) {
        head.headers.insert(header::RETRY_AFTER, seconds.into());
    }
    if let Some(exceeded) = &denial.exceeded {
        set_rate_headers(&mut head.headers, exceeded);
    }
    set_cors(&mut head.headers, &denial.cors);
    OwnResponse { head, body: error_body(denial, exchange) }
}

/// Returns `Retry-After` in seconds, for reasons other than a rate limit.
const fn retry_after(reason: Reason) -> Option<u32> {
    match reason {
        Reason::Overloaded | Reason::UpstreamUnreachable => Some(5),
        Reason::TooManyLinks => Some(60),
        _ => None,
    }
}

/// Returns the response to an allowed preflight.
pub(crate) fn preflight(exchange: &Exchange, response: &PreflightResponse) -> OwnResponse {
    let mut head = start(exchange, Some(&response.app), StatusCode::NO_CONTENT);
    let headers = &mut head.headers;
    let cors = match &response.cors {
        // The headers that scripts may read belong in the response itself, not in its preflight.
        CorsHeaders::Allow { origin, credentials, .. } => {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            if *credentials {
                headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
            }
            &CorsHeaders::Vary
        }
        other => other,
    };
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, response.methods.clone());
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, response.headers.clone());
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, response.max_age.into());
    set_cors(headers, cors);
    OwnResponse { head, body: Vec::new() }
}

/// Returns a response with a JSON document of the gateway itself.
pub(crate) fn json(exchange: &Exchange, status: StatusCode, permit: &Permit, document: &impl Serialize) -> OwnResponse {
    let mut head = start(exchange, Some(permit.app()), status);
    head.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    head.headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    set_cors(&mut head.headers, permit.cors());
    OwnResponse { head, body: serde_json::to_vec(document).unwrap_or_default() }
}

/// Returns the gateway's welcome page.
pub(crate) fn welcome(exchange: &Exchange, permit: &Permit) -> OwnResponse {
    let mut head = start(exchange, Some(permit.app()), StatusCode::OK);
    let body = welcome::fill(&mut head.headers);
    set_cors(&mut head.headers, permit.cors());
    OwnResponse { head, body }
}

/// Begins a response of the gateway itself. The application's policy decides on HSTS here too; without an application there is none.
fn start(exchange: &Exchange, app: Option<&App>, status: StatusCode) -> ResponseHead {
    let mut headers = own_headers();
    headers.insert(REQUEST_ID, request_id(exchange.id));
    if let Some(app) = app {
        set_transport_security(&mut headers, &app.headers, &exchange.head.host);
    }
    ResponseHead { status, headers }
}

/// Returns a reason as a problem document (RFC 9457).
fn problem<'a>(reason: Reason, detail: &'a str, id: &'a str) -> Problem<'a> {
    Problem::new(reason.status(), reason.code(), detail).of_type(problem_type(reason)).of_request(id)
}

/// Serialises a denial as RFC 9457 defines, or as the application's front end expects.
fn error_body(denial: &Denial, exchange: &Exchange) -> Vec<u8> {
    let reason = denial.reason;
    let detail: Cow<'_, str> = match &denial.detail {
        Some(detail) => format!("{}: {detail}", reason.detail()).into(),
        None => reason.detail().into(),
    };
    let body = match denial.style {
        ErrorStyle::Fastapi => serde_json::to_vec(&json!({ "detail": detail })),
        ErrorStyle::Problem => serde_json::to_vec(&problem(reason, &detail, exchange.id.as_str())),
    };
    body.unwrap_or_default()
}

/// Returns the problem type that draft-ietf-httpapi-ratelimit-headers registers, or about:blank, which adds nothing to the status.
const fn problem_type(reason: Reason) -> &'static str {
    match reason {
        Reason::RateLimited => "https://iana.org/assignments/http-problem-types#quota-exceeded",
        Reason::Overloaded => "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity",
        _ => "about:blank",
    }
}

/// Returns the challenge for a reason. RFC 6750, section 3: without a credential in the request, there is no error code.
const fn challenge(reason: Reason) -> Option<&'static str> {
    match reason {
        Reason::NotAuthenticated | Reason::UnknownUser => Some("Bearer realm=\"sallyport\""),
        Reason::BadCredential | Reason::ExpiredCredential => {
            Some("Bearer realm=\"sallyport\", error=\"invalid_token\"")
        }
        Reason::InsufficientScope => Some("Bearer realm=\"sallyport\", error=\"insufficient_scope\""),
        _ => None,
    }
}

/// Asks for Basic credentials (RFC 7617): the key is the password, and the user name is ignored.
const BASIC: &str = "Basic realm=\"sallyport\", charset=\"UTF-8\"";

fn offers_basic(challenge: BasicChallenge, request: &HeaderMap) -> bool {
    match challenge {
        BasicChallenge::Programs => !request.contains_key(SEC_FETCH_MODE),
        BasicChallenge::Always => true,
        BasicChallenge::Never => false,
    }
}

/// Sets `Retry-After` (RFC 9110, section 10.2.3) and the fields of draft-ietf-httpapi-ratelimit-headers.
fn set_rate_headers(headers: &mut HeaderMap, exceeded: &Exceeded) {
    let wait = exceeded.retry_after.as_secs_f64().ceil().max(1.0);
    let rate = exceeded.limit.rate;
    let window = rate.per.as_secs().max(1);
    for (name, value) in [
        (header::RETRY_AFTER, format!("{wait}")),
        (RATE_LIMIT, format!("\"default\";r=0;t={wait}")),
        (RATE_LIMIT_POLICY, format!("\"default\";q={};w={window}", rate.count)),
    ] {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    }
}
