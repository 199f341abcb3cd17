//! What is being prepared, whose each film is, and what has failed lately.

use std::{
    collections::HashMap,
    convert::Infallible,
    future::pending,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use super::RemuxError;
use crate::{
    worker::owner::Owner,
    worker::{
        shares::{Shares, Sizes, Taken},
        task::{Task, TaskId},
    },
};

/// At a time; each reads and writes a whole film.
const PLACES: Sizes = Sizes { all: 2, user: 1, link: 1 };

/// With those that wait for that: of all, and of one user. A user who has none is let in beyond that, up to a bound that many users
/// reach only together.
const MAX_RUNS: usize = 16;
const MAX_RUNS_PER_USER: usize = 4;
const MAX_RUNS_EVER: usize = 256;

/// While other users wait, a film must be prepared at this rate, in bytes per second, after some time to begin.
const LEAST_RATE: u64 = 2 << 20;
const GRACE: Duration = Duration::from_mins(1);

/// Each time a film is too slow, its next run may take twice as long, up to this factor, so that a slow disk finishes it as well.
const MAX_FACTOR: u32 = 64;

/// For so long a film that could not be prepared is not tried again.
const REMEMBERED: Duration = Duration::from_mins(5);

/// How many films are remembered that could not be prepared, or not in time.
const MAX_REMEMBERED: usize = 1_024;

type Outcome = Result<(), RemuxError>;

/// Every run under way.
pub(super) struct Runs {
    inner: Mutex<Inner>,
    places: Shares,
}

#[derive(Default)]
struct Inner {
    under_way: HashMap<TaskId, Run>,
    failed: HashMap<TaskId, (Instant, RemuxError)>,
    /// How often each film was too slow while other users waited.
    hurried: HashMap<TaskId, u32>,
}

/// One film that is being prepared, for as many as wait for it.
#[derive(Clone)]
pub(super) struct Run {
    outcome: watch::Receiver<Option<Outcome>>,
    pub(super) stop: CancellationToken,
    owner: Owner,
    /// The size of the film.
    bytes: u64,
}

/// A film, and what is to be done for it.
pub(super) enum Joined {
    /// Somebody else's run will do.
    UnderWay(Run),
    /// This one is to be done, and its outcome to be told.
    New(Run, watch::Sender<Option<Outcome>>),
}

/// A run that is about to end, also where its task was lost.
pub(super) struct Leaving<'a> {
    runs: &'a Runs,
    id: TaskId,
}

impl Runs {
    pub(super) fn new(stop: CancellationToken) -> Self {
        Self { inner: Mutex::default(), places: Shares::new(PLACES, stop) }
    }

    /// Joins the run for a finished film, or enters a new one that ends with `stop`.
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
        let (all, own) = (inner.under_way.len(), inner.under_way.values().filter(|run| run.owner == *owner).count());
        let room = if own == 0 { MAX_RUNS_EVER } else { MAX_RUNS };
        if all >= room || own >= MAX_RUNS_PER_USER {
            return Err(RemuxError::Busy);
        }
        let (told, outcome) = watch::channel(None);
        let run = Run { outcome, stop: stop.child_token(), owner: owner.clone(), bytes: *filesize };
        inner.under_way.insert(*id, run.clone());
        Ok(Joined::New(run, told))
    }

    /// Takes the run out when what is returned is dropped.
    pub(super) fn leave_later(&self, id: TaskId) -> Leaving<'_> {
        Leaving { runs: self, id }
    }

    /// Waits for a place to work in, which users have in turn, however many films of theirs wait; none when the run is stopped first.
    pub(super) async fn place(&self, run: &Run) -> Option<Taken> {
        run.stop.run_until_cancelled(self.places.of_user(&run.owner).take(1)).await?.ok()
    }

    /// Stops a run that is too slow once another user waits for its place; never returns by itself.
    pub(super) async fn hurry(&self, id: TaskId, run: &Run, place: &Taken) -> Infallible {
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

    /// Remembers a failure that is the film's, or ffmpeg's, and forgets how slow a film was that is prepared.
    pub(super) fn note(&self, id: TaskId, outcome: &Outcome) {
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

    pub(super) fn find(&self, id: TaskId) -> Option<Run> {
        self.lock().under_way.get(&id).cloned()
    }

    /// What is behind the lock is whole after a panic, too.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Run {
    /// How it ended; [`RemuxError::NotYet`] when it has not by then.
    pub(super) async fn outcome(&mut self, patience: Duration) -> Outcome {
        match timeout(patience, self.outcome.wait_for(Option::is_some)).await {
            Err(_) => Err(RemuxError::NotYet),
            Ok(Ok(outcome)) => outcome.clone().unwrap_or(Err(RemuxError::Failed)),
            Ok(Err(_)) => Err(RemuxError::Failed),
        }
    }

    /// Stops it and waits until nothing of it is left.
    pub(super) async fn end(mut self) {
        self.stop.cancel();
        // It has an outcome, or is gone without.
        drop(self.outcome.wait_for(Option::is_some).await);
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

    use crate::worker::order::{Output, Quality};

    fn join(runs: &Runs, id: TaskId, owner: &str) -> Result<Joined, RemuxError> {
        let film = Task::new(owner.parse().unwrap(), String::new(), Quality::Best, Output::Video(None));
        runs.join(&Task { id, ..film }, &CancellationToken::new())
    }

    /// A new run for a film, whose last one has ended.
    fn again(runs: &Runs, id: TaskId, owner: &str) -> Joined {
        drop(runs.leave_later(id));
        join(runs, id, owner).unwrap()
    }

    fn new(runs: &Runs, owner: &str) -> (TaskId, Run) {
        let id = TaskId::random();
        match join(runs, id, owner) {
            Ok(Joined::New(run, _)) => (id, run),
            _ => unreachable!("it is new"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_user_has_one_place_however_many_films_of_his_wait() {
        let runs = Runs::new(CancellationToken::new());
        let eves: Vec<_> = (0..MAX_RUNS_PER_USER).map(|_| new(&runs, "eve")).collect();
        assert!(matches!(join(&runs, TaskId::random(), "eve"), Err(RemuxError::Busy)));
        assert!(matches!(join(&runs, eves[0].0, "eve"), Ok(Joined::UnderWay(_))));
        let ana = new(&runs, "ana");
        let _first = runs.place(&eves[0].1).await.unwrap();
        assert!(timeout(Duration::from_secs(1), runs.place(&eves[1].1)).await.is_err());
        let _second = runs.place(&ana.1).await.unwrap();
        drop(runs.leave_later(eves[3].0));
        assert!(join(&runs, TaskId::random(), "eve").is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_user_without_a_run_is_let_in_however_many_others_have() {
        let runs = Runs::new(CancellationToken::new());
        for user in 0..MAX_RUNS / MAX_RUNS_PER_USER {
            (0..MAX_RUNS_PER_USER).for_each(|_| drop(new(&runs, &format!("user{user}"))));
        }
        new(&runs, "ana");
        assert!(matches!(join(&runs, TaskId::random(), "ana"), Err(RemuxError::Busy)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_that_is_too_slow_is_stopped_once_others_wait() {
        let runs = Runs::new(CancellationToken::new());
        let ((id, slow), other, third) = (new(&runs, "ana"), new(&runs, "bob").1, new(&runs, "eve").1);
        let place = runs.place(&slow).await.unwrap();
        let _other = runs.place(&other).await.unwrap();
        assert!(timeout(GRACE * 9, runs.hurry(id, &slow, &place)).await.is_err() && !slow.stop.is_cancelled());
        let hurried = async { timeout(GRACE * 2, runs.hurry(id, &slow, &place)).await };
        drop(tokio::join!(timeout(GRACE * 9, runs.place(&third)), hurried));
        assert!(slow.stop.is_cancelled() && !other.stop.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn a_users_own_next_film_stops_none_and_a_stopped_one_has_twice_the_time_when_it_runs_again() {
        let runs = Runs::new(CancellationToken::new());
        let ((id, slow), own, other, third) =
            (new(&runs, "ana"), new(&runs, "ana").1, new(&runs, "bob").1, new(&runs, "eve").1);
        let _other = runs.place(&other).await.unwrap();
        let hurried_for = async |waiting: &Run, time: Duration| {
            let Joined::New(run, _told) = again(&runs, id, "ana") else { unreachable!("it is new") };
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
    async fn a_failure_of_the_films_own_is_remembered_for_a_while() {
        let runs = Runs::new(CancellationToken::new());
        let (film, other) = (new(&runs, "ana").0, new(&runs, "ana").0);
        for (id, error) in [(film, RemuxError::NotStreamable), (other, RemuxError::Full)] {
            runs.note(id, &Err(error));
            drop(runs.leave_later(id));
        }
        assert!(matches!(join(&runs, film, "ana"), Err(RemuxError::NotStreamable)));
        assert!(matches!(join(&runs, other, "ana"), Ok(Joined::New(..))));
        tokio::time::advance(REMEMBERED).await;
        assert!(matches!(join(&runs, film, "ana"), Ok(Joined::New(..))));
    }
}
