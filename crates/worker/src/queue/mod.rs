//! The queue: claims pending tasks in order, runs a limited number at a time, and cancels or removes them on request.

mod commands;
pub(super) mod giving_way;
mod outcome;
mod removal;
mod work;

use std::{sync::Arc, time::Duration};

use thiserror::Error;
use tokio::{
    sync::{Mutex, Notify},
    task::{JoinError, spawn_blocking},
};
use tokio_util::sync::CancellationToken;

use crate::{
    jobs::{
        context::JobContext,
        dedup::Dedup,
        registry::{JobRegistry, Running},
    },
    store::{SettleResult, StoreError},
    streaming::hls::Streams,
    tasks::{id::TaskId, owner::Owner, progress::Progress},
};

/// How long to wait before a retry after an internal failure.
const PAUSE: Duration = Duration::from_secs(5);

/// The download queue. Clones share it.
#[derive(Clone)]
pub(crate) struct Queue(Arc<Inner>);

struct Inner {
    context: JobContext,
    streams: Streams,
    dedup: Dedup,
    running: JobRegistry,
    /// Held while a task changes state, so that none can be claimed and cancelled at the same time.
    handover: Mutex<()>,
    wake: Notify,
    stop: CancellationToken,
}

/// The reason why a command was not carried out.
#[derive(Debug, Error)]
pub(crate) enum QueueError {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The cause is in the log.
    #[error("the task cannot be removed")]
    NotRemoved,
    #[error("the command was interrupted: {0}")]
    Lost(#[from] JoinError),
}

impl Queue {
    /// Cancelling `stop` stops all jobs. A task that is removed also loses its stream among `streams`.
    pub(crate) fn new(context: JobContext, streams: Streams, stop: CancellationToken) -> Self {
        let dedup = Dedup::new(context.store.clone(), context.media.clone());
        let running = JobRegistry::default();
        Self(Arc::new(Inner {
            context,
            streams,
            dedup,
            running,
            handover: Mutex::default(),
            wake: Notify::new(),
            stop,
        }))
    }

    pub(crate) fn context(&self) -> &JobContext {
        &self.0.context
    }

    pub(crate) fn streams(&self) -> &Streams {
        &self.0.streams
    }

    /// Returns the running jobs.
    pub(crate) fn running_jobs(&self) -> Vec<(TaskId, Arc<Running>)> {
        self.0.running.all()
    }

    /// Returns the waiting user that a running download should make room for. Returns `None` if a slot is free, if a download already gives
    /// way, or if only tasks of low priority are waiting.
    pub(crate) async fn user_waiting_for_slot(&self) -> Result<Option<Owner>, StoreError> {
        let JobContext { store, config, .. } = &self.0.context;
        let running = self.0.running.all();
        if running.len() < config.concurrent_downloads || running.iter().any(|(_, running)| running.gives_way()) {
            return Ok(None);
        }
        store.next_owner(config.concurrent_downloads_per_user).await
    }

    /// Returns the progress of a running task.
    pub(crate) fn progress(&self, id: TaskId) -> Option<Progress> {
        self.0.running.find(id).map(|running| running.progress())
    }

    /// Updates a playlist after one of its videos has changed.
    async fn settle(&self, list: TaskId, owner: &Owner) {
        match self.0.context.store.settle(list).await {
            Ok(SettleResult::Changed) => self.0.context.announcer.changed(list).await,
            Ok(SettleResult::Gone) => self.0.context.announcer.removed(list, owner).await,
            Ok(SettleResult::Unchanged) => {}
            Err(error) => tracing::error!(task = %list, %error, "cannot update the progress of a playlist"),
        }
    }

    /// Removes files that are no longer needed. Best effort: whatever remains is found again at the next startup.
    async fn discard(&self, id: TaskId) {
        let media = self.0.context.media.clone();
        if let Ok(Err(error)) = spawn_blocking(move || media.remove(id)).await {
            tracing::warn!(task = %id, %error, "cannot remove the remains of an unfinished download");
        }
    }

    async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        self.0.stop.run_until_cancelled(work).await
    }
}
