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
    shares::{Shares, Sizes, Taken},
    tasks::{id::TaskId, owner::Owner, task::Task},
};

/// How many preparations work at a time; each reads and writes a whole file.
const PLACES: Sizes = Sizes { all: 2, user: 1, link: 1 };

/// The most preparations, including those that wait for a slot: in total and for one user. A user without one is admitted beyond
/// `MAX_RUNS`, up to `MAX_RUNS_EVER`, which only many users together can reach.
const MAX_RUNS: usize = 16;
const MAX_RUNS_PER_USER: usize = 4;
const MAX_RUNS_EVER: usize = 256;

/// While other users wait, a preparation must process the file at this rate, in bytes per second, after a grace period.
const LEAST_RATE: u64 = 2 << 20;
const GRACE: Duration = Duration::from_mins(1);

/// Each time a preparation was too slow, the next one of the same file may take twice as long, up to this factor, so that even a slow disk
/// finishes it.
const MAX_FACTOR: u32 = 64;

/// How long a file that could not be prepared is not tried again.
const REMEMBERED: Duration = Duration::from_mins(5);

/// The most files to remember that could not be prepared, or not in time.
const MAX_REMEMBERED: usize = 1_024;

type RunResult = Result<(), RemuxError>;

/// All preparations, working and waiting.
pub(super) struct Preparations {
    inner: Mutex<Inner>,
    places: Shares,
}

#[derive(Default)]
struct Inner {
    under_way: HashMap<TaskId, Preparation>,
    failed: HashMap<TaskId, (Instant, RemuxError)>,
    /// How often the preparation of each file was too slow while other users waited.
    hurried: HashMap<TaskId, u32>,
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
pub(super) enum Joined {
    /// An existing one, which somebody else works on.
    UnderWay(Preparation),
    /// A new one: the caller must do the work and send its outcome.
    New(Preparation, watch::Sender<Option<RunResult>>),
}

/// Removes a preparation from the table on drop, even if its task panics.
pub(super) struct Leaving<'a> {
    runs: &'a Preparations,
    id: TaskId,
}

impl Preparations {
    pub(super) fn new(stop: CancellationToken) -> Self {
        Self { inner: Mutex::default(), places: Shares::new(PLACES, stop) }
    }

    /// Joins the preparation of a finished download, or adds a new one, which `stop` ends.
    pub(super) fn join(&self, film: &Task, stop: &CancellationToken) -> Result<Joined, RemuxError> {
        let Task { id, owner, filesize, .. } = film;
        let mut inner = self.lock();
        if let Some(run) = inner.under_way.get(id) {
            return Ok(Joined::UnderWay(run.clone()));
        }
        if let Some((at, error)) = inner.failed.get(id)
            && at.elapsed() < REMEMBERED
        {
            return Err(error.clone());
        }
        let all = inner.under_way.len();
        let own = inner.under_way.values().filter(|run| run.owner == *owner).count();
        let room = if own == 0 { MAX_RUNS_EVER } else { MAX_RUNS };
        if all >= room || own >= MAX_RUNS_PER_USER {
            return Err(RemuxError::Busy);
        }
        let (told, outcome) = watch::channel(None);
        let run = Preparation { outcome, stop: stop.child_token(), owner: owner.clone(), bytes: *filesize };
        inner.under_way.insert(*id, run.clone());
        Ok(Joined::New(run, told))
    }

    /// Removes the preparation when the returned guard is dropped.
    pub(super) fn leave_later(&self, id: TaskId) -> Leaving<'_> {
        Leaving { runs: self, id }
    }

    /// Waits for a slot. Users take turns, however many of their preparations wait. Returns none if this one is stopped first.
    pub(super) async fn place(&self, run: &Preparation) -> Option<Taken> {
        run.stop.run_until_cancelled(self.places.of_user(&run.owner).take(1)).await?.ok()
    }

    /// Stops a preparation that is too slow once another user waits for its slot. Never returns.
    pub(super) async fn hurry(&self, id: TaskId, run: &Preparation, place: &Taken) -> Infallible {
        let patience = (GRACE + Duration::from_secs(run.bytes / LEAST_RATE)) * self.factor(id);
        place.outstayed(patience, Taken::is_wanted_by_others).await;
        self.note_hurried(id);
        run.stop.cancel();
        pending().await
    }

    fn note_hurried(&self, id: TaskId) {
        let mut inner = self.lock();
        if inner.hurried.len() >= MAX_REMEMBERED {
            inner.hurried.clear();
        }
        *inner.hurried.entry(id).or_default() += 1;
    }

    fn factor(&self, id: TaskId) -> u32 {
        self.lock().hurried.get(&id).map_or(1, |times| 1 << (*times).min(MAX_FACTOR.ilog2()))
    }

    /// Remembers a failure caused by the file or by ffmpeg. After a success, forgets how often the file was too slow.
    pub(super) fn note(&self, id: TaskId, outcome: &RunResult) {
        if outcome.is_ok() {
            self.lock().hurried.remove(&id);
        }
        if let Err(error @ (RemuxError::NotStreamable | RemuxError::Failed)) = outcome {
            let mut inner = self.lock();
            inner.failed.retain(|_, (at, _)| at.elapsed() < REMEMBERED);
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
    /// Waits for the outcome; [`RemuxError::NotYet`] if there is none within `patience`.
    pub(super) async fn outcome(&mut self, patience: Duration) -> RunResult {
        match timeout(patience, self.outcome.wait_for(Option::is_some)).await {
            Err(_) => Err(RemuxError::NotYet),
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

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.runs.lock().under_way.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::tasks::order::{Output, Quality};

    fn join(runs: &Preparations, id: TaskId, owner: &str) -> Result<Joined, RemuxError> {
        let film = Task::new(owner.parse().unwrap(), String::new(), Quality::Best, Output::Video(None));
        runs.join(&Task { id, ..film }, &CancellationToken::new())
    }

    /// A new preparation of a file whose last one has ended.
    fn again(runs: &Preparations, id: TaskId, owner: &str) -> Joined {
        let _ = runs.leave_later(id);
        join(runs, id, owner).unwrap()
    }

    fn new(runs: &Preparations, owner: &str) -> (TaskId, Preparation) {
        let id = TaskId::random();
        match join(runs, id, owner) {
            Ok(Joined::New(run, _)) => (id, run),
            _ => unreachable!("the run is new"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_user_has_one_slot_however_many_of_their_runs_wait() {
        let runs = Preparations::new(CancellationToken::new());
        let eves: Vec<_> = (0..MAX_RUNS_PER_USER).map(|_| new(&runs, "eve")).collect();
        assert!(matches!(join(&runs, TaskId::random(), "eve"), Err(RemuxError::Busy)));
        assert!(matches!(join(&runs, eves[0].0, "eve"), Ok(Joined::UnderWay(_))));
        let ana = new(&runs, "ana");
        let _first = runs.place(&eves[0].1).await.unwrap();
        assert!(timeout(Duration::from_secs(1), runs.place(&eves[1].1)).await.is_err());
        let _second = runs.place(&ana.1).await.unwrap();
        let _ = runs.leave_later(eves[3].0);
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
        let place = runs.place(&slow).await.unwrap();
        let _other = runs.place(&other).await.unwrap();
        assert!(timeout(GRACE * 9, runs.hurry(id, &slow, &place)).await.is_err() && !slow.stop.is_cancelled());
        let hurried = async { timeout(GRACE * 2, runs.hurry(id, &slow, &place)).await };
        drop(tokio::join!(timeout(GRACE * 9, runs.place(&third)), hurried));
        assert!(slow.stop.is_cancelled() && !other.stop.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn only_other_users_stop_a_slow_run_and_it_has_twice_the_time_when_it_runs_again() {
        let runs = Preparations::new(CancellationToken::new());
        let ((id, slow), own, other, third) =
            (new(&runs, "ana"), new(&runs, "ana").1, new(&runs, "bob").1, new(&runs, "eve").1);
        let _other = runs.place(&other).await.unwrap();
        let hurried_for = async |waiting: &Preparation, time: Duration| {
            let Joined::New(run, _told) = again(&runs, id, "ana") else { unreachable!("the run is new") };
            let place = runs.place(&run).await.unwrap();
            let hurry = async { timeout(time, runs.hurry(id, &run, &place)).await };
            drop(tokio::join!(timeout(time, runs.place(waiting)), hurry));
            run.stop.is_cancelled()
        };
        drop((runs.leave_later(id), slow));
        assert!(!hurried_for(&own, GRACE * 99).await);
        assert!(hurried_for(&third, GRACE + Duration::from_secs(1)).await);
        assert!(!hurried_for(&third, GRACE * 3 / 2).await);
        assert!(hurried_for(&third, GRACE * 2 + Duration::from_secs(1)).await);
        assert!(!hurried_for(&third, GRACE * 7 / 2).await);
        runs.note(id, &Ok(()));
        assert!(hurried_for(&third, GRACE + Duration::from_secs(1)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_caused_by_the_file_is_remembered_for_a_while() {
        let runs = Preparations::new(CancellationToken::new());
        let film = new(&runs, "ana").0;
        let other = new(&runs, "ana").0;
        for (id, error) in [(film, RemuxError::NotStreamable), (other, RemuxError::Full)] {
            runs.note(id, &Err(error));
            let _ = runs.leave_later(id);
        }
        assert!(matches!(join(&runs, film, "ana"), Err(RemuxError::NotStreamable)));
        assert!(matches!(join(&runs, other, "ana"), Ok(Joined::New(..))));
        tokio::time::advance(REMEMBERED).await;
        assert!(matches!(join(&runs, film, "ana"), Ok(Joined::New(..))));
    }
}
