//! The time of day.

use std::time::{SystemTime, UNIX_EPOCH};

/// Returns the current time in whole seconds since the Unix epoch; 0 if the clock is set to an earlier time.
#[must_use]
pub fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
