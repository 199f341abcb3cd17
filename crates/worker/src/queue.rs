//! The queue: claims pending tasks in order, runs a limited number at a time, and cancels or removes them on request.

pub(super) mod giving_way;
pub(super) mod playlist;
pub(super) mod premiere;
pub(super) mod retry;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use sallyport_core::statement::UserLimits;
use tokio::{
    sync::{Mutex, Notify, Semaphore},
    task::{JoinSet, spawn_blocking},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use self::{premiere::Awaited, retry::Retries};
use super::{
    api::refusal::Refusal,
    jobs::{
        job::{Failure, JobContext, JobResult},
        registry::{JobRegistry, Running},
    },
    media::{
        dedup::{Own, share},
        reconcile,
    },
    store::{Cancelled, Next, Retried, Settled, StoreError},
    tasks::{
        events::TaskEvent,
        owner::Owner,
        task::{Status, Task, TaskId},
    },
    ytdlp::Progress,
};

/// How long to wait before a retry after an internal failure.
const PAUSE: Duration = Duration::from_secs(5);

/// The longest that the queue waits before it checks again, so that a clock jump delays nothing.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// The download queue. Clones share it.
#[derive(Clone)]
pub(crate) struct Queue(Arc<Inner>);

struct Inner {
    context: JobContext,
    running: JobRegistry,
    /// Held while a task changes state, so that none can be claimed and cancelled at the same time.
    handover: Mutex<()>,
    wake: Notify,
    stop: CancellationToken,
}

/// What a free slot does next.
enum Claim {
    Job(Box<Task>, Arc<Running>),
    Wait(Duration),
}

impl Queue {
    pub(crate) fn new(context: JobContext, stop: CancellationToken) -> Self {
        let (running, handover, wake) = (JobRegistry::default(), Mutex::default(), Notify::new());
        Self(Arc::new(Inner { context, running, handover, wake, stop }))
    }

    pub(crate) fn context(&self) -> &JobContext {
        &self.0.context
    }

    /// Returns the running jobs.
    pub(crate) fn under_way(&self) -> Vec<(TaskId, Arc<Running>)> {
        self.0.running.all()
    }

    /// Returns the user for whom a download should give way. Returns `None` if a slot is free, if a download already gives way, or if
    /// only tasks of low priority are waiting.
    pub(crate) async fn waiting_for_a_place(&self) -> Result<Option<Owner>, StoreError> {
        let JobContext { store, config, .. } = &self.0.context;
        let under_way = self.0.running.all();
        if under_way.len() < config.concurrent_downloads || under_way.iter().any(|(_, running)| running.gives_way()) {
            return Ok(None);
        }
        store.next_owner(config.concurrent_downloads_per_user).await
    }

    /// Returns the progress of a running task.
    pub(crate) fn progress(&self, id: TaskId) -> Option<Progress> {
        self.0.running.find(id).map(|running| running.progress())
    }

    /// Adds a task of a user with these limits.
    pub(crate) async fn add(&self, task: Task, limits: UserLimits) -> Result<(), Refusal> {
        self.to_its_end(|queue| async move { queue.add_and_tell(task, limits).await }).await
    }

    /// Cancels a task and stops its job.
    pub(crate) async fn cancel(&self, id: TaskId) -> Result<Cancelled, Refusal> {
        self.to_its_end(|queue| async move { queue.cancel_all(id).await }).await
    }

    /// Removes a task and all its files.
    pub(crate) async fn remove(&self, id: TaskId) -> Result<(), Refusal> {
        self.to_its_end(|queue| async move {
            let removed = queue.remove_all(id).await;
            removed.map_err(|failure| {
                tracing::error!(task = %id, error = %failure, "cannot remove a task");
                Refusal::internal()
            })
        })
        .await
    }

    /// Carries out a client's command completely, even if the client disconnects and its request is dropped.
    ///
    /// A stored change must always be followed by its consequences: the queue wakes, subscribers are notified, files are removed. Every
    /// change that a request makes therefore goes through this function.
    async fn to_its_end<T, E, W>(&self, order: impl FnOnce(Self) -> W) -> Result<T, Refusal>
    where
        T: Send + 'static,
        E: Send + 'static,
        W: Future<Output = Result<T, E>> + Send + 'static,
        Refusal: From<E>,
    {
        let carried_out = tokio::spawn(order(self.clone())).await;
        Ok(carried_out.map_err(|_| Refusal::internal())??)
    }

    async fn add_and_tell(&self, task: Task, limits: UserLimits) -> Result<(), StoreError> {
        let id = task.id;
        self.0.context.store.add(task, limits).await?;
        self.0.context.tell(id).await;
        self.0.wake.notify_one();
        Ok(())
    }

    async fn cancel_all(&self, id: TaskId) -> Result<Cancelled, StoreError> {
        let _handover = self.0.handover.lock().await;
        let outcome = self.0.context.store.cancel(id).await?;
        if let Cancelled::Yes { all, new } = &outcome {
            // All running jobs are stopped before any files are removed.
            all.iter().filter_map(|id| self.0.running.find(*id)).for_each(|running| running.stop.cancel());
            for id in new {
                self.0.context.tell(*id).await;
                if self.0.running.find(*id).is_none() {
                    self.discard(*id).await;
                }
            }
            self.settle_list_of(id).await?;
        }
        Ok(outcome)
    }

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
        if let Err(error) = reconcile::take(&self.0.context.store, &self.0.context.media).await {
            tracing::error!(%error, "cannot compare the media folder with the database");
        }
        Ok(())
    }

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
                    if let Some(own) = finished {
                        share(&queue.0.context, own, &queue.0.stop).await;
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
        let JobContext { store, config, .. } = &self.0.context;
        Ok(match store.claim(config.concurrent_downloads_per_user).await? {
            Next::Claimed(task) => {
                let running =
                    self.0.running.enter(task.id, Running::new(task.owner.clone(), self.0.stop.child_token()));
                self.0.context.tell(task.id).await;
                Claim::Job(task, running)
            }
            Next::Later(time) => Claim::Wait(time.min(LONGEST_WAIT)),
            Next::Nothing => Claim::Wait(LONGEST_WAIT),
        })
    }

    /// Runs a job to its end and returns the file that the task was completed with, if any.
    async fn run(&self, task: &Task, running: &Running) -> Option<Own> {
        let _leaving = self.0.running.leave_later(task.id);
        tracing::info!(task = %task.id, user = %task.owner, "download started");
        let outcome = self.0.context.run(task, running).await;
        let gave_way = matches!(outcome, Err(Failure::Stopped)) && running.gives_way();
        let own = if gave_way && self.waits_again(task.id).await {
            None
        } else {
            self.conclude_at_last(task, &outcome).await
        };
        self.0.context.tell(task.id).await;
        if let Some(list) = task.part.list() {
            self.settle(list, &task.owner).await;
        }
        // Another task of this owner may start now, or this one waits for its retry.
        self.0.wake.notify_one();
        own
    }

    /// Makes a task that gave way pending again, unless it was cancelled in the meantime.
    async fn waits_again(&self, id: TaskId) -> bool {
        let store = &self.0.context.store;
        while let Err(error) = store.give_way(id).await {
            tracing::error!(task = %id, %error, "cannot requeue a download that gave way");
            if self.unless_stopped(sleep(PAUSE)).await.is_none() {
                return true;
            }
        }
        matches!(store.get(id).await, Ok(Some(task)) if task.status == Status::Pending)
    }

    /// Stores the outcome, retrying as often as necessary: otherwise the task would occupy its owner's slot until the next startup.
    async fn conclude_at_last(&self, task: &Task, outcome: &Result<JobResult, Failure>) -> Option<Own> {
        loop {
            match self.conclude(task, outcome).await {
                Ok(own) => return own,
                Err(error) => tracing::error!(task = %task.id, %error, "cannot store the outcome of a download"),
            }
            self.unless_stopped(sleep(PAUSE)).await?;
        }
    }

    async fn conclude(&self, task: &Task, outcome: &Result<JobResult, Failure>) -> Result<Option<Own>, StoreError> {
        let (id, store) = (task.id, &self.0.context.store);
        match outcome {
            Ok(JobResult::List(films)) => {
                tracing::info!(task = %id, films, "playlist read");
                self.0.context.events.publish(task.owner.clone(), TaskEvent::Many);
            }
            Ok(JobResult::File(finished, digest)) => {
                tracing::info!(task = %id, bytes = finished.bytes, "download completed");
                let own = Own { id, media: finished.media, bytes: finished.bytes, digest: *digest };
                if store.complete(id, finished.clone(), *digest).await? {
                    return Ok(Some(own));
                }
                self.discard(id).await;
            }
            Err(Failure::Stopped) if self.0.stop.is_cancelled() => store.release(id).await?,
            // The task runs once the administrator has fixed the programs or the sandbox.
            Err(Failure::Unready(_)) => store.release(id).await?,
            Err(Failure::Awaited(awaited)) => self.postpone(task, *awaited).await?,
            Err(failure) if failure.passes() => self.retry(id, failure).await?,
            Err(failure) => self.fail(id, failure).await?,
        }
        Ok(None)
    }

    async fn retry(&self, id: TaskId, failure: &Failure) -> Result<(), StoreError> {
        let JobContext { store, config, .. } = &self.0.context;
        let at_least = failure.wait().unwrap_or_default();
        let retries = Retries { most: config.retries, first: config.retry_delay, at_least };
        match store.retry(id, failure.message(), retries).await? {
            Retried::After(wait) => {
                tracing::warn!(task = %id, %failure, ?wait, "download failed; waiting to retry");
                Ok(())
            }
            Retried::Spent | Retried::Gone => self.fail(id, failure).await,
        }
    }

    async fn postpone(&self, task: &Task, awaited: Awaited) -> Result<(), StoreError> {
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

    /// Removes a task, or a playlist with all its videos.
    async fn remove_all(&self, id: TaskId) -> Result<(), Failure> {
        let Some(task) = self.0.context.store.get(id).await? else { return Ok(()) };
        let (hidden, running) = {
            let _handover = self.0.handover.lock().await;
            let hidden = self.0.context.store.begin_removal(id).await?;
            let running: Vec<_> = hidden.iter().map(|id| self.0.running.find(*id)).collect();
            running.iter().flatten().for_each(|running| running.stop.cancel());
            (hidden, running)
        };
        let mut all = Ok(());
        for (id, running) in hidden.into_iter().zip(running) {
            // If one cannot be removed, the others still are.
            all = all.and(self.remove_one(id, &task.owner, running).await);
        }
        if let Some(list) = task.part.list() {
            self.settle(list, &task.owner).await;
        }
        all
    }

    async fn remove_one(&self, id: TaskId, owner: &Owner, running: Option<Arc<Running>>) -> Result<(), Failure> {
        self.0.context.streams.forget(id).await;
        if let Some(running) = running {
            running.ended().await;
        }
        let media = self.0.context.media.clone();
        spawn_blocking(move || media.remove(id)).await??;
        self.0.context.store.forget(id).await?;
        self.tell_removed(id, owner).await;
        Ok(())
    }

    async fn tell_removed(&self, id: TaskId, owner: &Owner) {
        let _telling = self.0.context.telling.lock().await;
        self.0.context.events.publish(owner.clone(), TaskEvent::Removed(id));
    }

    /// Updates a playlist after one of its videos has changed.
    async fn settle(&self, list: TaskId, owner: &Owner) {
        match self.0.context.store.settle(list).await {
            Ok(Settled::Changed) => self.0.context.tell(list).await,
            Ok(Settled::Gone) => self.tell_removed(list, owner).await,
            Ok(Settled::Unchanged) => {}
            Err(error) => tracing::error!(task = %list, %error, "cannot update the progress of a playlist"),
        }
    }

    async fn settle_list_of(&self, id: TaskId) -> Result<(), StoreError> {
        let task = self.0.context.store.get(id).await?;
        if let Some((list, owner)) = task.and_then(|task| task.part.list().zip(Some(task.owner))) {
            self.settle(list, &owner).await;
        }
        Ok(())
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
