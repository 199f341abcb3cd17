//! The jobs that run now: how far each is, and the means to stop it. In memory only; the database has the states.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{task::TaskId, ytdlp::Progress};
use crate::worker::owner::Owner;

/// A job under way.
pub(crate) struct Running {
    pub(crate) owner: Owner,
    pub(crate) since: Instant,
    /// It is stopped to make room, and waits for its next turn.
    gives_way: AtomicBool,
    /// Cancelled to stop it.
    pub(crate) stop: CancellationToken,
    /// Cancelled when nothing of it runs any more.
    done: CancellationToken,
    progress: Mutex<Progress>,
}

/// Every job under way.
#[derive(Default)]
pub(crate) struct Registry(Mutex<HashMap<TaskId, Arc<Running>>>);

/// A job that is about to end.
pub(crate) struct Leaving<'a> {
    registry: &'a Registry,
    id: TaskId,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        if let Some(running) = locked(&self.registry.0).remove(&self.id) {
            running.done.cancel();
        }
    }
}

impl Running {
    /// One that begins now, and stops when `stop` does.
    pub(crate) fn new(owner: Owner, stop: CancellationToken) -> Self {
        let (done, progress) = (CancellationToken::new(), Mutex::default());
        Self { owner, since: Instant::now(), gives_way: AtomicBool::new(false), stop, done, progress }
    }

    /// Stops it to make room.
    pub(crate) fn give_way(&self) {
        self.gives_way.store(true, Ordering::Relaxed);
        self.stop.cancel();
    }

    pub(crate) fn gives_way(&self) -> bool {
        self.gives_way.load(Ordering::Relaxed)
    }

    pub(crate) fn progress(&self) -> Progress {
        *locked(&self.progress)
    }

    /// Notes progress and returns what is shown, which never goes back, whatever another try starts from.
    pub(crate) fn advance(&self, progress: Progress) -> Progress {
        let mut last = locked(&self.progress);
        let percent = progress.percent.max(last.percent);
        *last = Progress { percent, ..progress };
        *last
    }

    /// Waits until nothing of it runs any more.
    pub(crate) async fn ended(&self) {
        self.done.cancelled().await;
    }
}

impl Registry {
    /// Enters a job.
    pub(crate) fn enter(&self, id: TaskId, running: Running) -> Arc<Running> {
        let running = Arc::new(running);
        locked(&self.0).insert(id, Arc::clone(&running));
        running
    }

    /// Every one.
    pub(crate) fn all(&self) -> Vec<(TaskId, Arc<Running>)> {
        locked(&self.0).iter().map(|(id, running)| (*id, Arc::clone(running))).collect()
    }

    /// Takes the job out when what is returned is dropped, so also when its task was lost.
    pub(crate) fn leave_later(&self, id: TaskId) -> Leaving<'_> {
        Leaving { registry: self, id }
    }

    pub(crate) fn find(&self, id: TaskId) -> Option<Arc<Running>> {
        locked(&self.0).get(&id).cloned()
    }
}

/// What is behind these locks is whole after a panic, too.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
