//! What is kept of one request while it is on its way, and its line in the access log at the end.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use pingora::{http::RequestHeader, proxy::Session};

use crate::{
    identity::Identity,
    observe::{
        RequestId,
        access_log::{AccessLog, Entry},
    },
    policy::{Permit, Reason, Step, Steps, Target},
};

/// One request.
pub(super) struct Context {
    pub(super) id: RequestId,
    pub(super) client: IpAddr,
    pub(super) outcome: Outcome,
    /// Bytes of body that came from the client.
    pub(super) bytes_in: u64,
    /// Whether the judged body is on its way upstream.
    pub(super) body_sent: bool,
    /// Until the upstream's head of an answer.
    pub(super) upstream: Option<Duration>,
    started: Instant,
}

/// What became of it.
pub(super) enum Outcome {
    /// Nothing yet.
    Undecided,
    /// It went on.
    Permitted(Permit),
    /// It was denied.
    Denied(Reason, Option<Arc<Identity>>, Steps),
    /// It was a preflight.
    Preflight,
}

impl Context {
    pub(super) fn new() -> Self {
        Self {
            id: RequestId::next(),
            client: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            outcome: Outcome::Undecided,
            bytes_in: 0,
            body_sent: false,
            upstream: None,
            started: Instant::now(),
        }
    }

    pub(super) fn permit(&self) -> Option<&Permit> {
        match &self.outcome {
            Outcome::Permitted(permit) => Some(permit),
            _ => None,
        }
    }

    /// Takes the permit back, such as when its upstream fails.
    pub(super) fn take_permit(&mut self) -> Option<Permit> {
        match std::mem::replace(&mut self.outcome, Outcome::Undecided) {
            Outcome::Permitted(permit) => Some(permit),
            other => {
                self.outcome = other;
                None
            }
        }
    }

    pub(super) fn note_upstream_answer(&mut self) {
        self.upstream.get_or_insert_with(|| self.started.elapsed());
    }

    /// Writes the request's line.
    pub(super) fn log(&self, session: &Session, log: &AccessLog) {
        let request = session.req_header();
        let (app, route) = self.place();
        let identity = self.identity();
        let duration = self.started.elapsed();
        let tls = session.digest().and_then(|d| d.ssl_digest.as_ref());
        log.write(&Entry {
            ts: Timestamp::now() - duration,
            request_id: self.id.as_str(),
            client_ip: self.client,
            method: request.method.as_str(),
            host: host(request),
            path: request.uri.path(),
            route,
            app,
            user: identity.map(|i| i.user.as_str()),
            credential: identity.map(|i| i.kind.name()),
            decision: self.decision(),
            code: self.code(),
            status: session.response_written().map_or(499, |r| r.status.as_u16()),
            bytes_in: self.bytes_in,
            bytes_out: session.body_bytes_sent() as u64,
            duration,
            upstream: self.upstream,
            tls: tls.map(|t| t.version.as_ref()),
            http: if session.is_http2() { "HTTP/2" } else { version(request) },
            user_agent: request.headers.get("user-agent").and_then(|v| v.to_str().ok()).map(shortened),
        });
    }

    fn steps(&self) -> Option<&Steps> {
        match &self.outcome {
            Outcome::Permitted(permit) => Some(permit.steps()),
            Outcome::Denied(_, _, steps) => Some(steps),
            Outcome::Undecided | Outcome::Preflight => None,
        }
    }

    fn place(&self) -> (Option<&str>, Option<&str>) {
        let (mut app, mut route) = (None, None);
        for step in self.steps().into_iter().flatten() {
            match step {
                Step::App(name) => app = Some(&**name),
                Step::Route(name) => route = Some(&**name),
                _ => {}
            }
        }
        (app, route)
    }

    fn identity(&self) -> Option<&Identity> {
        match &self.outcome {
            Outcome::Permitted(permit) => permit.identity().map(|i| &**i),
            Outcome::Denied(_, identity, _) => identity.as_deref(),
            Outcome::Undecided | Outcome::Preflight => None,
        }
    }

    fn decision(&self) -> &'static str {
        match &self.outcome {
            Outcome::Permitted(permit) if matches!(permit.target(), Target::CreateLink) => "own",
            Outcome::Permitted(_) => "forward",
            Outcome::Preflight => "preflight",
            Outcome::Denied(..) | Outcome::Undecided => "deny",
        }
    }

    fn code(&self) -> Option<&'static str> {
        match &self.outcome {
            Outcome::Denied(reason, ..) => Some(reason.code()),
            Outcome::Undecided => Some(Reason::Internal.code()),
            Outcome::Permitted(_) | Outcome::Preflight => None,
        }
    }
}

/// The authority that the client named.
pub(super) fn host(request: &RequestHeader) -> &str {
    let authority = request.uri.authority().map(http::uri::Authority::as_str);
    let header = || request.headers.get("host").and_then(|v| v.to_str().ok());
    authority.or_else(header).unwrap_or_default()
}

fn version(request: &RequestHeader) -> &'static str {
    match request.version {
        http::Version::HTTP_10 => "HTTP/1.0",
        _ => "HTTP/1.1",
    }
}

fn shortened(text: &str) -> &str {
    text.get(..256).unwrap_or(text)
}
