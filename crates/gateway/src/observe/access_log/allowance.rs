//! The number of bytes that may be written per day: half of them at once, the other half evenly over the day.

use std::{num::NonZeroU64, time::Duration};

const DAY: Duration = Duration::from_hours(24);

/// A share of the log's daily growth.
///
/// At most half is in use at a time, and the same amount is regained over 24 hours. So no period of 24 hours exceeds the whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    /// None means no limit.
    half: Option<u64>,
}

impl Allowance {
    /// Creates an allowance of `count` hundredths of `per_day`; None means no limit.
    pub(super) fn hundredths(per_day: Option<NonZeroU64>, count: u64) -> Self {
        Self { half: per_day.map(|bytes| (bytes.get() / 200).saturating_mul(count)) }
    }

    /// Returns the number of bytes that can be in use at a time.
    pub(super) fn most(self) -> u64 {
        self.half.unwrap_or(u64::MAX)
    }

    /// Returns the bytes regained between two times that are counted from the same start.
    pub(super) fn regained(self, from: Duration, to: Duration) -> u64 {
        let Some(half) = self.half else { return u64::MAX };
        let by = |time: Duration| u128::from(half) * time.as_millis() / DAY.as_millis();
        u64::try_from(by(to).saturating_sub(by(from))).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_day_exceeds_its_share_and_no_fraction_of_a_byte_is_lost() {
        let share = Allowance::hundredths(NonZeroU64::new(1_000_000), 10);
        assert_eq!(share.most(), 50_000);
        let second = Duration::from_secs(1);
        let back: u64 = (0..86_400).map(|n| share.regained(second * n, second * (n + 1))).sum();
        assert_eq!(back, 50_000);
    }

    #[test]
    fn without_a_limit_nothing_is_ever_used_up() {
        let any = Allowance::hundredths(None, 10);
        assert_eq!((any.most(), any.regained(Duration::ZERO, Duration::ZERO)), (u64::MAX, u64::MAX));
    }
}
