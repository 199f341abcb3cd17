//! Reads and discards, within limits, the rest of a body whose request has been answered already.
//!
//! Most clients send their whole request before they read. If the connection, or the HTTP/2 stream, ends in the meantime, they report a
//! broken connection instead of the response (RFC 9112, section 9.6; RFC 9113, section 8.1).

use std::{
    future::poll_fn,
    task::{Context, Poll},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::{Instant, timeout, timeout_at};

/// The maximum number of bytes of one body that are discarded.
const MAX_BYTES: u64 = 16 << 20;
/// The longest that one body may take, however steadily it arrives.
const MAX_TIME: Duration = Duration::from_secs(30);
/// The longest pause within a body.
const MAX_SILENCE: Duration = Duration::from_secs(3);
/// The maximum number of bytes per second that are discarded for all streams of one HTTP/2 connection. A client that sends more has to wait.
const CONNECTION_RATE: u32 = 64 << 20;

/// The bytes that may be discarded for one HTTP/2 connection.
#[derive(Debug, Default)]
pub(crate) struct Allowance(Mutex<Option<Instant>>);

impl Allowance {
    /// Spends `bytes` at `now`, and returns how long to wait before reading more, if at all.
    pub(crate) fn spend(&self, bytes: usize, now: Instant) -> Option<Duration> {
        let mut spent_until = self.0.lock();
        let cost = Duration::from_secs(1) * u32::try_from(bytes).unwrap_or(u32::MAX) / CONNECTION_RATE;
        // A second's worth may arrive at once.
        let until = spent_until.map_or(now, |until| until.max(now)) + cost;
        *spent_until = Some(until);
        Some(until.saturating_duration_since(now + Duration::from_secs(1))).filter(|wait| !wait.is_zero())
    }
}

/// Polls `read`, which returns how many bytes arrived, until it returns `None` or a limit is reached.
pub(crate) async fn drop_rest(mut read: impl FnMut(&mut Context<'_>) -> Poll<Option<usize>>) {
    let end = Instant::now() + MAX_TIME;
    let mut left = MAX_BYTES;
    let reading = async {
        while let Ok(Some(bytes)) = timeout(MAX_SILENCE, poll_fn(&mut read)).await {
            match left.checked_sub(bytes as u64) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    };
    let _ = timeout_at(end, reading).await;
}

#[cfg(test)]
mod tests {
    use std::task::ready;

    use tokio::time::interval_at;

    use super::*;

    /// Returns how many bytes are read, and for how many seconds, from a client that sends `bytes` after each pause.
    async fn dropped(bytes: usize, pause: Duration) -> (u64, u64) {
        let start = Instant::now();
        let mut total = 0;
        let mut pauses = interval_at(start + pause, pause);
        drop_rest(|cx| {
            ready!(pauses.poll_tick(cx));
            total += bytes as u64;
            Poll::Ready(Some(bytes))
        })
        .await;
        (total, start.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_is_discarded_up_to_a_size_a_duration_and_a_pause() {
        assert_eq!(dropped(1 << 20, Duration::from_millis(1)).await, (17 << 20, 0));
        assert_eq!(dropped(1, Duration::from_secs(1)).await, (30, 30));
        assert_eq!(dropped(1, Duration::from_secs(4)).await, (0, 3));
    }

    #[test]
    fn a_connection_that_sends_more_than_its_rate_has_to_wait() {
        let allowance = Allowance::default();
        let now = Instant::now();
        assert_eq!(allowance.spend(64 << 20, now), None);
        assert_eq!(allowance.spend(32 << 20, now), Some(Duration::from_millis(500)));
        assert_eq!(
            allowance.spend(16 << 20, now + Duration::from_secs(1)),
            None,
            "half a second's worth is available again"
        );
        assert_eq!(
            allowance.spend(64 << 20, now + Duration::from_mins(1)),
            None,
            "at most a second's worth is saved up"
        );
        assert!(allowance.spend(1 << 20, now + Duration::from_mins(1)).is_some());
    }
}
