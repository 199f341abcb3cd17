//! Claims tasks and runs them as jobs.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{PAUSE, Queue};
use crate::{
    jobs::{context::JobContext, dedup::CompletedFile, failure::Failure, job::Job, registry::Running},
    store::{ClaimResult, StoreError},
    tasks::{
        id::TaskId,
        task::{Status, Task},
    },
};

/// The longest that the queue waits before it checks again, so that a clock jump delays nothing.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// What a free slot does next.
enum Claim {
    Job(Box<Task>, Arc<Running>),
    Wait(Duration),
}

impl Queue {
    /// Runs jobs until the queue is stopped, which also stops the running jobs and makes them pending again.
    pub(crate) async fn work(&self) {
        let slots = Arc::new(Semaphore::new(self.0.context.config.concurrent_downloads));
        let mut jobs = JoinSet::new();
        while let Some(slot) = self.unless_stopped(Arc::clone(&slots).acquire_owned()).await.and_then(Result::ok) {
            if let Some((task, running)) = self.next().await {
                let queue = self.clone();
                jobs.spawn(async move {
                    let finished = queue.run(&task, &running).await;
                    drop(slot);
                    if let Some(completed) = finished {
                        queue.0.dedup.share(completed, &queue.0.stop).await;
                    }
                });
            }
            while jobs.try_join_next().is_some() {}
        }
        while jobs.join_next().await.is_some() {}
    }

    /// Returns the next task, or `None` after waiting without one.
    async fn next(&self) -> Option<(Box<Task>, Arc<Running>)> {
        if self.0.context.readiness.tools().await.is_err() {
            self.unless_stopped(sleep(PAUSE)).await;
            return None;
        }
        match self.claim().await {
            Ok(Claim::Job(task, running)) => return Some((task, running)),
            Ok(Claim::Wait(time)) => {
                self.unless_stopped(timeout(time, self.0.wake.notified())).await;
            }
            Err(error) => {
                tracing::error!(%error, "cannot claim a task");
                self.unless_stopped(sleep(PAUSE)).await;
            }
        }
        None
    }

    async fn claim(&self) -> Result<Claim, StoreError> {
        let _handover = self.0.handover.lock().await;
        let JobContext { store, config, announcer, .. } = &self.0.context;
        Ok(match store.claim(config.concurrent_downloads_per_user).await? {
            ClaimResult::Claimed(task) => {
                let running = Running::new(task.owner.clone(), self.0.stop.child_token());
                let running = self.0.running.add(task.id, running);
                announcer.changed(task.id).await;
                Claim::Job(task, running)
            }
            ClaimResult::Later(time) => Claim::Wait(time.min(LONGEST_WAIT)),
            ClaimResult::Nothing => Claim::Wait(LONGEST_WAIT),
        })
    }

    /// Runs a job to its end and returns the file that the task was completed with, if any.
    async fn run(&self, task: &Task, running: &Running) -> Option<CompletedFile> {
        let _guard = self.0.running.remove_on_drop(task.id);
        tracing::info!(task = %task.id, user = %task.owner, "download started");
        let outcome = Job::new(&self.0.context, task, running).run().await;
        let gave_way = matches!(outcome, Err(Failure::Stopped)) && running.gives_way();
        let completed =
            if gave_way && self.requeue(task.id).await { None } else { self.store_outcome(task, &outcome).await };
        self.0.context.announcer.changed(task.id).await;
        if let Some(list) = task.playlist_role.list() {
            self.settle(list, &task.owner).await;
        }
        // Another task of this owner may start now, or this one waits for its retry.
        self.0.wake.notify_one();
        completed
    }

    /// Makes a task that gave way pending again, unless it was cancelled in the meantime.
    async fn requeue(&self, id: TaskId) -> bool {
        let store = &self.0.context.store;
        while let Err(error) = store.give_way(id).await {
            tracing::error!(task = %id, %error, "cannot requeue a download that gave way");
            if self.unless_stopped(sleep(PAUSE)).await.is_none() {
                return true;
            }
        }
        matches!(store.get(id).await, Ok(Some(task)) if task.status == Status::Pending)
    }
}
