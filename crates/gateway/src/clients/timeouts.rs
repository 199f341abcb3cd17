//! Time limits: the minimum rate of a client's body, and the longest silence of an application.

use std::{
    future::Future,
    num::NonZeroU64,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

/// How long a body may be arbitrarily slow.
const GRACE: Duration = Duration::from_secs(15);
/// The maximum time that a client gains by sending faster than it has to.
const MAX_CREDIT: Duration = Duration::from_mins(1);

/// Enforces a minimum average rate on a client. Only time spent waiting for the client counts.
#[derive(Debug)]
pub(crate) struct MinRate {
    /// Bytes per second, after the grace period.
    least: Option<NonZeroU64>,
    received: u64,
    waited: Duration,
    wait: Option<Wait>,
}

#[derive(Debug)]
struct Wait {
    since: Instant,
    until: Pin<Box<Sleep>>,
}

impl MinRate {
    pub(crate) fn new(least: Option<NonZeroU64>) -> Self {
        Self { least, received: 0, waited: Duration::ZERO, wait: None }
    }

    /// Records received data.
    pub(crate) fn received(&mut self, bytes: usize) {
        if let Some(wait) = self.wait.take() {
            self.waited += wait.since.elapsed();
        }
        self.received += bytes as u64;
        // Without this cap, a fast beginning would allow hours of silence.
        if let Some(allowance) = self.allowance() {
            self.waited = self.waited.max(allowance.saturating_sub(GRACE + MAX_CREDIT));
        }
    }

    /// Completes once the gateway has waited too long for the client.
    pub(crate) fn poll_too_slow(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(allowance) = self.allowance() else { return Poll::Pending };
        let left = allowance.saturating_sub(self.waited);
        let wait = self.wait.get_or_insert_with(|| {
            let since = Instant::now();
            Wait { since, until: Box::pin(sleep_until(since + left)) }
        });
        wait.until.as_mut().poll(cx)
    }

    fn allowance(&self) -> Option<Duration> {
        Some(GRACE + Duration::from_millis(self.received.saturating_mul(1_000) / self.least?))
    }
}

/// How often the gateway checks whether the credential of a running request is still valid. A response must end within 2 s after its
/// credential becomes invalid.
pub(crate) const CREDENTIAL_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// A limit on silence that any progress resets, which costs one reading of the clock, and a reminder to check the credential regularly.
#[derive(Debug)]
pub(crate) struct IdleTimeout {
    limit: Duration,
    since: Instant,
    checked: Instant,
    timer: Option<Pin<Box<Sleep>>>,
}

/// Why a wait was interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interruption {
    /// It is time to check the credential.
    CheckCredential,
    /// There was no progress for too long.
    TimedOut,
}

impl IdleTimeout {
    pub(crate) fn new(limit: Duration) -> Self {
        let now = Instant::now();
        Self { limit, since: now, checked: now, timer: None }
    }

    /// Records progress; returns true if it is time to check the credential.
    #[must_use]
    pub(crate) fn reset(&mut self) -> bool {
        self.since = Instant::now();
        let look = self.since.duration_since(self.checked) >= CREDENTIAL_CHECK_INTERVAL;
        if look {
            self.checked = self.since;
        }
        look
    }

    /// Completes when a wait has lasted for some time. The timer is set once, and again only after it has fired.
    pub(crate) fn poll_interruption(&mut self, cx: &mut Context<'_>) -> Poll<Interruption> {
        let over = self.since + self.limit;
        let look = self.checked + CREDENTIAL_CHECK_INTERVAL;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(over.min(look))));
        loop {
            ready!(timer.as_mut().poll(cx));
            let now = Instant::now();
            if now >= over {
                return Poll::Ready(Interruption::TimedOut);
            }
            if now >= look {
                self.checked = now;
                timer.as_mut().reset(over.min(now + CREDENTIAL_CHECK_INTERVAL));
                return Poll::Ready(Interruption::CheckCredential);
            }
            timer.as_mut().reset(over.min(look));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    #[tokio::test(start_paused = true)]
    async fn a_trickle_is_tolerated_for_a_while_and_a_steady_stream_for_ever() {
        let mut min_rate = MinRate::new(NonZeroU64::new(1_024));
        let start = Instant::now();
        let trickle = async {
            loop {
                let slow = poll_fn(|cx| min_rate.poll_too_slow(cx));
                match tokio::time::timeout(Duration::from_secs(1), slow).await {
                    Ok(()) => return,
                    Err(_) => min_rate.received(1),
                }
            }
        };
        trickle.await;
        assert_eq!(start.elapsed().as_secs(), 15);
        let mut min_rate = MinRate::new(NonZeroU64::new(1_024));
        for _ in 0..3_600 {
            let slow = poll_fn(|cx| min_rate.poll_too_slow(cx));
            assert!(tokio::time::timeout(Duration::from_secs(1), slow).await.is_err());
            min_rate.received(1_100);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_fast_beginning_gains_a_minute_at_most() {
        let mut min_rate = MinRate::new(NonZeroU64::new(1_024));
        let start = Instant::now();
        min_rate.received(100 << 20);
        poll_fn(|cx| min_rate.poll_too_slow(cx)).await;
        assert_eq!(start.elapsed().as_secs(), 75);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_counted_from_the_last_progress() {
        let mut idle_timeout = IdleTimeout::new(Duration::from_secs(10));
        let start = Instant::now();
        let mut looks = 0;
        loop {
            match poll_fn(|cx| idle_timeout.poll_interruption(cx)).await {
                Interruption::CheckCredential if start.elapsed().as_secs() < 20 => {
                    looks += 1;
                    assert!(!idle_timeout.reset(), "the credential was checked just now");
                }
                Interruption::CheckCredential => looks += 1,
                Interruption::TimedOut => break,
            }
        }
        assert_eq!(
            (start.elapsed().as_secs(), looks),
            (29, 28),
            "progress at 19 s, a check every second, and 10 s of silence"
        );
    }
}
