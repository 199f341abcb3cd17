//! How long `up` waits before it restarts a role: longer each time, up to a limit, without giving up.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(30);

/// A process that ran for this long resets the backoff.
const STEADY: Duration = Duration::from_secs(10);

/// The backoff of one role.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    /// Number of processes in a row that ended early.
    ended_early: u32,
}

impl Backoff {
    /// Returns the wait after a process that ran for `ran`.
    pub(super) fn after(&mut self, ran: Duration) -> Duration {
        if ran >= STEADY {
            self.ended_early = 0;
        }
        let doubled = 1_u32.checked_shl(self.ended_early).and_then(|factor| FIRST.checked_mul(factor));
        self.ended_early = self.ended_early.saturating_add(1);
        doubled.unwrap_or(LONGEST).min(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wait_is_twice_the_last_up_to_a_limit_and_restarts_never_stop() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..8).map(|_| backoff.after(Duration::ZERO).as_millis()).collect();
        assert_eq!(waits, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
        for _ in 0..1_000 {
            assert_eq!(backoff.after(Duration::from_secs(9)), LONGEST);
        }
        assert_eq!(backoff.after(STEADY), FIRST);
        assert_eq!(backoff.after(Duration::ZERO), FIRST * 2);
    }
}
