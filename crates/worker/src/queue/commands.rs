//! The commands of clients: add, cancel and remove.

use sallyport_core::statement::UserLimits;

use super::{Queue, QueueError};
use crate::{
    store::{CancelResult, StoreError},
    tasks::{id::TaskId, task::Task},
};

impl Queue {
    /// Adds a task of a user with these limits.
    pub(crate) async fn add(&self, task: Task, limits: UserLimits) -> Result<(), QueueError> {
        self.run_to_completion(|queue| async move { queue.add_and_announce(task, limits).await }).await
    }

    /// Cancels a task and stops its job.
    pub(crate) async fn cancel(&self, id: TaskId) -> Result<CancelResult, QueueError> {
        self.run_to_completion(|queue| async move { queue.cancel_all(id).await }).await
    }

    /// Removes a task and all its files.
    pub(crate) async fn remove(&self, id: TaskId) -> Result<(), QueueError> {
        self.run_to_completion(|queue| async move {
            let removed = queue.remove_all(id).await;
            removed.map_err(|failure| {
                tracing::error!(task = %id, error = %failure, "cannot remove a task");
                QueueError::NotRemoved
            })
        })
        .await
    }

    /// Carries out a client's command completely, even if the client disconnects and its request is dropped.
    ///
    /// A stored change must always be followed by its consequences: the queue wakes, subscribers are notified, files are removed. Every
    /// change that a request makes therefore goes through this function.
    async fn run_to_completion<T, E, W>(&self, order: impl FnOnce(Self) -> W) -> Result<T, QueueError>
    where
        T: Send + 'static,
        E: Send + 'static,
        W: Future<Output = Result<T, E>> + Send + 'static,
        QueueError: From<E>,
    {
        Ok(tokio::spawn(order(self.clone())).await??)
    }

    async fn add_and_announce(&self, task: Task, limits: UserLimits) -> Result<(), StoreError> {
        let id = task.id;
        self.0.context.store.add(task, limits).await?;
        self.0.context.announcer.changed(id).await;
        self.0.wake.notify_one();
        Ok(())
    }

    async fn cancel_all(&self, id: TaskId) -> Result<CancelResult, StoreError> {
        let _handover = self.0.handover.lock().await;
        let outcome = self.0.context.store.cancel(id).await?;
        if let CancelResult::Yes { all, new } = &outcome {
            // All running jobs are stopped before any files are removed.
            all.iter().filter_map(|id| self.0.running.find(*id)).for_each(|running| running.stop.cancel());
            for id in new {
                self.0.context.announcer.changed(*id).await;
                if self.0.running.find(*id).is_none() {
                    self.discard(*id).await;
                }
            }
            self.settle_list_of(id).await?;
        }
        Ok(outcome)
    }

    async fn settle_list_of(&self, id: TaskId) -> Result<(), StoreError> {
        let task = self.0.context.store.get(id).await?;
        if let Some(task) = task
            && let Some(list) = task.playlist_role.list()
        {
            self.settle(list, &task.owner).await;
        }
        Ok(())
    }
}
