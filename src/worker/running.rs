//! The jobs that run now: how far each is, and the means to stop it. In memory only; the database has the states.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio_util::sync::CancellationToken;

use super::{task::TaskId, ytdlp::Progress};

/// A job under way.
pub(crate) struct Running {
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
    pub(crate) fn progress(&self) -> Progress {
        *locked(&self.progress)
    }

    /// Notes progress. A download in several parts starts over with each; what is shown, which is returned, never goes back.
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
    /// Enters a job that stops when `stop` does.
    pub(crate) fn enter(&self, id: TaskId, stop: CancellationToken) -> Arc<Running> {
        let running = Arc::new(Running { stop, done: CancellationToken::new(), progress: Mutex::default() });
        locked(&self.0).insert(id, Arc::clone(&running));
        running
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
