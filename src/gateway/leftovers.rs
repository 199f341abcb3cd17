//! What a client still sends of a body once its request has been answered: read and dropped, within bounds.
//!
//! Most clients send their whole request before they read. If the connection, or the stream of HTTP/2, ends meanwhile, they report
//! a broken connection instead of the answer (RFC 9112, section 9.6; RFC 9113, section 8.1).

use std::{
    future::poll_fn,
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, timeout, timeout_at};

/// The most that is dropped of one body.
const MAX_BYTES: u64 = 16 << 20;
/// The longest that one body is waited for, however steadily it comes,
const MAX_TIME: Duration = Duration::from_secs(30);
/// and the longest pause within it.
const MAX_SILENCE: Duration = Duration::from_secs(3);
/// The most that is dropped for all streams of one HTTP/2 connection between two calls of [`Allowance::restore`].
const MAX_CONNECTION_BYTES: u64 = 64 << 20;

/// How many more bytes one HTTP/2 connection may have dropped.
#[derive(Debug)]
pub(super) struct Allowance(AtomicU64);

impl Default for Allowance {
    fn default() -> Self {
        Self(AtomicU64::new(MAX_CONNECTION_BYTES))
    }
}

impl Allowance {
    /// Grants the full amount again, as happens every few seconds.
    pub(super) fn restore(&self) {
        self.0.store(MAX_CONNECTION_BYTES, Ordering::Relaxed);
    }

    /// Takes some of it; false once it is used up.
    pub(super) fn spend(&self, bytes: u64) -> bool {
        let take = |left: u64| left.checked_sub(bytes);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}

/// Polls `read`, which says how many bytes came, until it gives None or a bound is reached.
pub(super) async fn drop_rest(mut read: impl FnMut(&mut Context<'_>) -> Poll<Option<usize>>) {
    let (end, mut left) = (Instant::now() + MAX_TIME, MAX_BYTES);
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

    /// How much is read, and for how long, of a client that sends so many bytes after each pause.
    async fn dropped(bytes: usize, pause: Duration) -> (u64, u64) {
        let (start, mut total) = (Instant::now(), 0);
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
    async fn a_body_is_dropped_up_to_a_size_a_time_and_a_pause() {
        assert_eq!(dropped(1 << 20, Duration::from_millis(1)).await, (17 << 20, 0));
        assert_eq!(dropped(1, Duration::from_secs(1)).await, (30, 30));
        assert_eq!(dropped(1, Duration::from_secs(4)).await, (0, 3));
    }

    #[test]
    fn one_connection_has_no_more_dropped_than_its_allowance() {
        let allowance = Allowance::default();
        assert!(allowance.spend(MAX_CONNECTION_BYTES) && !allowance.spend(1));
        allowance.restore();
        assert!(allowance.spend(1));
    }
}
