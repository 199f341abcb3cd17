//! When to renew a certificate and when to retry a failure. Pure: time and chance are passed in.

use std::time::{Duration, SystemTime};

/// The longest delay between retries, so that a repaired network is noticed within the day.
const LONGEST_WAIT: Duration = Duration::from_hours(6);
/// The shortest delay after a rate limit, which public authorities apply by the hour.
const RATE_LIMITED_WAIT: Duration = Duration::from_hours(1);

/// A random fraction from 0 up to 1, which spreads the requests of many gateways over time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Jitter(f64);

/// The validity period of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Validity {
    /// Its beginning.
    pub(super) from: SystemTime,
    /// Its end.
    pub(super) until: SystemTime,
}

impl Jitter {
    /// Creates a fraction from random bytes.
    pub(super) fn new(random: [u8; 4]) -> Self {
        Self(f64::from(u32::from_le_bytes(random)) / (f64::from(u32::MAX) + 1.0))
    }
}

impl Validity {
    /// Returns when to renew: when a third of the lifetime is left, as Let's Encrypt advises, or up to a tenth of the lifetime earlier. That is 30
    /// days before the end of 90 days, and 2 before the end of 6.
    pub(super) fn renewal(self, jitter: Jitter) -> SystemTime {
        let life = self.until.duration_since(self.from).unwrap_or_default();
        self.until - (life / 3 + life.div_f64(10.0).mul_f64(jitter.0))
    }
}

/// Returns how long to wait after `failures` failures in a row: `first` after the first one, twice as long each time, plus up to a tenth.
pub(super) fn wait(failures: u32, first: Duration, rate_limited: bool, jitter: Jitter) -> Duration {
    let doubled = first.saturating_mul(1 << failures.saturating_sub(1).min(16));
    let least = if rate_limited { RATE_LIMITED_WAIT } else { Duration::ZERO };
    doubled.min(LONGEST_WAIT.max(first)).max(least).mul_f64(1.0 + jitter.0 / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_hours(24);
    const MINUTE: Duration = Duration::from_mins(1);

    #[test]
    fn a_certificate_is_renewed_when_a_third_of_its_lifetime_is_left_or_a_little_more() {
        for (days, latest, earliest) in [(90, 30, 39), (6, 2, 3)] {
            let validity = Validity { from: SystemTime::UNIX_EPOCH, until: SystemTime::UNIX_EPOCH + DAY * days };
            assert_eq!(validity.renewal(Jitter::new([0; 4])), validity.until - DAY * latest);
            let soonest = validity.renewal(Jitter::new([0xff; 4]));
            assert!(soonest < validity.until - DAY * latest && soonest >= validity.until - DAY * earliest, "{days}");
        }
        let reversed = Validity { from: SystemTime::UNIX_EPOCH + DAY, until: SystemTime::UNIX_EPOCH };
        assert_eq!(reversed.renewal(Jitter::new([1; 4])), reversed.until);
    }

    #[test]
    fn failures_are_retried_with_growing_delays_up_to_six_hours() {
        let minutes =
            |failures, limited| wait(failures, 10 * MINUTE, limited, Jitter::new([0; 4])).as_secs() / MINUTE.as_secs();
        assert_eq!([1, 2, 3, 6, 7, 40, u32::MAX].map(|n| minutes(n, false)), [10, 20, 40, 320, 360, 360, 360]);
        assert_eq!([1, 7].map(|n| minutes(n, true)), [60, 360]);
        let late = wait(1, 10 * MINUTE, false, Jitter::new([0xff; 4]));
        assert!(late > 10 * MINUTE && late <= 11 * MINUTE, "{late:?}");
        assert_eq!(wait(9, 2 * DAY, false, Jitter::new([0; 4])), 2 * DAY, "a longer first wait is not shortened");
    }
}
