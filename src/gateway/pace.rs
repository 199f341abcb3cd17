//! How slow a client's body may be, and how long an application may be silent.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep, sleep_until};

/// A body may be as slow as it likes for so long.
const GRACE: Duration = Duration::from_secs(15);
/// Holds a client to a least average speed. Only time that was spent waiting for the client counts.
#[derive(Debug)]
pub(super) struct Pace {
    /// Bytes for each second, after the first seconds; 0 for none.
    least: u64,
    received: u64,
    waited: Duration,
    wait: Option<Wait>,
}

#[derive(Debug)]
struct Wait {
    since: Instant,
    until: Pin<Box<Sleep>>,
}

impl Pace {
    pub(super) fn new(least: u64) -> Self {
        Self { least, received: 0, waited: Duration::ZERO, wait: None }
    }

    /// Takes note of data that came.
    pub(super) fn received(&mut self, bytes: usize) {
        if let Some(wait) = self.wait.take() {
            self.waited += wait.since.elapsed();
        }
        self.received += bytes as u64;
    }

    /// Ready once the client has been waited for too long.
    pub(super) fn poll_too_slow(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(allowance) = self.allowance() else { return Poll::Pending };
        let left = allowance.saturating_sub(self.waited);
        let wait = self.wait.get_or_insert_with(|| {
            let since = Instant::now();
            Wait { since, until: Box::pin(sleep_until(since + left)) }
        });
        wait.until.as_mut().poll(cx)
    }

    fn allowance(&self) -> Option<Duration> {
        Some(GRACE + Duration::from_millis(self.received.saturating_mul(1_000).checked_div(self.least)?))
    }
}

/// A limit on silence that any movement resets, at the price of looking at the clock.
#[derive(Debug)]
pub(super) struct Patience {
    limit: Duration,
    since: Instant,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, since: Instant::now(), timer: None }
    }

    /// Something has moved.
    pub(super) fn reset(&mut self) {
        self.since = Instant::now();
    }

    /// Ready once nothing has moved for too long. The timer is set once, and again only when it fires early.
    pub(super) fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (due, limit) = (self.since + self.limit, self.limit);
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(limit)));
        loop {
            ready!(timer.as_mut().poll(cx));
            if Instant::now() >= due {
                return Poll::Ready(());
            }
            timer.as_mut().reset(due);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    #[tokio::test(start_paused = true)]
    async fn a_trickle_is_borne_for_a_while_and_a_steady_stream_for_ever() {
        let (mut pace, start) = (Pace::new(1_024), Instant::now());
        let trickle = async {
            loop {
                let slow = poll_fn(|cx| pace.poll_too_slow(cx));
                match tokio::time::timeout(Duration::from_secs(1), slow).await {
                    Ok(()) => return,
                    Err(_) => pace.received(1),
                }
            }
        };
        trickle.await;
        assert_eq!(start.elapsed().as_secs(), 15);
        let mut pace = Pace::new(1_024);
        for _ in 0..3_600 {
            let slow = poll_fn(|cx| pace.poll_too_slow(cx));
            assert!(tokio::time::timeout(Duration::from_secs(1), slow).await.is_err());
            pace.received(1_100);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_counted_from_the_last_movement() {
        let mut patience = Patience::new(Duration::from_secs(10));
        for _ in 0..5 {
            let over = poll_fn(|cx| patience.poll_over(cx));
            assert!(tokio::time::timeout(Duration::from_secs(9), over).await.is_err());
            patience.reset();
        }
        let start = Instant::now();
        poll_fn(|cx| patience.poll_over(cx)).await;
        assert_eq!(start.elapsed().as_secs(), 10);
    }
}
