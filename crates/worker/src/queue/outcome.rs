//! Stores how a job ended: its task is completed, has failed, or waits for another attempt.

use jiff::Timestamp;
use tokio::time::sleep;

use super::{PAUSE, Queue};
use crate::{
    jobs::{context::JobContext, dedup::CompletedFile, failure::Failure, job::JobResult},
    store::{RetryResult, StoreError},
    tasks::{digest::Digest, finished::Finished, id::TaskId, premiere::Premiere, retries::Retries, task::Task},
};

impl Queue {
    /// Stores the outcome, retrying as often as necessary: otherwise the task would occupy its owner's slot until the next startup.
    pub(super) async fn store_outcome(
        &self,
        task: &Task,
        outcome: &Result<JobResult, Failure>,
    ) -> Option<CompletedFile> {
        loop {
            match self.try_to_store(task, outcome).await {
                Ok(completed) => return completed,
                Err(error) => tracing::error!(task = %task.id, %error, "cannot store the outcome of a download"),
            }
            self.unless_stopped(sleep(PAUSE)).await?;
        }
    }

    async fn try_to_store(
        &self,
        task: &Task,
        outcome: &Result<JobResult, Failure>,
    ) -> Result<Option<CompletedFile>, StoreError> {
        let id = task.id;
        let JobContext { store, announcer, .. } = &self.0.context;
        match outcome {
            Ok(JobResult::List(videos)) => {
                tracing::info!(task = %id, videos, "playlist read");
                announcer.many_changed(&task.owner);
            }
            Ok(JobResult::File(finished, digest)) => return self.complete(id, finished, *digest).await,
            Err(Failure::Stopped) if self.0.stop.is_cancelled() => store.release(id).await?,
            // The task runs once the administrator has fixed the programs or the sandbox.
            Err(Failure::Unready(_)) => store.release(id).await?,
            Err(Failure::Awaited(awaited)) => self.postpone(task, *awaited).await?,
            Err(failure) if failure.is_temporary() => self.retry(id, failure).await?,
            Err(failure) => self.fail(id, failure).await?,
        }
        Ok(None)
    }

    /// Returns the file, unless its task was cancelled or removed meanwhile.
    async fn complete(
        &self,
        id: TaskId,
        finished: &Finished,
        digest: Digest,
    ) -> Result<Option<CompletedFile>, StoreError> {
        tracing::info!(task = %id, bytes = finished.bytes, "download completed");
        let completed = CompletedFile { id, media: finished.media, bytes: finished.bytes, digest };
        if self.0.context.store.complete(id, finished.clone(), digest).await? {
            return Ok(Some(completed));
        }
        self.discard(id).await;
        Ok(None)
    }

    async fn retry(&self, id: TaskId, failure: &Failure) -> Result<(), StoreError> {
        let JobContext { store, config, .. } = &self.0.context;
        let min_delay = failure.wait().unwrap_or_default();
        let retries = Retries { max: config.retries, first_delay: config.retry_delay, min_delay };
        match store.retry(id, failure.message(), retries).await? {
            RetryResult::After(wait) => {
                tracing::warn!(task = %id, %failure, ?wait, "download failed; waiting to retry");
                Ok(())
            }
            RetryResult::Exhausted | RetryResult::Gone => self.fail(id, failure).await,
        }
    }

    async fn postpone(&self, task: &Task, awaited: Premiere) -> Result<(), StoreError> {
        let Some(wait) = awaited.wait(task.created_at, Timestamp::now()) else {
            return self.fail(task.id, &Failure::TooLongAwaited).await;
        };
        if self.0.context.store.postpone(task.id, awaited.message(), wait).await? {
            tracing::info!(task = %task.id, ?awaited, ?wait, "download waits for its announced source");
            Ok(())
        } else {
            self.fail(task.id, &Failure::Stopped).await
        }
    }

    async fn fail(&self, id: TaskId, failure: &Failure) -> Result<(), StoreError> {
        tracing::warn!(task = %id, %failure, "download failed");
        self.0.context.store.fail(id, failure.message()).await?;
        self.discard(id).await;
        Ok(())
    }
}
