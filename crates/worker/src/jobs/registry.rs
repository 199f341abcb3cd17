//! The running jobs, with the progress of each and the means to stop it. In memory only; the states are in the database.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::tasks::{id::TaskId, owner::Owner, progress::Progress};

/// A running job.
pub(crate) struct Running {
    pub(crate) owner: Owner,
    pub(crate) since: Instant,
    /// The job is being stopped to make room and becomes pending again.
    gives_way: AtomicBool,
    /// Cancelled to stop the job.
    pub(crate) stop: CancellationToken,
    /// Cancelled once the job has ended.
    done: CancellationToken,
    progress: Mutex<Progress>,
}

/// All running jobs.
#[derive(Default)]
pub(crate) struct JobRegistry(Mutex<HashMap<TaskId, Arc<Running>>>);

/// Removes a job from the registry on drop.
pub(crate) struct RegistrationGuard<'a> {
    registry: &'a JobRegistry,
    id: TaskId,
}

impl Drop for RegistrationGuard<'_> {
    fn drop(&mut self) {
        if let Some(running) = locked(&self.registry.0).remove(&self.id) {
            running.done.cancel();
        }
    }
}

impl Running {
    /// Creates a job that starts now and is stopped by `stop`.
    pub(crate) fn new(owner: Owner, stop: CancellationToken) -> Self {
        let done = CancellationToken::new();
        let progress = Mutex::default();
        Self { owner, since: Instant::now(), gives_way: AtomicBool::new(false), stop, done, progress }
    }

    /// Stops the job to make room.
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

    /// Records progress and returns what to show. The percentage never decreases, even if another attempt starts over.
    pub(crate) fn advance(&self, progress: Progress) -> Progress {
        let mut last = locked(&self.progress);
        let percent = progress.percent.max(last.percent);
        *last = Progress { percent, ..progress };
        *last
    }

    /// Waits until the job has ended.
    pub(crate) async fn ended(&self) {
        self.done.cancelled().await;
    }
}

impl JobRegistry {
    /// Adds a job.
    pub(crate) fn add(&self, id: TaskId, running: Running) -> Arc<Running> {
        let running = Arc::new(running);
        locked(&self.0).insert(id, Arc::clone(&running));
        running
    }

    /// Returns all jobs.
    pub(crate) fn all(&self) -> Vec<(TaskId, Arc<Running>)> {
        locked(&self.0).iter().map(|(id, running)| (*id, Arc::clone(running))).collect()
    }

    /// Returns a guard that removes the job on drop, and therefore even if its tokio task panics.
    pub(crate) fn remove_on_drop(&self, id: TaskId) -> RegistrationGuard<'_> {
        RegistrationGuard { registry: self, id }
    }

    pub(crate) fn find(&self, id: TaskId) -> Option<Arc<Running>> {
        locked(&self.0).get(&id).cloned()
    }
}

/// Locks and ignores poisoning: the data is consistent even after a panic.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock()
}
