//! Removes tasks with their files, and at startup what an earlier process left behind.

use std::{io, sync::Arc};

use thiserror::Error;
use tokio::task::{JoinError, spawn_blocking};

use super::Queue;
use crate::{
    jobs::registry::Running,
    store::StoreError,
    tasks::{id::TaskId, owner::Owner, task::Status},
};

/// The reason why a task was not removed.
#[derive(Debug, Error)]
pub(super) enum RemovalError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot remove its files: {0}")]
    Files(#[from] io::Error),
    #[error("a background thread failed: {0}")]
    Lost(#[from] JoinError),
}

impl Queue {
    /// Finishes what an earlier process left undone: removals, and folders of jobs that will not run again.
    ///
    /// Folders that cannot be removed are logged and do not keep the worker from starting.
    pub(crate) async fn tidy(&self) -> Result<(), StoreError> {
        for list in self.0.context.store.unsettled().await? {
            self.0.context.store.settle(list).await?;
        }
        for id in self.0.context.store.in_state(Status::Removing).await? {
            if let Err(failure) = self.remove_all(id).await {
                tracing::error!(task = %id, error = %failure, "cannot remove a task");
            }
        }
        let pending = self.0.context.store.in_state(Status::Pending).await?;
        let media = self.0.context.media.clone();
        if let Err(error) = spawn_blocking(move || media.discard_jobs_except(&pending)).await? {
            tracing::error!(%error, "cannot remove the folders of earlier jobs");
        }
        Ok(())
    }

    /// Removes a task, or a playlist with all its videos.
    pub(super) async fn remove_all(&self, id: TaskId) -> Result<(), RemovalError> {
        let Some(task) = self.0.context.store.get(id).await? else { return Ok(()) };
        let mut all = Ok(());
        for (id, running) in self.hide(id).await? {
            // If one cannot be removed, the others still are.
            all = all.and(self.remove_one(id, &task.owner, running).await);
        }
        if let Some(list) = task.playlist_role.list() {
            self.settle(list, &task.owner).await;
        }
        all
    }

    /// Hides a task, and a playlist's videos, and stops their jobs. Returns what was hidden, the task itself last.
    async fn hide(&self, id: TaskId) -> Result<Vec<(TaskId, Option<Arc<Running>>)>, StoreError> {
        let _handover = self.0.handover.lock().await;
        let hidden = self.0.context.store.begin_removal(id).await?;
        let hidden: Vec<_> = hidden.into_iter().map(|id| (id, self.0.running.find(id))).collect();
        hidden.iter().filter_map(|(_, running)| running.as_ref()).for_each(|running| running.stop.cancel());
        Ok(hidden)
    }

    async fn remove_one(&self, id: TaskId, owner: &Owner, running: Option<Arc<Running>>) -> Result<(), RemovalError> {
        self.0.streams.forget(id).await;
        if let Some(running) = running {
            running.ended().await;
        }
        let media = self.0.context.media.clone();
        spawn_blocking(move || media.remove(id)).await??;
        self.0.context.store.forget(id).await?;
        self.0.context.announcer.removed(id, owner).await;
        Ok(())
    }
}
