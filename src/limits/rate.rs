//! Rate limits by the generic cell rate algorithm, over a bounded number of clients.

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

use crate::config::Rate;

/// Once a table is full, newcomers share this many places.
const SHARED_PLACES: u64 = 1024;

/// What one rate limit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// So many in so long.
    pub rate: Rate,
    /// How many may come at once; the rate's count unless stated.
    pub burst: NonZeroU32,
}

/// Whether a client has shown a credential of its own lately.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Acquaintance {
    /// It has.
    Known,
    /// It has not, or only a link, which anybody may have.
    Stranger,
}

/// The clients that one rate limit has seen lately.
///
/// Memory is bounded: at most `max_clients` strangers and as many who are known, and the places that newcomers share where a
/// table is full, some 50 bytes each. Whoever is in a table keeps their place, and strangers never take one from those
/// who are known. A client that has its whole burst again is forgotten.
pub struct Tracker<C: Clock = MonotonicClock> {
    limit: RateLimit,
    limiter: RateLimiter<Place, Places, C, NoOpMiddleware<C::Instant>>,
    hasher: RandomState,
    clock: C,
    max_clients: usize,
}

/// One client, by the hash of what it is counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Place {
    hash: u64,
    of: Acquaintance,
}

/// The places of all clients.
struct Places {
    known: Table,
    strangers: Table,
}

/// Places of their own, as many as there may be, and those that are shared, whose hashes are the smallest.
struct Table {
    places: DashMapStateStore<u64>,
    taken: AtomicUsize,
    max: usize,
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
        let places = Places { known: Table::new(max_clients), strangers: Table::new(max_clients) };
        let limiter = RateLimiter::new(limit.quota(), places, clock.clone());
        Self { limit, limiter, hasher: RandomState::new(), clock, max_clients }
    }

    /// True where a tracker of this limit and size would be the same.
    #[must_use]
    pub fn is_of(&self, limit: RateLimit, max_clients: usize) -> bool {
        self.limit == limit && self.max_clients == max_clients
    }

    /// Counts one request of `client`.
    pub fn check(&self, client: impl Hash, of: Acquaintance) -> Result<(), Exceeded> {
        let place = Place { hash: self.hasher.hash_one(client), of };
        self.limiter.check_key(&place).map_err(|not_until| {
            let retry_after = not_until.wait_time_from(self.clock.now());
            Exceeded { limit: self.limit, retry_after }
        })
    }

    /// Forgets clients that have their whole burst again; to be called every few seconds.
    pub fn sweep(&self) {
        self.limiter.retain_recent();
        self.limiter.shrink_to_fit();
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

impl StateStore for Places {
    type Key = Place;

    fn measure_and_replace<T, F, E>(&self, key: &Place, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        match key.of {
            // Whoever has just become known goes on in the place where they began as a stranger.
            Acquaintance::Known if !self.known.has(key.hash) && self.strangers.has(key.hash) => {
                self.strangers.measure(key.hash, f)
            }
            Acquaintance::Known => self.known.measure(key.hash, f),
            Acquaintance::Stranger => self.strangers.measure(key.hash, f),
        }
    }
}

impl ShrinkableKeyedStateStore<Place> for Places {
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

    /// In the place that the client has already, else in one of its own as long as there are any, else in a shared one.
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
            hash % SHARED_PLACES
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
    fn the_sixth_of_five_a_minute_is_refused_and_told_when_to_come_back() {
        let (tracker, clock) = tracker("5/minute", 100);
        assert!((0..5).all(|_| tracker.check("ana", Known).is_ok()));
        let exceeded = tracker.check("ana", Known).unwrap_err();
        assert!(exceeded.retry_after <= Duration::from_secs(12), "{exceeded:?}");
        assert!(tracker.check("eve", Known).is_ok(), "another client has a burst of its own");
        clock.advance(Duration::from_secs(12));
        assert!(tracker.check("ana", Known).is_ok());
        assert!(tracker.check("ana", Known).is_err());
    }

    #[test]
    fn who_has_the_whole_burst_again_is_forgotten() {
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
        assert!(tracker.len() <= 1_000 + usize::try_from(SHARED_PLACES).unwrap(), "{}", tracker.len());
    }

    #[test]
    fn a_full_table_leaves_everybody_in_it_their_place_and_those_who_are_known_a_table_of_their_own() {
        let (tracker, _clock) = tracker("2/hour", 1_000);
        assert!(tracker.check("early", Stranger).is_ok());
        for i in 0..100_000 {
            let _ = tracker.check(i, Stranger);
        }
        assert!(tracker.check("early", Stranger).is_ok(), "its second, in the place that it had");
        assert!(tracker.check("early", Stranger).is_err());
        assert!((0..100).all(|i| tracker.check(("user", i), Known).is_ok()), "no stranger is in their way");
        assert!(tracker.check("late", Stranger).is_err(), "a newcomer shares a place");
        assert!(tracker.check("early", Known).is_err(), "becoming known is no new burst");
    }
}
