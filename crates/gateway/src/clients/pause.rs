//! Pauses: a player whose user is known may stop reading a response for longer than others, while memory allows.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use sallyport_core::names::username::UserName;
use tokio::time::{Instant, Sleep, sleep_until};

use super::{
    admission::{Admission, AdmissionGuard},
    timeouts::CREDENTIAL_CHECK_INTERVAL,
};
use crate::state::GatewayState;

/// Tracks how long one client has stopped reading, for each time that it does.
pub(crate) struct Pause<'a> {
    state: &'a GatewayState,
    load: &'a Admission,
    user: Option<&'a UserName>,
    stall: Option<Stall<'a>>,
}

/// A time in which a client reads nothing.
struct Stall<'a> {
    since: Instant,
    limits: PauseLimits,
    timer: Pin<Box<Sleep>>,
    /// Set if the client counts as paused.
    guard: Option<AdmissionGuard<'a>>,
}

/// How long clients may stop reading.
#[derive(Clone, Copy)]
struct PauseLimits {
    sending: Duration,
    paused: Duration,
}

/// The state of a stall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StallState {
    /// How long it has lasted.
    pub(crate) lasted: Duration,
    /// How long it may last.
    pub(crate) limit: Duration,
}

impl<'a> Pause<'a> {
    /// Creates the tracker of a client, with its user if known.
    pub(crate) fn new(state: &'a GatewayState, load: &'a Admission, user: Option<&'a UserName>) -> Self {
        Self { state, load, user, stall: None }
    }

    /// Polled while a client reads nothing; completes at regular intervals.
    pub(crate) fn poll_stall(&mut self, cx: &mut Context<'_>) -> Poll<StallState> {
        let state = self.state;
        let load = self.load;
        let user = self.user;
        let stall = self.stall.get_or_insert_with(|| Stall::new(state));
        ready!(stall.timer.as_mut().poll(cx));
        let now = Instant::now();
        stall.timer.as_mut().reset(now + stall.limits.check_interval());
        if load.is_short_of_memory() {
            stall.guard = None;
        } else if stall.guard.is_none() {
            stall.guard = user.and_then(|user| load.admit_paused(user));
        }
        Poll::Ready(StallState { lasted: now - stall.since, limit: stall.limit() })
    }

    /// Records that the client reads again. Returns the limit to apply from now on, if a different one was set.
    pub(crate) fn end(&mut self) -> Option<Duration> {
        let stall = self.stall.take()?;
        stall.guard.map(|_| stall.limits.sending)
    }
}

impl Stall<'_> {
    fn new(state: &GatewayState) -> Self {
        let limits = state.rules.load().config.limits;
        let since = Instant::now();
        let limits = PauseLimits { sending: limits.send_timeout, paused: limits.pause_timeout };
        Self { since, limits, timer: Box::pin(sleep_until(since + limits.check_interval())), guard: None }
    }

    fn limit(&self) -> Duration {
        if self.guard.is_some() { self.limits.paused } else { self.limits.sending }
    }
}

impl PauseLimits {
    /// Returns an interval that is short enough to grant a pause before the shorter limit has passed.
    fn check_interval(self) -> Duration {
        CREDENTIAL_CHECK_INTERVAL.min(self.sending / 2)
    }
}
