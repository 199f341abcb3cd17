//! What is being prepared, whose each film is, and what has failed lately.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, SemaphorePermit, watch},
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use super::RemuxError;
use crate::{username::UserName, worker::task::TaskId};

/// At a time; each reads and writes a whole film. Nobody has more than one of these.
const AT_A_TIME: usize = 2;

/// With those that wait for that: of all, and of one user.
const MAX_RUNS: usize = 16;
const MAX_RUNS_PER_USER: usize = 4;

/// For so long a film that could not be prepared is not tried again.
const REMEMBERED: Duration = Duration::from_mins(5);

/// So many such films are remembered.
const MAX_REMEMBERED: usize = 1_024;

type Outcome = Result<(), RemuxError>;

/// Every run under way.
pub(super) struct Runs {
    inner: Mutex<Inner>,
    slots: Semaphore,
}

#[derive(Default)]
struct Inner {
    under_way: HashMap<TaskId, Run>,
    failed: HashMap<TaskId, (Instant, RemuxError)>,
}

/// One film that is being prepared, for as many as wait for it.
#[derive(Clone)]
pub(super) struct Run {
    outcome: watch::Receiver<Option<Outcome>>,
    pub(super) stop: CancellationToken,
    owner: UserName,
    /// The owner's, for one film at a time: users have a slot in turn, however many films of theirs wait.
    turn: Arc<Semaphore>,
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

impl Default for Runs {
    fn default() -> Self {
        Self { inner: Mutex::default(), slots: Semaphore::new(AT_A_TIME) }
    }
}

impl Runs {
    /// Joins the run for a film of `owner`'s, or enters a new one that ends with `stop`.
    pub(super) fn join(&self, id: TaskId, owner: &UserName, stop: &CancellationToken) -> Result<Joined, RemuxError> {
        let mut inner = self.lock();
        if let Some(run) = inner.under_way.get(&id) {
            return Ok(Joined::UnderWay(run.clone()));
        }
        if let Some((at, error)) = inner.failed.get(&id)
            && at.elapsed() < REMEMBERED
        {
            return Err(error.clone());
        }
        let of_owner = || inner.under_way.values().filter(|run| run.owner == *owner);
        if inner.under_way.len() >= MAX_RUNS || of_owner().count() >= MAX_RUNS_PER_USER {
            return Err(RemuxError::Busy);
        }
        let turn = of_owner().next().map_or_else(|| Arc::new(Semaphore::new(1)), |run| Arc::clone(&run.turn));
        let (told, outcome) = watch::channel(None);
        let run = Run { outcome, stop: stop.child_token(), owner: owner.clone(), turn };
        inner.under_way.insert(id, run.clone());
        Ok(Joined::New(run, told))
    }

    /// Takes the run out when what is returned is dropped.
    pub(super) fn leave_later(&self, id: TaskId) -> Leaving<'_> {
        Leaving { runs: self, id }
    }

    /// Waits for a place to work in; none when the run is stopped first.
    pub(super) async fn place<'a>(&'a self, run: &'a Run) -> Option<(SemaphorePermit<'a>, SemaphorePermit<'a>)> {
        let place = async { Some((run.turn.acquire().await.ok()?, self.slots.acquire().await.ok()?)) };
        run.stop.run_until_cancelled(place).await?
    }

    /// Remembers a failure that is the film's, or ffmpeg's.
    pub(super) fn note(&self, id: TaskId, outcome: &Outcome) {
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

    fn join(runs: &Runs, id: TaskId, owner: &str) -> Result<Joined, RemuxError> {
        runs.join(id, &owner.parse().unwrap(), &CancellationToken::new())
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
        let runs = Runs::default();
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
    async fn a_failure_of_the_films_own_is_remembered_for_a_while() {
        let runs = Runs::default();
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
