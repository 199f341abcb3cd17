//! The remaining budget of each egress token: bytes, open connections, and log lines.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use uuid::Uuid;

use super::token::EgressToken;

/// Open connections of one job. yt-dlp needs few; a child that opens many has other intentions.
const MAX_OPEN: usize = 32;
/// Log lines per second for one job. Each connection is logged, and a child may open any number.
const MAX_LINES: u32 = 20;

/// The budgets of all tokens that have not expired. A resumed job gets a new token, which expires at another time.
#[derive(Debug, Default)]
pub(super) struct Budgets(Mutex<HashMap<(Uuid, i64), TokenEntry>>);

#[derive(Debug)]
struct TokenEntry {
    until: i64,
    budget: Arc<TokenBudget>,
    log: Log,
}

/// How much was logged about one token.
#[derive(Debug, Default)]
struct Log {
    second: i64,
    lines: u32,
    left_out: u64,
}

/// The budget of one token.
#[derive(Debug)]
pub(super) struct TokenBudget {
    left: AtomicU64,
    open: AtomicUsize,
}

/// One connection that draws on a budget.
#[derive(Debug)]
pub(super) struct ConnectionBudget(Arc<TokenBudget>);

impl Budgets {
    /// Opens a connection under `token`. Returns none if the token has as many open as allowed.
    pub(super) fn open(&self, token: &EgressToken, now: i64) -> Option<ConnectionBudget> {
        let mut entries = self.0.lock();
        entries.retain(|_, entry| entry.until > now);
        let budget =
            Arc::clone(&entries.entry((token.job, token.until)).or_insert_with(|| TokenEntry::of(token)).budget);
        let opened =
            budget.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < MAX_OPEN).then_some(n + 1));
        opened.ok().map(|_| ConnectionBudget(budget))
    }

    /// Returns true if another line about `token` may be logged at `now`; otherwise counts it as left out. First logs how many lines
    /// were left out in an earlier second.
    pub(super) fn admits_line(&self, token: &EgressToken, now: i64) -> bool {
        let mut entries = self.0.lock();
        let log = &mut entries.entry((token.job, token.until)).or_insert_with(|| TokenEntry::of(token)).log;
        if log.second != now {
            if log.left_out > 0 {
                tracing::warn!(target: "sallyport::egress", job = %token.job, left_out = log.left_out, "egress: connections left out of the log");
            }
            *log = Log { second: now, ..Log::default() };
        }
        let room = log.lines < MAX_LINES;
        log.lines += u32::from(room);
        log.left_out += u64::from(!room);
        room
    }
}

impl TokenEntry {
    fn of(token: &EgressToken) -> Self {
        let budget = Arc::new(TokenBudget { left: AtomicU64::new(token.bytes), open: AtomicUsize::new(0) });
        Self { until: token.until, budget, log: Log::default() }
    }
}

impl ConnectionBudget {
    /// Takes up to `wanted` bytes and returns how many it took; 0 if none are left.
    pub(super) fn take(&self, wanted: usize) -> usize {
        let wanted = u64::try_from(wanted).unwrap_or(u64::MAX);
        let take = |left: u64| Some(left.saturating_sub(wanted));
        let before = self.0.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).unwrap_or(0);
        usize::try_from(before.min(wanted)).unwrap_or(usize::MAX)
    }

    /// Returns how many bytes are left.
    pub(super) fn left(&self) -> u64 {
        self.0.left.load(Ordering::Relaxed)
    }
}

impl Drop for ConnectionBudget {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_connections_of_a_token_share_its_budget_and_cannot_exceed_it() {
        let budgets = Budgets::default();
        let token = EgressToken { job: Uuid::from_u128(1), until: 100, bytes: 10 };
        let a = budgets.open(&token, 0).unwrap();
        let b = budgets.open(&token, 0).unwrap();
        assert_eq!((a.take(7), b.take(7), a.take(1)), (7, 3, 0));
        assert_eq!((a.left(), b.left()), (0, 0));
        let other = EgressToken { job: Uuid::from_u128(2), ..token };
        assert_eq!(budgets.open(&other, 0).unwrap().take(4), 4);
    }

    #[test]
    fn a_child_that_never_stops_connecting_gets_few_log_lines_per_second_and_takes_none_from_others() {
        let budgets = Budgets::default();
        let token = EgressToken { job: Uuid::from_u128(1), until: 100, bytes: 10 };
        let lines = |token: &EgressToken, now| (0..10_000).filter(|_| budgets.admits_line(token, now)).count();
        assert_eq!((lines(&token, 1), lines(&token, 2)), (20, 20));
        assert_eq!(lines(&EgressToken { job: Uuid::from_u128(2), ..token }, 2), 20);
    }

    #[test]
    fn connections_are_counted_for_each_token_and_released_on_drop() {
        let budgets = Budgets::default();
        let token = EgressToken { job: Uuid::from_u128(1), until: 100, bytes: 10 };
        let mut open: Vec<_> = (0..MAX_OPEN).map(|_| budgets.open(&token, 0).unwrap()).collect();
        assert!(budgets.open(&token, 0).is_none());
        open.pop();
        assert!(budgets.open(&token, 0).is_some());
    }
}
