//! An in-memory cache of answers, which expire after a configured time.

use std::time::Duration;

use bytes::Bytes;
use moka::{policy::EvictionPolicy, sync::Cache};

use super::Question;

/// The maximum amount of memory for all answers together, in bytes.
const MAX_BYTES: u64 = 8 << 20;

/// Every answer counts as at least this many bytes, so that there are at most 1,024.
const LEAST: usize = 8 << 10;

/// Larger entries are not cached, in bytes. Every answer is smaller, including its question.
const LARGEST: usize = 256 << 10;

/// The longest time that the cache accepts, and longer than any process runs.
const MAX_TIME_TO_LIVE: Duration = Duration::from_hours(100 * 365 * 24);

/// The cached answers.
pub(super) struct AnswerCache(Option<Cache<Question, Bytes>>);

impl AnswerCache {
    /// With a `time` of zero, nothing is cached.
    pub(super) fn new(time: Duration) -> Self {
        let cache = || {
            Cache::builder()
                .max_capacity(MAX_BYTES)
                .weigher(|question: &Question, json: &Bytes| weight(question, json))
                .eviction_policy(EvictionPolicy::lru())
                .time_to_live(time.min(MAX_TIME_TO_LIVE))
                .build()
        };
        Self((!time.is_zero()).then(cache))
    }

    pub(super) fn get(&self, question: &Question) -> Option<Bytes> {
        self.0.as_ref()?.get(question)
    }

    pub(super) fn insert(&self, question: Question, json: Bytes) {
        if let Some(cache) = self.0.as_ref().filter(|_| question.size() + json.len() <= LARGEST) {
            cache.insert(question, json);
            // Evicts what no longer fits now, and not some time later.
            cache.run_pending_tasks();
        }
    }
}

fn weight(question: &Question, json: &Bytes) -> u32 {
    let bytes = (question.size() + json.len()).max(LEAST);
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_mins(10);

    fn question(n: usize) -> Question {
        Question::Search { text: n.to_string(), count: 1 }
    }

    fn filled(answers: usize, bytes: usize) -> AnswerCache {
        let cache = AnswerCache::new(LONG);
        for n in 0..answers {
            cache.insert(question(n), vec![b'x'; bytes].into());
        }
        cache
    }

    #[test]
    fn the_number_of_answers_is_bounded_and_the_newest_ones_stay() {
        let cache = filled(3_000, 10);
        let cached: Vec<_> = (0..3_000).filter(|n| cache.get(&question(*n)).is_some()).collect();
        assert_eq!(cached, (3_000 - 1_024..3_000).collect::<Vec<_>>());
    }

    #[test]
    fn the_memory_of_all_answers_together_is_bounded() {
        let cache = filled(200, LARGEST - 10);
        let cached = (0..200).filter(|n| cache.get(&question(*n)).is_some()).count();
        assert_eq!(cached, 32);
    }

    #[test]
    fn a_large_answer_is_not_cached_and_evicts_no_other() {
        let cache = filled(10, 10);
        cache.insert(question(10), vec![b'x'; LARGEST].into());
        assert!(cache.get(&question(10)).is_none() && cache.get(&question(0)).is_some());
    }

    #[test]
    fn a_time_of_zero_disables_the_cache_and_no_time_is_too_long() {
        for (time, cached) in [(Duration::ZERO, false), (LONG, true), (Duration::MAX, true)] {
            let cache = AnswerCache::new(time);
            cache.insert(question(0), Bytes::from_static(b"x"));
            assert_eq!(cache.get(&question(0)).is_some(), cached, "{time:?}");
        }
    }
}
