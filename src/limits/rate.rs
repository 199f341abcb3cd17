//! Rate limits by the generic cell rate algorithm, over a bounded number of clients.

use std::{
    hash::{BuildHasher, Hash, RandomState},
    num::NonZeroU32,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, MonotonicClock},
    middleware::NoOpMiddleware,
    state::keyed::DashMapStateStore,
};

use crate::config::Rate;

/// Once a limit tracks as many clients as it may, newcomers share this many places.
const SHARED_PLACES: u64 = 1024;

/// Clients are counted once in so many checks.
const COUNT_EVERY: usize = 512;

/// What one rate limit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// So many in so long.
    pub rate: Rate,
    /// How many may come at once; the rate's count unless stated.
    pub burst: NonZeroU32,
}

/// The clients that one rate limit has seen lately.
///
/// Memory is bounded: at most `max_clients`, what comes between two counts, and the shared places, some 50 bytes each. Who has his whole burst again is forgotten.
pub struct Tracker<C: Clock = MonotonicClock> {
    limit: RateLimit,
    limiter: RateLimiter<u64, DashMapStateStore<u64>, C, NoOpMiddleware<C::Instant>>,
    hasher: RandomState,
    clock: C,
    max_clients: usize,
    full: AtomicBool,
    checks: AtomicUsize,
}

/// A limit that was exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exceeded {
    /// Which limit.
    pub limit: RateLimit,
    /// When the next request can pass.
    pub retry_after: Duration,
}

impl<C: Clock> std::fmt::Debug for Tracker<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tracker").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl RateLimit {
    /// A limit whose burst is its count.
    #[must_use]
    pub const fn new(rate: Rate) -> Self {
        Self { rate, burst: rate.count }
    }

    fn quota(self) -> Quota {
        let interval = self.rate.per / self.rate.count.get();
        let interval = interval.max(Duration::from_nanos(1));
        Quota::with_period(interval).unwrap_or_else(|| Quota::per_second(self.rate.count)).allow_burst(self.burst)
    }
}

impl Tracker<MonotonicClock> {
    /// Nobody seen yet.
    #[must_use]
    pub fn new(limit: RateLimit, max_clients: usize) -> Self {
        Self::with_clock(limit, max_clients, MonotonicClock)
    }
}

impl<C: Clock + Clone> Tracker<C> {
    /// Nobody seen yet, by a clock of the caller's.
    pub fn with_clock(limit: RateLimit, max_clients: usize, clock: C) -> Self {
        let store = DashMapStateStore::default();
        let limiter = RateLimiter::new(limit.quota(), store, clock.clone());
        let (full, checks) = (AtomicBool::new(false), AtomicUsize::new(0));
        Self { limit, limiter, hasher: RandomState::new(), clock, max_clients, full, checks }
    }

    /// True where a tracker of this limit and size would be the same.
    #[must_use]
    pub fn is_of(&self, limit: RateLimit, max_clients: usize) -> bool {
        self.limit == limit && self.max_clients == max_clients
    }

    /// Counts one request of `client`.
    pub fn check(&self, client: impl Hash) -> Result<(), Exceeded> {
        if self.checks.fetch_add(1, Ordering::Relaxed).is_multiple_of(COUNT_EVERY) {
            self.count();
        }
        let mut place = self.hasher.hash_one(client);
        if self.full.load(Ordering::Relaxed) {
            place %= SHARED_PLACES;
        }
        self.limiter.check_key(&place).map_err(|not_until| {
            let retry_after = not_until.wait_time_from(self.clock.now());
            Exceeded { limit: self.limit, retry_after }
        })
    }

    /// Forgets who has his whole burst again; to be called every few seconds.
    pub fn sweep(&self) {
        self.limiter.retain_recent();
        self.limiter.shrink_to_fit();
        self.count();
    }

    fn count(&self) {
        self.full.store(self.limiter.len() >= self.max_clients, Ordering::Relaxed);
    }

    /// How many clients are remembered.
    pub fn len(&self) -> usize {
        self.limiter.len()
    }

    /// True when nobody is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    fn tracker(rate: &str, max_clients: usize) -> (Tracker<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        let limit = RateLimit::new(rate.parse().unwrap());
        (Tracker::with_clock(limit, max_clients, clock.clone()), clock)
    }

    #[test]
    fn the_sixth_of_five_a_minute_is_refused_and_told_when_to_come_back() {
        let (tracker, clock) = tracker("5/minute", 100);
        assert!((0..5).all(|_| tracker.check("ana").is_ok()));
        let exceeded = tracker.check("ana").unwrap_err();
        assert!(exceeded.retry_after <= Duration::from_secs(12), "{exceeded:?}");
        assert!(tracker.check("eve").is_ok(), "another client has a burst of its own");
        clock.advance(Duration::from_secs(12));
        assert!(tracker.check("ana").is_ok());
        assert!(tracker.check("ana").is_err());
    }

    #[test]
    fn who_has_the_whole_burst_again_is_forgotten() {
        let (tracker, clock) = tracker("5/minute", 100);
        (0..50).for_each(|i| assert!(tracker.check(i).is_ok()));
        tracker.sweep();
        assert_eq!(tracker.len(), 50);
        clock.advance(Duration::from_secs(61));
        tracker.sweep();
        assert!(tracker.is_empty());
    }

    #[test]
    fn a_flood_of_addresses_cannot_grow_the_table_without_bound() {
        let (tracker, _clock) = tracker("1/hour", 1_000);
        for i in 0..100_000 {
            let _ = tracker.check(i);
        }
        assert!(tracker.len() <= 1_000 + COUNT_EVERY + usize::try_from(SHARED_PLACES).unwrap(), "{}", tracker.len());
    }
}
