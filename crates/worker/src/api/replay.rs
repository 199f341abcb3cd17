//! Remembers the request ids of the last minute, so that a copied statement is useless.

use std::collections::HashSet;

use sallyport_core::statement::LIFETIME;
use sha2::{Digest, Sha256};
use thiserror::Error;

/// The longest, in seconds, that a statement can remain valid after it was first seen: it may be signed one lifetime ahead of this clock,
/// and is valid until one lifetime after that.
const WINDOW: i64 = 2 * LIFETIME.as_secs().cast_signed();

/// The maximum number of ids per window: 30,000 per second, about 40 MB of memory.
const CAPACITY: usize = 2_000_000;

/// The ids of the current and the previous window, as short digests, so that the size does not depend on the length of the ids.
#[derive(Default)]
pub(crate) struct ReplayMemory {
    current: HashSet<[u8; 16]>,
    previous: HashSet<[u8; 16]>,
    turned_at: i64,
}

/// The reason why an id is rejected.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum ReplayError {
    #[error("the request id was already used")]
    Seen,
    #[error("too many requests to remember")]
    Full,
}

impl ReplayMemory {
    /// Records `id` as seen at `now`, in seconds of a monotonic clock.
    pub(crate) fn remember(&mut self, id: &str, now: i64) -> Result<(), ReplayError> {
        self.turn(now);
        let digest = digest(id);
        if self.previous.contains(&digest) || self.current.contains(&digest) {
            return Err(ReplayError::Seen);
        }
        if self.current.len() >= CAPACITY {
            return Err(ReplayError::Full);
        }
        self.current.insert(digest);
        Ok(())
    }

    /// Serialises the ids for the next process.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.previous.into_iter().chain(self.current).flatten().collect()
    }

    /// Restores the ids of the previous process. Returns `None` if the data is truncated.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (digests, []) = bytes.as_chunks() else { return None };
        Some(Self { current: digests.iter().copied().collect(), ..Self::default() })
    }

    fn turn(&mut self, now: i64) {
        let age = now - self.turned_at;
        if age <= WINDOW {
            return;
        }
        let last = std::mem::take(&mut self.current);
        self.previous = if age <= 2 * WINDOW { last } else { HashSet::new() };
        self.turned_at = now;
    }
}

fn digest(id: &str) -> [u8; 16] {
    let full: [u8; 32] = Sha256::digest(id.as_bytes()).into();
    let (half, _) = full.split_first_chunk::<16>().unwrap_or((&[0; 16], &[]));
    *half
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_rejected_for_as_long_as_its_statement_could_be_valid() {
        for seen_at in [0, 1, 30, 59, 60, 61, 100, 121, 1_000] {
            let mut memory = ReplayMemory::default();
            memory.remember("other", 61).unwrap();
            memory.remember("a", 61 + seen_at).unwrap();
            for later in 0..=WINDOW {
                assert_eq!(memory.remember("a", 61 + seen_at + later), Err(ReplayError::Seen), "{seen_at} {later}");
            }
        }
    }

    #[test]
    fn the_next_process_knows_the_ids_that_were_seen() {
        let mut memory = ReplayMemory::default();
        memory.remember("a", 0).unwrap();
        memory.remember("b", WINDOW + 1).unwrap();
        let bytes = memory.into_bytes();
        let mut next = ReplayMemory::from_bytes(&bytes).unwrap();
        for id in ["a", "b"] {
            assert_eq!(next.remember(id, WINDOW), Err(ReplayError::Seen));
        }
        next.remember("c", WINDOW).unwrap();
        assert!(ReplayMemory::from_bytes(&bytes[1..]).is_none());
    }

    #[test]
    fn an_id_is_forgotten_eventually() {
        let mut memory = ReplayMemory::default();
        memory.remember("a", 1_000).unwrap();
        memory.remember("b", 1_100).unwrap();
        memory.remember("c", 1_200).unwrap();
        assert!(memory.current.len() + memory.previous.len() < 3);
    }
}
