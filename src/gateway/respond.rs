//! The one place where a denial becomes a response.

use std::{borrow::Cow, sync::LazyLock};

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use pingora::{Result, http::ResponseHeader, proxy::Session};
use serde::Serialize;
use serde_json::json;

use super::{
    context::{Context, host},
    headers::{REQUEST_ID, request_id, secure, set_cors, set_transport_security},
};
use crate::{
    limits::Exceeded,
    policy::{CorsAnswer, Denial, ErrorStyle, PreflightAnswer, Reason},
};

/// What every answer of the gateway's own has. Names are not kept in title case, which pingora would store a second time.
static OWN_ANSWER: LazyLock<ResponseHeader> = LazyLock::new(|| {
    let mut answer =
        ResponseHeader::build_no_case(StatusCode::INTERNAL_SERVER_ERROR, Some(16)).unwrap_or_else(|_| unreachable!());
    let _ = secure(&mut answer);
    answer
});

/// An error's body by RFC 9457.
#[derive(Serialize)]
pub(super) struct Problem<'a> {
    r#type: &'a str,
    title: Option<&'a str>,
    status: u16,
    detail: &'a str,
    instance: &'a str,
    code: &'a str,
}

impl<'a> Problem<'a> {
    pub(super) fn new(reason: Reason, detail: &'a str, instance: &'a str) -> Self {
        let status = reason.status();
        let (r#type, code) = (problem_type(reason), reason.code());
        Self { r#type, title: status.canonical_reason(), status: status.as_u16(), detail, instance, code }
    }
}

/// Answers with a denial, and closes the connection where a body may still come that nobody wants.
pub(super) async fn deny(session: &mut Session, context: &Context, denial: &Denial) -> Result<()> {
    let status = denial.reason.status();
    let body = error_body(denial, context);
    let content_type = match denial.style {
        ErrorStyle::Problem => "application/problem+json",
        ErrorStyle::Fastapi => "application/json",
    };
    let mut response = start(session, context, status)?;
    response.insert_header(header::CONTENT_TYPE, HeaderValue::from_static(content_type))?;
    response.insert_header(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))?;
    if let Some(challenge) = challenge(denial.reason) {
        response.insert_header(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge))?;
    }
    if let Some(exceeded) = &denial.exceeded {
        set_rate_headers(&mut response, exceeded)?;
    }
    set_cors(&mut response, &denial.cors)?;
    finish(session, response, body).await
}

/// Answers a preflight that is allowed.
pub(super) async fn preflight(session: &mut Session, context: &Context, answer: &PreflightAnswer) -> Result<()> {
    let mut response = start(session, context, StatusCode::NO_CONTENT)?;
    let cors = match &answer.cors {
        // What scripts may read is for the answer itself, not for its preflight.
        CorsAnswer::Allow { origin, credentials, .. } => {
            response.insert_header(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone())?;
            if *credentials {
                response.insert_header(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, "true")?;
            }
            &CorsAnswer::Vary
        }
        other => other,
    };
    response.insert_header(header::ACCESS_CONTROL_ALLOW_METHODS, answer.methods.clone())?;
    response.insert_header(header::ACCESS_CONTROL_ALLOW_HEADERS, answer.headers.clone())?;
    response.insert_header(header::ACCESS_CONTROL_MAX_AGE, answer.max_age)?;
    set_cors(&mut response, cors)?;
    session.write_response_header(Box::new(response), true).await
}

/// Answers with a JSON document of the gateway's own.
pub(super) async fn json(
    session: &mut Session,
    context: &Context,
    (status, cors): (StatusCode, &CorsAnswer),
    document: &impl Serialize,
) -> Result<()> {
    let mut response = start(session, context, status)?;
    response.insert_header(header::CONTENT_TYPE, "application/json")?;
    response.insert_header(header::CACHE_CONTROL, "no-store")?;
    set_cors(&mut response, cors)?;
    finish(session, response, serde_json::to_vec(document).unwrap_or_default()).await
}

fn start(session: &mut Session, context: &Context, status: StatusCode) -> Result<ResponseHeader> {
    let mut response = OWN_ANSWER.clone();
    response.set_status(status)?;
    response.insert_header(REQUEST_ID, request_id(context)?)?;
    set_transport_security(&mut response, host(session.req_header()))?;
    Ok(response)
}

async fn finish(session: &mut Session, mut response: ResponseHeader, body: Vec<u8>) -> Result<()> {
    response.insert_header(header::CONTENT_LENGTH, body.len())?;
    if !session.as_mut().is_body_done() {
        session.set_keepalive(None);
    }
    if session.req_header().method == Method::HEAD {
        return session.write_response_header(Box::new(response), true).await;
    }
    session.write_response_header(Box::new(response), false).await?;
    session.write_response_body(Some(Bytes::from(body)), true).await
}

/// RFC 9457, or what the application's front end expects.
fn error_body(denial: &Denial, context: &Context) -> Vec<u8> {
    let reason = denial.reason;
    let detail: Cow<'_, str> = match &denial.detail {
        Some(detail) => format!("{}: {detail}", reason.detail()).into(),
        None => reason.detail().into(),
    };
    let body = match denial.style {
        ErrorStyle::Fastapi => serde_json::to_vec(&json!({ "detail": detail })),
        ErrorStyle::Problem => serde_json::to_vec(&Problem::new(reason, &detail, context.id.as_str())),
    };
    body.unwrap_or_default()
}

/// The types that draft-ietf-httpapi-ratelimit-headers registers; about:blank says no more than the status does.
const fn problem_type(reason: Reason) -> &'static str {
    match reason {
        Reason::RateLimited => "https://iana.org/assignments/http-problem-types#quota-exceeded",
        _ => "about:blank",
    }
}

/// RFC 6750, section 3: no error code where no credential was sent.
const fn challenge(reason: Reason) -> Option<&'static str> {
    match reason {
        Reason::NotAuthenticated => Some("Bearer realm=\"sallyport\""),
        Reason::BadCredential | Reason::ExpiredCredential => {
            Some("Bearer realm=\"sallyport\", error=\"invalid_token\"")
        }
        Reason::InsufficientScope => Some("Bearer realm=\"sallyport\", error=\"insufficient_scope\""),
        _ => None,
    }
}

/// RFC 9110, section 10.2.3, and draft-ietf-httpapi-ratelimit-headers.
fn set_rate_headers(response: &mut ResponseHeader, exceeded: &Exceeded) -> Result<()> {
    let wait = exceeded.retry_after.as_secs_f64().ceil().max(1.0);
    let rate = exceeded.limit.rate;
    let window = rate.per.as_secs().max(1);
    response.insert_header(header::RETRY_AFTER, format!("{wait}"))?;
    response.insert_header("ratelimit", format!("\"default\";r=0;t={wait}"))?;
    response.insert_header("ratelimit-policy", format!("\"default\";q={};w={window}", rate.count))
}
