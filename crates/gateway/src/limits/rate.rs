//! Rate limits by the generic cell rate algorithm (GCRA), for a bounded number of clients.

use std::{
    hash::{BuildHasher, Hash, RandomState},
    num::NonZeroU32,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, MonotonicClock},
    middleware::NoOpMiddleware,
    nanos::Nanos,
    state::{
        StateStore,
        direct::NotKeyed,
        keyed::{DashMapStateStore, ShrinkableKeyedStateStore},
    },
};
use sallyport_core::config::Rate;

/// Once a table is full, new clients share this many slots.
const SHARED_SLOTS: u64 = 1024;

/// The parameters of one rate limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Requests per period.
    pub rate: Rate,
    /// How many requests can arrive at once; the rate's count by default.
    pub burst: NonZeroU32,
}

/// Whether a client has recently presented a credential of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Acquaintance {
    /// It has.
    Known,
    /// It has not, or only a link, which anyone can have.
    Stranger,
}

/// The recent clients of one rate limit.
///
/// Memory is bounded: at most `max_clients` strangers and as many known clients, plus the slots that new clients share when a table is
/// full, about 50 bytes each. A client in a table keeps its slot, and strangers never take one from known clients. A client whose burst
/// has fully recovered is forgotten.
pub struct Tracker<C: Clock = MonotonicClock> {
    limit: RateLimit,
    limiter: RateLimiter<ClientKey, ClientStates, C, NoOpMiddleware<C::Instant>>,
    hasher: RandomState,
    clock: C,
    max_clients: usize,
}

/// One client, identified by the hash of what it is counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct ClientKey {
    hash: u64,
    of: Acquaintance,
}

/// The slots of all clients.
struct ClientStates {
    known: Table,
    strangers: Table,
}

/// Up to `max` slots for one client each, and the shared slots, which have the smallest hashes.
struct Table {
    places: DashMapStateStore<u64>,
    taken: AtomicUsize,
    max: usize,
}

/// A limit that was exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exceeded {
    /// The limit.
    pub limit: RateLimit,
    /// The time until the next request can pass.
    pub retry_after: Duration,
}

impl<C: Clock> std::fmt::Debug for Tracker<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tracker").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl RateLimit {
    /// Creates a limit whose burst is its count.
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
    /// Creates an empty tracker.
    #[must_use]
    pub fn new(limit: RateLimit, max_clients: usize) -> Self {
        Self::with_clock(limit, max_clients, MonotonicClock)
    }
}

impl<C: Clock + Clone> Tracker<C> {
    /// Creates an empty tracker with the caller's clock.
    pub fn with_clock(limit: RateLimit, max_clients: usize, clock: C) -> Self {
        let places = ClientStates { known: Table::new(max_clients), strangers: Table::new(max_clients) };
        let limiter = RateLimiter::new(limit.quota(), places, clock.clone());
        Self { limit, limiter, hasher: RandomState::new(), clock, max_clients }
    }

    /// Returns true if this tracker has the given limit and size.
    #[must_use]
    pub fn is_of(&self, limit: RateLimit, max_clients: usize) -> bool {
        self.limit == limit && self.max_clients == max_clients
    }

    /// Counts one request of `client`.
    pub fn check(&self, client: impl Hash, of: Acquaintance) -> Result<(), Exceeded> {
        let place = ClientKey { hash: self.hasher.hash_one(client), of };
        self.limiter.check_key(&place).map_err(|not_until| {
            let retry_after = not_until.wait_time_from(self.clock.now());
            Exceeded { limit: self.limit, retry_after }
        })
    }

    /// Forgets clients whose burst has fully recovered; call this every few seconds.
    pub fn sweep(&self) {
        self.limiter.retain_recent();
        self.limiter.shrink_to_fit();
    }

    /// Returns the number of remembered clients.
    pub fn len(&self) -> usize {
        self.limiter.len()
    }

    /// Returns true if no client is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl StateStore for ClientStates {
    type Key = ClientKey;

    fn measure_and_replace<T, F, E>(&self, key: &ClientKey, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        match key.of {
            // A client that has just become known keeps the slot that it had as a stranger.
            Acquaintance::Known if !self.known.has(key.hash) && self.strangers.has(key.hash) => {
                self.strangers.measure(key.hash, f)
            }
            Acquaintance::Known => self.known.measure(key.hash, f),
            Acquaintance::Stranger => self.strangers.measure(key.hash, f),
        }
    }
}

impl ShrinkableKeyedStateStore<ClientKey> for ClientStates {
    fn retain_recent(&self, drop_below: Nanos) {
        self.known.retain_recent(drop_below);
        self.strangers.retain_recent(drop_below);
    }

    fn shrink_to_fit(&self) {
        self.known.places.shrink_to_fit();
        self.strangers.places.shrink_to_fit();
    }

    fn len(&self) -> usize {
        self.known.places.len() + self.strangers.places.len()
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Table {
    fn new(max: usize) -> Self {
        Self { places: DashMapStateStore::default(), taken: AtomicUsize::new(0), max }
    }

    fn has(&self, hash: u64) -> bool {
        self.places.contains_key(&hash)
    }

    /// Counts in the slot that the client already has, otherwise in a new one if there is room, otherwise in a shared one.
    fn measure<T, F, E>(&self, hash: u64, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        if let Some(place) = self.places.get(&hash) {
            return place.measure_and_replace(&NotKeyed::NonKey, f);
        }
        let place = if self.taken.load(Ordering::Relaxed) < self.max {
            self.taken.fetch_add(1, Ordering::Relaxed);
            hash
        } else {
            hash % SHARED_SLOTS
        };
        self.places.measure_and_replace(&place, f)
    }

    fn retain_recent(&self, drop_below: Nanos) {
        self.places.retain_recent(drop_below);
        self.taken.store(self.places.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::{Acquaintance::*, *};

    fn tracker(rate: &str, max_clients: usize) -> (Tracker<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        let limit = RateLimit::new(rate.parse().unwrap());
        (Tracker::with_clock(limit, max_clients, clock.clone()), clock)
    }

    #[test]
    fn the_sixth_request_of_five_per_minute_is_refused_and_told_when_to_retry() {
        let (tracker, clock) = tracker("5/minute", 100);
        assert!((0..5).all(|_| tracker.check("ana", Known).is_ok()));
        let exceeded = tracker.check("ana", Known).unwrap_err();
        assert!(exceeded.retry_after <= Duration::from_secs(12), "{exceeded:?}");
        assert!(tracker.check("eve", Known).is_ok(), "another client has its own burst");
        clock.advance(Duration::from_secs(12));
        assert!(tracker.check("ana", Known).is_ok());
        assert!(tracker.check("ana", Known).is_err());
    }

    #[test]
    fn a_client_whose_burst_has_fully_recovered_is_forgotten() {
        let (tracker, clock) = tracker("5/minute", 100);
        (0..50).for_each(|i| assert!(tracker.check(i, Stranger).is_ok()));
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
            let _ = tracker.check(i, Stranger);
        }
        assert!(tracker.len() <= 1_000 + usize::try_from(SHARED_SLOTS).unwrap(), "{}", tracker.len());
    }

    #[test]
    fn clients_in_a_full_table_keep_their_slots_and_known_clients_have_a_separate_table() {
        let (tracker, _clock) = tracker("2/hour", 1_000);
        assert!(tracker.check("early", Stranger).is_ok());
        for i in 0..100_000 {
            let _ = tracker.check(i, Stranger);
        }
        assert!(tracker.check("early", Stranger).is_ok(), "its second request, in the slot that it already had");
        assert!(tracker.check("early", Stranger).is_err());
        assert!((0..100).all(|i| tracker.check(("user", i), Known).is_ok()), "strangers do not affect them");
        assert!(tracker.check("late", Stranger).is_err(), "a new client shares a slot");
        assert!(tracker.check("early", Known).is_err(), "becoming known does not renew the burst");
    }
}
