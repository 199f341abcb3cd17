//! Decides when a download that failed for a temporary reason is retried.

use std::time::Duration;

use jiff::Timestamp;

/// The longest wait, before the random part is added.
const LONGEST: Duration = Duration::from_hours(1);

/// How often to retry, and after how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retries {
    /// The number of retries after the first attempt.
    pub(crate) max: u32,
    /// The first wait; each later one is twice as long as the one before.
    pub(crate) first_delay: Duration,
    /// How long the site asks clients to wait.
    pub(crate) min_delay: Duration,
}

impl Retries {
    /// Returns the wait before the next attempt after `tries` failed ones, or `None` if there is no further attempt.
    ///
    /// `chance` adds up to half of the wait, so that tasks that failed together are not retried together.
    pub(crate) fn wait(self, tries: u32, chance: u8) -> Option<Duration> {
        if tries == 0 || tries > self.max {
            return None;
        }
        let doubled = 1_u32.checked_shl(tries - 1).and_then(|factor| self.first_delay.checked_mul(factor));
        let wait = doubled.unwrap_or(LONGEST).min(LONGEST);
        let wait = wait + wait * u32::from(chance) / (2 * u32::from(u8::MAX));
        Some(wait.max(self.min_delay.min(Self::bound())))
    }

    /// Returns the message of a task that waits after `tries` failed attempts. The next one is at `at`, in milliseconds since the epoch.
    pub(crate) fn notice(self, tries: u32, at: i64, why: &str) -> String {
        let next = tries.saturating_add(1);
        let all = self.max.saturating_add(1);
        let when = Timestamp::from_second(at.div_euclid(1_000)).unwrap_or(Timestamp::MAX);
        format!("waiting to retry ({next} of {all}) at {when}: {why}")
    }

    /// Returns the upper bound of every wait. A stored wait beyond it is the result of a clock that was set back.
    pub(crate) const fn bound() -> Duration {
        LONGEST.saturating_mul(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wait_is_twice_the_last_and_their_number_is_limited() {
        let retries = Retries { max: 3, first_delay: Duration::from_secs(10), min_delay: Duration::ZERO };
        let waits = [1, 2, 3, 4].map(|tries| retries.wait(tries, 0).map(|wait| wait.as_secs()));
        assert_eq!(waits, [Some(10), Some(20), Some(40), None]);
        assert_eq!(retries.wait(2, u8::MAX), Some(Duration::from_secs(30)));
    }

    #[test]
    fn a_waiting_task_says_which_attempt_is_next_and_when() {
        let retries = Retries { max: 4, first_delay: Duration::from_secs(10), min_delay: Duration::ZERO };
        let notice = retries.notice(2, 1_767_225_601_999, "the site could not be reached");
        assert_eq!(notice, "waiting to retry (3 of 5) at 2026-01-01T00:00:01Z: the site could not be reached");
    }

    #[test]
    fn a_site_is_not_contacted_before_the_time_it_asked_for() {
        let retries = |min_delay| Retries { max: 3, first_delay: Duration::from_secs(10), min_delay };
        assert_eq!(retries(Duration::from_secs(15)).wait(1, 0), Some(Duration::from_secs(15)));
        assert_eq!(retries(Duration::from_secs(5)).wait(1, 0), Some(Duration::from_secs(10)));
        assert_eq!(retries(Duration::from_hours(900)).wait(1, 0), Some(Retries::bound()));
    }

    #[test]
    fn no_wait_exceeds_the_bound() {
        let retries = Retries { max: u32::MAX, first_delay: Duration::from_secs(10), min_delay: Duration::ZERO };
        for tries in [9, 10, 31, 32, 33, u32::MAX] {
            let wait = retries.wait(tries, u8::MAX).unwrap();
            assert!(Duration::from_hours(1) < wait && wait < Retries::bound(), "{tries}: {wait:?}");
        }
    }
}
