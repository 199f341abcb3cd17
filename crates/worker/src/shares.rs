//! Capacity that users share, limited in total, per user and per signed link. A user who has used up their own share waits for it and
//! blocks no other user.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use thiserror::Error;
use tokio::{
    select,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::tasks::{caller::Caller, owner::Owner};

/// How many requests may wait for the share of one user or one link. Further ones are refused immediately.
const MAX_WAITING: usize = 32;

/// How often to check whether a user is waiting.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// The limits, in any unit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) all: u32,
    pub(crate) user: u32,
    pub(crate) link: u32,
}

/// Capacity that users share.
pub(crate) struct Shares {
    sizes: Sizes,
    stop: CancellationToken,
    all: Arc<Limit>,
    users: Limits<Owner>,
    links: Limits<(Owner, Arc<str>)>,
}

/// The limit of each user or link that holds capacity or waits for it.
struct Limits<K>(Mutex<HashMap<K, Weak<Limit>>>);

/// One limit: of all users, of a user, of a link or of a single use.
struct Limit {
    size: u32,
    available: Arc<Semaphore>,
    waiting: AtomicUsize,
    /// Holds a permit for each request that may wait here, or at a wider limit after it passed this one.
    queue: Semaphore,
}

/// The limits that a caller takes capacity from.
#[derive(Clone)]
pub(crate) struct Share {
    /// The narrowest first.
    limits: Vec<Arc<Limit>>,
    stop: CancellationToken,
}

/// Capacity that was taken; released on drop.
pub(crate) struct ShareGuard(Vec<(Arc<Limit>, OwnedSemaphorePermit)>);

/// The error if no capacity became free in time.
#[derive(Debug, Error)]
#[error("too many requests are already waiting")]
pub(crate) struct Busy;

struct Waiting<'a>(&'a Limit);

impl Shares {
    /// Creates the capacity. Waits for it end once `stop` is cancelled.
    pub(crate) fn new(sizes: Sizes, stop: CancellationToken) -> Self {
        let users = Limits(Mutex::default());
        let links = Limits(Mutex::default());
        // Users wait here for each other, so one user with many requests must not use up the places in the queue.
        let all = Limit::new(sizes.all, Semaphore::MAX_PERMITS);
        Self { sizes, stop, all, users, links }
    }

    /// Returns the share of `caller`.
    pub(crate) fn of(&self, caller: &Caller) -> Share {
        let link = caller.by_link.as_ref();
        let link = link.map(|id| self.links.of((caller.user.clone(), Arc::clone(id)), self.sizes.link));
        let Share { limits, stop } = self.of_user(&caller.user);
        Share { limits: link.into_iter().chain(limits).collect(), stop }
    }

    /// Returns the share of `user`, not limited by a link.
    pub(crate) fn of_user(&self, user: &Owner) -> Share {
        let limits = vec![self.users.of(user.clone(), self.sizes.user), Arc::clone(&self.all)];
        Share { limits, stop: self.stop.clone() }
    }
}

impl<K: Eq + Hash> Limits<K> {
    fn of(&self, key: K, size: u32) -> Arc<Limit> {
        let mut known = self.0.lock();
        if let Some(limit) = known.get(&key).and_then(Weak::upgrade) {
            return limit;
        }
        known.retain(|_, limit| limit.strong_count() > 0);
        let limit = Limit::new(size, MAX_WAITING);
        known.insert(key, Arc::downgrade(&limit));
        limit
    }
}

impl Limit {
    fn new(size: u32, max_waiting: usize) -> Arc<Self> {
        let available = Arc::new(Semaphore::new(usize::try_from(size).unwrap_or(Semaphore::MAX_PERMITS)));
        Arc::new(Self { size, available, waiting: AtomicUsize::new(0), queue: Semaphore::new(max_waiting) })
    }

    /// Acquires `amount`, or the whole limit if `amount` exceeds it.
    async fn acquire(&self, amount: u32) -> Result<OwnedSemaphorePermit, Busy> {
        let _waiting = Waiting::begin(self);
        Arc::clone(&self.available).acquire_many_owned(amount.min(self.size)).await.map_err(|_| Busy)
    }
}

impl<'a> Waiting<'a> {
    fn begin(limit: &'a Limit) -> Self {
        limit.waiting.fetch_add(1, Ordering::Relaxed);
        Self(limit)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Share {
    /// Returns a share for a single use, which takes at most `size`.
    pub(crate) fn narrowed(&self, size: u32) -> Self {
        let own = Limit::new(size, Semaphore::MAX_PERMITS);
        Self { limits: [own].into_iter().chain(self.limits.iter().cloned()).collect(), stop: self.stop.clone() }
    }

    /// Takes `amount`, waiting as long as necessary.
    pub(crate) async fn take(&self, amount: u32) -> Result<ShareGuard, Busy> {
        let mut taken = Vec::with_capacity(self.limits.len());
        for limit in &self.limits {
            taken.push((Arc::clone(limit), limit.acquire(amount).await?));
        }
        Ok(ShareGuard(taken))
    }

    /// Takes `amount` if it becomes free within `max_wait` and before the worker stops, and if not too many are already waiting. Free
    /// capacity is granted even while the worker stops.
    pub(crate) async fn take_within(&self, amount: u32, max_wait: Duration) -> Result<ShareGuard, Busy> {
        select! {
            biased;
            taken = timeout(max_wait, self.take_in_turn(amount)) => taken.unwrap_or(Err(Busy)),
            () = self.stop.cancelled() => Err(Busy),
        }
    }

    async fn take_in_turn(&self, amount: u32) -> Result<ShareGuard, Busy> {
        let mut taken = Vec::with_capacity(self.limits.len());
        let mut queued = Vec::with_capacity(self.limits.len());
        for limit in &self.limits {
            queued.push(limit.queue.try_acquire().map_err(|_| Busy)?);
            taken.push((Arc::clone(limit), limit.acquire(amount).await?));
        }
        Ok(ShareGuard(taken))
    }
}

impl ShareGuard {
    /// Returns true while a user waits for the capacity that this holds.
    pub(crate) fn is_wanted(&self) -> bool {
        self.0.iter().any(|(limit, _)| limit.waiting.load(Ordering::Relaxed) > 0)
    }

    /// Returns true while a request waits for the capacity that all users share. If each user has a single place, that request belongs to
    /// another user.
    pub(crate) fn is_wanted_by_others(&self) -> bool {
        self.0.last().is_some_and(|(all, _)| all.waiting.load(Ordering::Relaxed) > 0)
    }

    /// Completes once this has been held for `grace` and `wanted` returns true.
    pub(crate) async fn contested_after(&self, grace: Duration, wanted: impl Fn(&Self) -> bool) {
        sleep(grace).await;
        while !wanted(self) {
            sleep(CHECK_INTERVAL).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const SIZES: Sizes = Sizes { all: 4, user: 3, link: 1 };
    const MAX_WAIT: Duration = Duration::from_secs(3);

    async fn take(shares: &Shares, caller: &Caller) -> Result<ShareGuard, Busy> {
        shares.of(caller).take_within(1, MAX_WAIT).await
    }

    #[tokio::test(start_paused = true)]
    async fn users_and_links_are_limited_and_leave_the_rest_to_others() {
        let shares = Shares::new(SIZES, CancellationToken::new());
        let ana = Caller::test("ana", None);
        let bob = Caller::test("bob", None);
        let link = Caller::test("ana", Some("l1"));
        let mut held = vec![take(&shares, &link).await.unwrap()];
        assert!(take(&shares, &link).await.is_err(), "one per link");
        held.push(take(&shares, &Caller::test("ana", Some("l2"))).await.unwrap());
        held.push(take(&shares, &ana).await.unwrap());
        assert!(take(&shares, &ana).await.is_err(), "three per user, by links or not");
        let bobs = take(&shares, &bob).await.unwrap();
        assert!(take(&shares, &Caller::test("carl", None)).await.is_err(), "four in total");
        held.pop();
        assert!(take(&shares, &ana).await.is_ok());
        drop((held, bobs));
        assert!(take(&shares, &Caller::test("carl", None)).await.is_ok());
        assert_eq!(shares.users.0.lock().len(), 1, "users who hold nothing are forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn holders_know_that_others_wait_and_only_a_limited_number_wait() {
        let shares = Arc::new(Shares::new(Sizes { all: 9, user: 1, link: 1 }, CancellationToken::new()));
        let ana = Caller::test("ana", None);
        let bob = Caller::test("bob", None);
        let anas = take(&shares, &ana).await.unwrap();
        let bobs = take(&shares, &bob).await.unwrap();
        let wait = async |caller: &Caller| shares.of(caller).take_within(1, MAX_WAIT).await;
        let (refused, ()) = tokio::join!(wait(&ana), async {
            tokio::task::yield_now().await;
            assert!(anas.is_wanted() && !bobs.is_wanted());
            assert!(!anas.is_wanted_by_others(), "only her own request waits");
            anas.contested_after(Duration::from_secs(1), ShareGuard::is_wanted).await;
        });
        assert!(refused.is_err() && !anas.is_wanted());
        let many = (0..MAX_WAITING).map(|_| Box::pin(wait(&ana)));
        let mut all = futures_util::future::join_all(many);
        tokio::select! {
            biased;
            _ = &mut all => unreachable!("nothing becomes free"),
            () = tokio::task::yield_now() => {}
        }
        let start = tokio::time::Instant::now();
        assert!(wait(&ana).await.is_err() && start.elapsed().is_zero(), "one more is refused immediately");
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_limited_number_wait_for_a_share_even_if_each_takes_a_narrow_part() {
        let shares = Shares::new(SIZES, CancellationToken::new());
        let ana = Caller::test("ana", None);
        let link = Caller::test("ana", Some("l1"));
        let _held = shares.of(&ana).take(SIZES.user).await.unwrap();
        let wait = async |caller: &Caller| shares.of(caller).narrowed(1).take_within(1, MAX_WAIT).await;
        let many = (0..MAX_WAITING).map(|_| Box::pin(wait(&ana)));
        let mut all = futures_util::future::join_all(many);
        assert!((&mut all).now_or_never().is_none());
        let start = tokio::time::Instant::now();
        assert!(wait(&ana).await.is_err() && wait(&link).await.is_err() && start.elapsed().is_zero());
        assert!(wait(&Caller::test("bob", None)).await.is_ok(), "another user doesn't wait at all");
        all.await;
        let patient = shares.of(&ana).narrowed(1);
        assert!(
            patient.take_within(1, MAX_WAIT).await.is_err() && start.elapsed() > MAX_WAIT,
            "there is room to wait again"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_user_who_waits_for_the_shared_capacity_does_not_keep_others_from_waiting() {
        let shares = Shares::new(Sizes { all: 64, user: 64, link: 1 }, CancellationToken::new());
        let ana = Caller::test("ana", None);
        let bob = Caller::test("bob", None);
        let held = shares.of(&bob).take(64).await.unwrap();
        let wait = async |caller: &Caller| shares.of(caller).take_within(1, MAX_WAIT).await;
        let mut all = futures_util::future::join_all((0..MAX_WAITING).map(|_| Box::pin(wait(&ana))));
        assert!((&mut all).now_or_never().is_none(), "they pass her own share and wait for the shared one");
        assert!(wait(&ana).await.is_err());
        let carl = Caller::test("carl", None);
        let mut carls = Box::pin(wait(&carl));
        assert!((&mut carls).now_or_never().is_none());
        drop(held);
        assert!(carls.await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_while_the_worker_stops_and_free_capacity_is_granted() {
        let stop = CancellationToken::new();
        let shares = Shares::new(SIZES, stop.clone());
        let link = Caller::test("ana", Some("l1"));
        let held = take(&shares, &link).await.unwrap();
        let start = tokio::time::Instant::now();
        let (refused, ()) = tokio::join!(take(&shares, &link), async {
            tokio::task::yield_now().await;
            stop.cancel();
        });
        assert!(refused.is_err() && start.elapsed().is_zero());
        assert!(take(&shares, &link).await.is_err() && start.elapsed().is_zero());
        drop(held);
        assert!(take(&shares, &link).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_for_more_than_exists_takes_everything() {
        let shares = Shares::new(SIZES, CancellationToken::new());
        let ana = shares.of(&Caller::test("ana", None)).narrowed(2);
        let all = ana.take(100).await.unwrap();
        assert!(ana.take_within(1, MAX_WAIT).await.is_err());
        drop(all);
        assert!(ana.take_within(1, MAX_WAIT).await.is_ok());
    }
}
