//! Recently authenticated addresses, in a fixed-size lock-free table.

use std::{
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// The number of slots, a power of two. Two clients with the same slot evict each other; then one of them is only not spared a ban.
const SLOTS: usize = 1 << 14;
const MASK: u64 = SLOTS as u64 - 1;

/// Authenticated clients, each with the time: the upper half of a slot is part of the client's hash, the lower half the second.
pub struct RecentClients {
    slots: Box<[AtomicU64]>,
    hasher: RandomState,
}

impl Default for RecentClients {
    fn default() -> Self {
        Self { slots: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(), hasher: RandomState::new() }
    }
}

impl RecentClients {
    /// Records that a client was authenticated at `now` (Unix seconds).
    pub fn note(&self, client: IpAddr, now: i64) {
        let Some((slot, tag)) = self.slot(client) else { return };
        let met = tag | u64::from(second(now));
        // Most clients return within the same second; skipping the write then keeps the cache line valid on other cores.
        if slot.load(Ordering::Relaxed) != met {
            slot.store(met, Ordering::Relaxed);
        }
    }

    /// Returns true if a client was authenticated within `span` before `now`.
    pub fn knows(&self, client: IpAddr, span: Duration, now: i64) -> bool {
        let Some((slot, tag)) = self.slot(client) else { return false };
        let met = slot.load(Ordering::Relaxed);
        let age = u64::from(second(now)).saturating_sub(met & u64::from(u32::MAX));
        met & !u64::from(u32::MAX) == tag && age < span.as_secs()
    }

    fn slot(&self, client: IpAddr) -> Option<(&AtomicU64, u64)> {
        let hash = self.hasher.hash_one(client);
        let slot = self.slots.get(usize::try_from(hash & MASK).ok()?)?;
        Some((slot, hash & !u64::from(u32::MAX)))
    }
}

fn second(now: i64) -> u32 {
    u32::try_from(now).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_authenticated_clients_are_known_and_only_for_a_while() {
        let known = RecentClients::default();
        let day = Duration::from_hours(24);
        let [ana, eve] = [1, 2].map(|n| IpAddr::from([192, 0, 2, n]));
        assert!(!known.knows(ana, day, 1_000_000), "before any client was authenticated");
        known.note(ana, 1_000_000);
        assert!(known.knows(ana, day, 1_086_399) && !known.knows(ana, day, 1_086_400));
        assert!(!known.knows(eve, day, 1_000_000));
        assert!(!known.knows(ana, Duration::ZERO, 1_000_000));
    }

    #[test]
    fn strangers_are_not_mistaken_for_known_clients_however_many_there_are() {
        let known = RecentClients::default();
        let client = |n: u32| IpAddr::from(n.to_be_bytes());
        (0..50_000).for_each(|n| known.note(client(n), 1_000));
        let taken = (50_000..100_000).filter(|n| known.knows(client(*n), Duration::from_hours(1), 1_000));
        assert!(taken.count() <= 1);
    }
}
