//! Tracks which streams are being prepared, for which users, and which have failed lately.

use std::{collections::HashMap, convert::Infallible, future::pending, time::Duration};

use parking_lot::{Mutex, MutexGuard};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use super::RemuxError;
use crate::{
    shares::{ShareGuard, Shares, Sizes},
    tasks::{id::TaskId, owner::Owner, task::Task},
};

/// How many preparations work at a time; each reads and writes a whole file.
const SLOTS: Sizes = Sizes { all: 2, user: 1, link: 1 };

/// The maximum number of preparations, including those that wait for a slot: in total and for one user. A user without one is admitted beyond
/// `MAX_RUNS`, up to `MAX_RUNS_EVER`, which only many users together can reach.
const MAX_RUNS: usize = 16;
const MAX_RUNS_PER_USER: usize = 4;
const MAX_RUNS_EVER: usize = 256;

/// While other users wait, a preparation must process the file at this rate, in bytes per second, after a grace period.
const MIN_RATE: u64 = 2 << 20;
const GRACE: Duration = Duration::from_mins(1);

/// Each time a preparation was too slow, the next one of the same file may take twice as long, up to this factor, so that even a slow disk
/// finishes it.
const MAX_FACTOR: u32 = 64;

/// How long a file that could not be prepared is not tried again.
const FAILURE_LIFETIME: Duration = Duration::from_mins(5);

/// The maximum number of files to remember that could not be prepared, or not in time.
const MAX_REMEMBERED: usize = 1_024;

type RunResult = Result<(), RemuxError>;

/// All preparations, working and waiting.
pub(super) struct Preparations {
    inner: Mutex<Inner>,
    slots: Shares,
}

#[derive(Default)]
struct Inner {
    under_way: HashMap<TaskId, Preparation>,
    failed: HashMap<TaskId, (Instant, RemuxError)>,
    /// How often the preparation of each file was too slow while other users waited.
    too_slow: HashMap<TaskId, u32>,
}

/// One stream that is being prepared, for all requests that wait for it.
#[derive(Clone)]
pub(super) struct Preparation {
    outcome: watch::Receiver<Option<RunResult>>,
    pub(super) stop: CancellationToken,
    owner: Owner,
    /// The size of the file, in bytes.
    bytes: u64,
}

/// The preparation that a request has joined.
pub(super) enum JoinedRun {
    /// An existing one, which somebody else works on.
    Existing(Preparation),
    /// A new one: the caller must do the work and send its outcome.
    New(Preparation, watch::Sender<Option<RunResult>>),
}

/// Removes a preparation from the table on drop, even if its task panics.
pub(super) struct PreparationGuard<'a> {
    runs: &'a Preparations,
    id: TaskId,
}

impl Preparations {
    pub(super) fn new(stop: CancellationToken) -> Self {
        Self { inner: Mutex::default(), slots: Shares::new(SLOTS, stop) }
    }

    /// Joins the preparation of a finished download, or adds a new one, which `stop` ends.
    pub(super) fn join(&self, task: &Task, stop: &CancellationToken) -> Result<JoinedRun, RemuxError> {
        let Task { id, owner, filesize, .. } = task;
        let mut inner = self.lock();
        if let Some(run) = inner.under_way.get(id) {
            return Ok(JoinedRun::Existing(run.clone()));
        }
        if let Some((at, error)) = inner.failed.get(id)
            && at.elapsed() < FAILURE_LIFETIME
        {
            return Err(error.clone());
        }
        let all = inner.under_way.len();
        let own = inner.under_way.values().filter(|run| run.owner == *owner).count();
        let room = if own == 0 { MAX_RUNS_EVER } else { MAX_RUNS };
        if all >= room || own >= MAX_RUNS_PER_USER {
            return Err(RemuxError::Busy);
        }
        let (outcome_sender, outcome) = watch::channel(None);
        let run = Preparation { outcome, stop: stop.child_token(), owner: owner.clone(), bytes: *filesize };
        inner.under_way.insert(*id, run.clone());
        Ok(JoinedRun::New(run, outcome_sender))
    }

    /// Removes the preparation when the returned guard is dropped.
    pub(super) fn remove_on_drop(&self, id: TaskId) -> PreparationGuard<'_> {
        PreparationGuard { runs: self, id }
    }

    /// Waits for a slot. Users take turns, however many of their preparations wait. Returns none if this one is stopped first.
    pub(super) async fn slot(&self, run: &Preparation) -> Option<ShareGuard> {
        run.stop.run_until_cancelled(self.slots.of_user(&run.owner).take(1)).await?.ok()
    }

    /// Stops a preparation that is too slow once another user waits for its slot. Never returns.
    pub(super) async fn stop_if_too_slow(&self, id: TaskId, run: &Preparation, slot: &ShareGuard) -> Infallible {
        let max_wait = (GRACE + Duration::from_secs(run.bytes / MIN_RATE)) * self.factor(id);
        slot.contested_after(max_wait, ShareGuard::is_wanted_by_others).await;
        self.note_too_slow(id);
        run.stop.cancel();
        pending().await
    }

    fn note_too_slow(&self, id: TaskId) {
        let mut inner = self.lock();
        if inner.too_slow.len() >= MAX_REMEMBERED {
            inner.too_slow.clear();
        }
        *inner.too_slow.entry(id).or_default() += 1;
    }

    fn factor(&self, id: TaskId) -> u32 {
        self.lock().too_slow.get(&id).map_or(1, |times| 1 << (*times).min(MAX_FACTOR.ilog2()))
    }

    /// Remembers a failure caused by the file or by ffmpeg. After a success, forgets how often the file was too slow.
    pub(super) fn note(&self, id: TaskId, outcome: &RunResult) {
        if outcome.is_ok() {
            self.lock().too_slow.remove(&id);
        }
        if let Err(error @ (RemuxError::NotStreamable | RemuxError::Failed)) = outcome {
            let mut inner = self.lock();
            inner.failed.retain(|_, (at, _)| at.elapsed() < FAILURE_LIFETIME);
            if inner.failed.len() < MAX_REMEMBERED {
                inner.failed.insert(id, (Instant::now(), error.clone()));
            }
        }
    }

    pub(super) fn find(&self, id: TaskId) -> Option<Preparation> {
        self.lock().under_way.get(&id).cloned()
    }

    /// Ignores poisoning: the tables are consistent even after a panic.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }
}

impl Preparation {
    /// Waits for the outcome; [`RemuxError::StillPreparing`] if there is none within `max_wait`.
    pub(super) async fn outcome(&mut self, max_wait: Duration) -> RunResult {
        match timeout(max_wait, self.outcome.wait_for(Option::is_some)).await {
            Err(_) => Err(RemuxError::StillPreparing),
            Ok(Ok(outcome)) => outcome.clone().unwrap_or(Err(RemuxError::Failed)),
            Ok(Err(_)) => Err(RemuxError::Failed),
        }
    }

    /// Stops the preparation and waits until it has ended and left nothing behind.
    pub(super) async fn end(mut self) {
        self.stop.cancel();
        // An error means that it ended without an outcome.
        let _ = self.outcome.wait_for(Option::is_some).await;
    }
}

impl Drop for PreparationGuard<'_> {
    fn drop(&mut self) {
        self.runs.lock().under_way.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::tasks::order::{Output, Quality};

    fn join(runs: &Preparations, id: TaskId, owner: &str) -> Result<JoinedRun, RemuxError> {
        let task = Task::new(owner.parse().unwrap(), String::new(), Quality::Best, Output::Video(None));
        runs.join(&Task { id, ..task }, &CancellationToken::new())
    }

    /// A new preparation of a file whose last one has ended.
    fn again(runs: &Preparations, id: TaskId, owner: &str) -> JoinedRun {
        let _ = runs.remove_on_drop(id);
        join(runs, id, owner).unwrap()
    }

    fn new(runs: &Preparations, owner: &str) -> (TaskId, Preparation) {
        let id = TaskId::random();
        match join(runs, id, owner) {
            Ok(JoinedRun::New(run, _)) => (id, run),
            _ => unreachable!("the run is new"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_user_has_one_slot_however_many_of_their_runs_wait() {
        let runs = Preparations::new(CancellationToken::new());
        let eve_runs: Vec<_> = (0..MAX_RUNS_PER_USER).map(|_| new(&runs, "eve")).collect();
        assert!(matches!(join(&runs, TaskId::random(), "eve"), Err(RemuxError::Busy)));
        assert!(matches!(join(&runs, eve_runs[0].0, "eve"), Ok(JoinedRun::Existing(_))));
        let ana = new(&runs, "ana");
        let _first = runs.slot(&eve_runs[0].1).await.unwrap();
        assert!(timeout(Duration::from_secs(1), runs.slot(&eve_runs[1].1)).await.is_err());
        let _second = runs.slot(&ana.1).await.unwrap();
        let _ = runs.remove_on_drop(eve_runs[3].0);
        assert!(join(&runs, TaskId::random(), "eve").is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_user_without_a_run_is_admitted_however_many_others_have() {
        let runs = Preparations::new(CancellationToken::new());
        for user in 0..MAX_RUNS / MAX_RUNS_PER_USER {
            (0..MAX_RUNS_PER_USER).for_each(|_| drop(new(&runs, &format!("user{user}"))));
        }
        new(&runs, "ana");
        assert!(matches!(join(&runs, TaskId::random(), "ana"), Err(RemuxError::Busy)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_that_is_too_slow_is_stopped_once_others_wait() {
        let runs = Preparations::new(CancellationToken::new());
        let ((id, slow), other, third) = (new(&runs, "ana"), new(&runs, "bob").1, new(&runs, "eve").1);
        let slot = runs.slot(&slow).await.unwrap();
        let _other = runs.slot(&other).await.unwrap();
        assert!(
            timeout(GRACE * 9, runs.stop_if_too_slow(id, &slow, &slot)).await.is_err() && !slow.stop.is_cancelled()
        );
        let too_slow = async { timeout(GRACE * 2, runs.stop_if_too_slow(id, &slow, &slot)).await };
        drop(tokio::join!(timeout(GRACE * 9, runs.slot(&third)), too_slow));
        assert!(slow.stop.is_cancelled() && !other.stop.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn only_other_users_stop_a_slow_run_and_it_has_twice_the_time_when_it_runs_again() {
        let runs = Preparations::new(CancellationToken::new());
        let ((id, slow), own, other, third) =
            (new(&runs, "ana"), new(&runs, "ana").1, new(&runs, "bob").1, new(&runs, "eve").1);
        let _other = runs.slot(&other).await.unwrap();
        let stopped_within = async |waiting: &Preparation, time: Duration| {
            let JoinedRun::New(run, _sender) = again(&runs, id, "ana") else { unreachable!("the run is new") };
            let slot = runs.slot(&run).await.unwrap();
            let stop_if_too_slow = async { timeout(time, runs.stop_if_too_slow(id, &run, &slot)).await };
            drop(tokio::join!(timeout(time, runs.slot(waiting)), stop_if_too_slow));
            run.stop.is_cancelled()
        };
        drop((runs.remove_on_drop(id), slow));
        assert!(!stopped_within(&own, GRACE * 99).await);
        assert!(stopped_within(&third, GRACE + Duration::from_secs(1)).await);
        assert!(!stopped_within(&third, GRACE * 3 / 2).await);
        assert!(stopped_within(&third, GRACE * 2 + Duration::from_secs(1)).await);
        assert!(!stopped_within(&third, GRACE * 7 / 2).await);
        runs.note(id, &Ok(()));
        assert!(stopped_within(&third, GRACE + Duration::from_secs(1)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_caused_by_the_file_is_remembered_for_a_while() {
        let runs = Preparations::new(CancellationToken::new());
        let broken = new(&runs, "ana").0;
        let other = new(&runs, "ana").0;
        for (id, error) in [(broken, RemuxError::NotStreamable), (other, RemuxError::Full)] {
            runs.note(id, &Err(error));
            let _ = runs.remove_on_drop(id);
        }
        assert!(matches!(join(&runs, broken, "ana"), Err(RemuxError::NotStreamable)));
        assert!(matches!(join(&runs, other, "ana"), Ok(JoinedRun::New(..))));
        tokio::time::advance(FAILURE_LIFETIME).await;
        assert!(matches!(join(&runs, broken, "ana"), Ok(JoinedRun::New(..))));
    }
}
