//! Accepts a request only with a statement that the gateway signed for this exact request, that names a user and was not used before.

use std::{fs, path::Path, sync::Arc, time::Instant};

use axum::{
    extract::{FromRequestParts, Request, State},
    http::{HeaderValue, StatusCode, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use parking_lot::{Mutex, MutexGuard};
use sallyport_core::{
    clock,
    config::Upstream,
    problem::Problem,
    secrets::secret_file::{self, SecretError},
    statement::{Delivery, HEADER, LIFETIME, Statement, StatementError, StatementKey},
};
use thiserror::Error;

use super::{
    refusal::Refusal,
    replay::{ReplayError, ReplayMemory},
};
use crate::tasks::{caller::Caller, owner::Owner};

/// The key for statements and the request ids already seen.
pub(crate) struct Guard {
    key: StatementKey,
    /// The address that the worker listens on, or `None` if the gateway cannot know it.
    address: Option<String>,
    /// `None` once it was handed over to the next process.
    seen: Mutex<Option<ReplayMemory>>,
    earlier: EarlierRequests,
    start: RequestTime,
}

/// What is known about the requests that an earlier process accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EarlierRequests {
    /// Every request that still matters is known.
    Known,
    /// Nothing is known.
    Unknown,
}

/// A point in time on two clocks: the wall clock that statements use, and a monotonic one.
#[derive(Clone, Copy, Debug)]
struct RequestTime {
    /// Seconds since the Unix epoch.
    unix: i64,
    monotonic: Instant,
}

/// The reason why a request is rejected.
#[derive(Debug, Error)]
enum GuardError {
    #[error("the request has no statement, or more than one")]
    NotOneStatement,
    #[error("invalid statement: {0}")]
    Statement(#[from] StatementError),
    #[error("the statement was signed before the worker started")]
    BeforeStart,
    #[error("invalid statement: {0}")]
    Replay(#[from] ReplayError),
    #[error("the statement names no user")]
    NoUser,
    #[error("the next worker process has taken over")]
    HandedOver,
}

impl Guard {
    /// Creates a guard that takes over the request ids that an earlier process left in the file `handover`. The file is removed, because it
    /// would no longer be complete if this process were killed.
    pub(crate) fn new(key: StatementKey, listen: &Upstream, handover: &Path) -> Self {
        let inherited = fs::read(handover).ok().filter(|_| fs::remove_file(handover).is_ok());
        let (seen, earlier) = match inherited.as_deref().and_then(ReplayMemory::from_bytes) {
            Some(seen) => (seen, EarlierRequests::Known),
            None => (ReplayMemory::default(), EarlierRequests::Unknown),
        };
        let address = listen.is_local().then(|| listen.to_string());
        Self { key, address, seen: Mutex::new(Some(seen)), earlier, start: RequestTime::now() }
    }

    /// Stops accepting requests and writes the seen request ids to `file` for the next process.
    pub(crate) fn hand_over(&self, file: &Path) -> Result<(), SecretError> {
        let seen = self.lock().take();
        seen.map_or(Ok(()), |seen| secret_file::write(file, &seen.into_bytes()))
    }

    fn lock(&self) -> MutexGuard<'_, Option<ReplayMemory>> {
        self.seen.lock()
    }

    fn judge(&self, request: &Request, now: RequestTime) -> Result<Caller, GuardError> {
        let mut values = request.headers().get_all(HEADER).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return Err(GuardError::NotOneStatement) };
        let value = value.to_str().map_err(|_| StatementError::Malformed)?;
        let target = request.uri().path_and_query().map_or("", |target| target.as_str());
        let delivery = Delivery { to: self.address.as_deref(), method: request.method().as_str(), target };
        let statement = self.key.verify(value, delivery, now.unix)?;
        let age = now.monotonic.duration_since(self.start.monotonic);
        // For as long as such a statement is valid at all, an earlier process may already have accepted it.
        if self.earlier == EarlierRequests::Unknown && age <= 2 * LIFETIME && statement.at < self.start.unix {
            return Err(GuardError::BeforeStart);
        }
        let mut seen = self.lock();
        let seen = seen.as_mut().ok_or(GuardError::HandedOver)?;
        seen.remember(&statement.request_id, age.as_secs().cast_signed())?;
        caller(statement)
    }
}

impl RequestTime {
    fn now() -> Self {
        Self { unix: clock::unix_now(), monotonic: Instant::now() }
    }
}

impl GuardError {
    fn problem(&self) -> Problem<'static> {
        let (status, code, detail) = match self {
            Self::NoUser => (StatusCode::FORBIDDEN, "no_user", "This route requires a user"),
            Self::Replay(ReplayError::Full) => {
                (StatusCode::SERVICE_UNAVAILABLE, "busy", "Too many requests per minute; try again later")
            }
            // The signature is valid, but this process cannot know whether an earlier one already accepted the statement.
            Self::BeforeStart => (StatusCode::SERVICE_UNAVAILABLE, "busy", "The worker has just started; try again"),
            Self::HandedOver => (StatusCode::SERVICE_UNAVAILABLE, "busy", "The worker is restarting; try again"),
            Self::NotOneStatement | Self::Statement(_) | Self::Replay(ReplayError::Seen) => {
                (StatusCode::UNAUTHORIZED, "unsigned", "The request must come through the gateway, which signs it")
            }
        };
        Problem::new(status, code, detail)
    }
}

impl IntoResponse for GuardError {
    fn into_response(self) -> Response {
        let problem = self.problem();
        let status = problem.status();
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let kind = HeaderValue::from_static("application/problem+json");
        let mut response = (status, [(header::CONTENT_TYPE, kind)], body).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// The middleware around every route except the health check.
pub(crate) async fn guard(State(guard): State<Arc<Guard>>, mut request: Request, next: Next) -> Response {
    match guard.judge(&request, RequestTime::now()) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(reason) => {
            tracing::warn!(%reason, method = %request.method(), path = request.uri().path(), "request rejected");
            reason.into_response()
        }
    }
}

fn caller(statement: Statement) -> Result<Caller, GuardError> {
    let user = statement.user.ok_or(GuardError::NoUser)?;
    let user = Owner::new(&user, statement.generation);
    let by_link = statement.link_id.map(Into::into);
    Ok(Caller { user, role: statement.role, limits: statement.limits, link: statement.link, by_link })
}

/// The caller that the guard has found.
impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        parts.extensions.get::<Self>().cloned().ok_or_else(Refusal::internal)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sallyport_core::{names::role::Role, statement::UserLimits};

    use axum::body::Body;

    use super::*;

    const START: i64 = 10_000;

    fn after(guard: &Guard, seconds: u64) -> RequestTime {
        let passed = Duration::from_secs(seconds);
        RequestTime { unix: START + seconds.cast_signed(), monotonic: guard.start.monotonic + passed }
    }

    fn request(guard: &Guard, id: &str, user: Option<&str>, at: i64) -> Request {
        let statement = Statement {
            user: user.map(|u| u.parse().unwrap()),
            generation: None,
            role: Role::User,
            limits: UserLimits::default(),
            to: "unix:/w".into(),
            request_id: id.into(),
            method: "GET".into(),
            target: "/a?b=1".into(),
            at,
            link: None,
            link_id: None,
        };
        Request::builder().uri("/a?b=1").header(HEADER, guard.key.sign(&statement)).body(Body::empty()).unwrap()
    }

    fn guard() -> Guard {
        Guard {
            key: StatementKey::new(b"k"),
            address: Some("unix:/w".into()),
            seen: Mutex::new(Some(ReplayMemory::default())),
            earlier: EarlierRequests::Unknown,
            start: RequestTime { unix: START, monotonic: Instant::now() },
        }
    }

    #[test]
    fn a_statement_is_accepted_once() {
        let guard = guard();
        let now = after(&guard, 1);
        let later = after(&guard, 31);
        let ask = |id, at: RequestTime| guard.judge(&request(&guard, id, Some("ana"), START + 1), at);
        assert_eq!(ask("1", now).unwrap().user.as_str(), "ana");
        assert!(matches!(ask("1", later), Err(GuardError::Replay(_))));
        assert!(ask("2", later).is_ok());
    }

    #[test]
    fn a_statement_that_an_earlier_process_may_have_seen_is_rejected() {
        let guard = guard();
        let early = request(&guard, "1", Some("ana"), START - 1);
        assert!(matches!(guard.judge(&early, after(&guard, 1)), Err(GuardError::BeforeStart)));
    }

    #[test]
    fn a_process_that_knows_what_the_earlier_one_saw_accepts_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        let handover = dir.path().join("seen");
        let listen = Upstream::Unix("/w".into());
        let first = Guard::new(StatementKey::new(b"k"), &listen, &handover);
        let at = first.start.unix - 1;
        first.seen.lock().as_mut().unwrap().remember("1", 0).unwrap();
        first.hand_over(&handover).unwrap();
        let late = request(&first, "3", Some("ana"), at + 1);
        assert!(matches!(first.judge(&late, first.start), Err(GuardError::HandedOver)));
        let next = Guard::new(StatementKey::new(b"k"), &listen, &handover);
        assert!(matches!(next.judge(&request(&next, "1", Some("ana"), at), next.start), Err(GuardError::Replay(_))));
        assert!(next.judge(&request(&next, "2", Some("ana"), at), next.start).is_ok());
        let after_a_kill = Guard::new(StatementKey::new(b"k"), &listen, &handover);
        let refused = after_a_kill.judge(&request(&next, "2", Some("ana"), at - 1), after_a_kill.start);
        assert!(matches!(refused, Err(GuardError::BeforeStart)));
    }

    #[test]
    fn a_clock_that_is_set_back_locks_nobody_out_for_long() {
        let guard = guard();
        let set_back = RequestTime { unix: START - 3_600, ..after(&guard, 61) };
        assert!(guard.judge(&request(&guard, "1", Some("ana"), START - 3_600), set_back).is_ok());
    }

    #[test]
    fn no_user_and_two_statements_are_refused() {
        let guard = guard();
        let now = after(&guard, 1);
        assert!(matches!(guard.judge(&request(&guard, "1", None, START), now), Err(GuardError::NoUser)));
        let mut twice = request(&guard, "2", Some("ana"), START);
        let value = twice.headers().get(HEADER).unwrap().clone();
        twice.headers_mut().append(HEADER, value);
        assert!(matches!(guard.judge(&twice, now), Err(GuardError::NotOneStatement)));
    }
}
