//! The queue: takes pending tasks in order, runs so many at a time, and stops each when it is told to.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::{
    sync::{Mutex, Notify, Semaphore},
    task::{JoinSet, spawn_blocking},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    events::What,
    inventory,
    job::{Failure, Outcome, Workshop},
    premiere::Awaited,
    refusal::Refusal,
    retry::Retries,
    running::{Registry, Running},
    sharing::{Own, share},
    store::{Cancelled, Next, Retried, Settled, StoreError},
    task::{Status, Task, TaskId},
    ytdlp::Progress,
};
use crate::{statement::Limits, worker::owner::Owner};

/// After a failure of our own, how long until the next try.
const PAUSE: Duration = Duration::from_secs(5);

/// After so long the queue looks again, so that a clock that jumps holds nothing up.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// The queue; a handle to share.
#[derive(Clone)]
pub(crate) struct Queue(Arc<Inner>);

struct Inner {
    workshop: Workshop,
    running: Registry,
    /// Held while a task changes hands, so that none can be claimed and cancelled at once.
    handover: Mutex<()>,
    wake: Notify,
    stop: CancellationToken,
}

/// What a free slot gets.
enum Claim {
    Job(Box<Task>, Arc<Running>),
    Wait(Duration),
}

impl Queue {
    pub(crate) fn new(workshop: Workshop, stop: CancellationToken) -> Self {
        let (running, handover, wake) = (Registry::default(), Mutex::default(), Notify::new());
        Self(Arc::new(Inner { workshop, running, handover, wake, stop }))
    }

    pub(crate) fn workshop(&self) -> &Workshop {
        &self.0.workshop
    }

    /// What runs now.
    pub(crate) fn under_way(&self) -> Vec<(TaskId, Arc<Running>)> {
        self.0.running.all()
    }

    /// The user whom a download makes room for. None if a place is free, a download is making room already, or nobody waits whose task
    /// is of more than low priority.
    pub(crate) async fn waiting_for_a_place(&self) -> Result<Option<Owner>, StoreError> {
        let Workshop { store, config, .. } = &self.0.workshop;
        let under_way = self.0.running.all();
        if under_way.len() < config.concurrent_downloads || under_way.iter().any(|(_, running)| running.gives_way()) {
            return Ok(None);
        }
        store.next_owner(config.concurrent_downloads_per_user).await
    }

    /// How far a task is, while it runs.
    pub(crate) fn progress(&self, id: TaskId) -> Option<Progress> {
        self.0.running.find(id).map(|running| running.progress())
    }

    /// Adds a task of a user who has these limits.
    pub(crate) async fn add(&self, task: Task, limits: Limits) -> Result<(), Refusal> {
        self.to_its_end(|queue| async move { queue.add_and_tell(task, limits).await }).await
    }

    /// Cancels a task and stops what runs for it.
    pub(crate) async fn cancel(&self, id: TaskId) -> Result<Cancelled, Refusal> {
        self.to_its_end(|queue| async move { queue.cancel_all(id).await }).await
    }

    /// Removes a task with everything that it left.
    pub(crate) async fn remove(&self, id: TaskId) -> Result<(), Refusal> {
        self.to_its_end(|queue| async move {
            let removed = queue.remove_all(id).await;
            removed.map_err(|failure| {
                tracing::error!(task = %id, error = %failure, "a task could not be removed");
                Refusal::internal()
            })
        })
        .await
    }

    /// Carries out a client's order to its end, even when the client leaves before that and its request is dropped.
    ///
    /// A change that is stored is always followed by what goes with it: the queue wakes, followers are told, files go. Every
    /// change that a request makes therefore goes through here.
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

    async fn add_and_tell(&self, task: Task, limits: Limits) -> Result<(), StoreError> {
        let id = task.id;
        self.0.workshop.store.add(task, limits).await?;
        self.0.workshop.tell(id).await;
        self.0.wake.notify_one();
        Ok(())
    }

    async fn cancel_all(&self, id: TaskId) -> Result<Cancelled, StoreError> {
        let _handover = self.0.handover.lock().await;
        let outcome = self.0.workshop.store.cancel(id).await?;
        if let Cancelled::Yes { all, new } = &outcome {
            // What runs is stopped before anything is tidied.
            all.iter().filter_map(|id| self.0.running.find(*id)).for_each(|running| running.stop.cancel());
            for id in new {
                self.0.workshop.tell(*id).await;
                if self.0.running.find(*id).is_none() {
                    self.discard(*id).await;
                }
            }
            self.settle_list_of(id).await?;
        }
        Ok(outcome)
    }

    /// Ends what an earlier process left undone: removals, and folders of jobs that will not run again.
    ///
    /// A folder that cannot be removed keeps nobody from his other files.
    pub(crate) async fn tidy(&self) -> Result<(), StoreError> {
        for list in self.0.workshop.store.unsettled().await? {
            self.0.workshop.store.settle(list).await?;
        }
        for id in self.0.workshop.store.in_state(Status::Removing).await? {
            if let Err(failure) = self.remove_all(id).await {
                tracing::error!(task = %id, error = %failure, "a task could not be removed");
            }
        }
        let pending = self.0.workshop.store.in_state(Status::Pending).await?;
        let media = self.0.workshop.media.clone();
        if let Err(error) = spawn_blocking(move || media.discard_jobs_except(&pending)).await? {
            tracing::error!(%error, "the folders of earlier jobs could not be removed");
        }
        if let Err(error) = inventory::take(&self.0.workshop.store, &self.0.workshop.media).await {
            tracing::error!(%error, "the media folder could not be compared with the database");
        }
        Ok(())
    }

    /// Works until it is told to stop; then everything that runs is stopped, and waits again.
    pub(crate) async fn work(&self) {
        let slots = Arc::new(Semaphore::new(self.0.workshop.config.concurrent_downloads));
        let mut jobs = JoinSet::new();
        while let Some(slot) = self.unless_stopped(Arc::clone(&slots).acquire_owned()).await.and_then(Result::ok) {
            if let Some((task, running)) = self.next().await {
                let queue = self.clone();
                jobs.spawn(async move {
                    let finished = queue.run(&task, &running).await;
                    drop(slot);
                    if let Some(own) = finished {
                        share(&queue.0.workshop, own, &queue.0.stop).await;
                    }
                });
            }
            while jobs.try_join_next().is_some() {}
        }
        while jobs.join_next().await.is_some() {}
    }

    /// The next task, or none after a wait that was in vain.
    async fn next(&self) -> Option<(Box<Task>, Arc<Running>)> {
        if self.0.workshop.readiness.tools().await.is_err() {
            self.unless_stopped(sleep(PAUSE)).await;
            return None;
        }
        match self.claim().await {
            Ok(Claim::Job(task, running)) => return Some((task, running)),
            Ok(Claim::Wait(time)) => {
                self.unless_stopped(timeout(time, self.0.wake.notified())).await;
            }
            Err(error) => {
                tracing::error!(%error, "no task can be claimed");
                self.unless_stopped(sleep(PAUSE)).await;
            }
        }
        None
    }

    async fn claim(&self) -> Result<Claim, StoreError> {
        let _handover = self.0.handover.lock().await;
        let Workshop { store, config, .. } = &self.0.workshop;
        Ok(match store.claim(config.concurrent_downloads_per_user).await? {
            Next::Claimed(task) => {
                let running =
                    self.0.running.enter(task.id, Running::new(task.owner.clone(), self.0.stop.child_token()));
                self.0.workshop.tell(task.id).await;
                Claim::Job(task, running)
            }
            Next::Later(time) => Claim::Wait(time.min(LONGEST_WAIT)),
            Next::Nothing => Claim::Wait(LONGEST_WAIT),
        })
    }

    /// Runs a job to its end; what the task is completed with.
    async fn run(&self, task: &Task, running: &Running) -> Option<Own> {
        let _leaving = self.0.running.leave_later(task.id);
        tracing::info!(task = %task.id, user = %task.owner, "download begins");
        let outcome = self.0.workshop.run(task, running).await;
        let gave_way = matches!(outcome, Err(Failure::Stopped)) && running.gives_way();
        let own = if gave_way && self.waits_again(task.id).await {
            None
        } else {
            self.conclude_at_last(task, &outcome).await
        };
        self.0.workshop.tell(task.id).await;
        if let Some(list) = task.part.list() {
            self.settle(list, &task.owner).await;
        }
        // Its owner may have another one now, or it waits for its next try.
        self.0.wake.notify_one();
        own
    }

    /// Has a task that gave way wait for its next turn, unless it was cancelled meanwhile.
    async fn waits_again(&self, id: TaskId) -> bool {
        let store = &self.0.workshop.store;
        while let Err(error) = store.give_way(id).await {
            tracing::error!(task = %id, %error, "a download that gave way could not be put back");
            if self.unless_stopped(sleep(PAUSE)).await.is_none() {
                return true;
            }
        }
        matches!(store.get(id).await, Ok(Some(task)) if task.status == Status::Pending)
    }

    /// As often as it takes: an end that is not stored would keep its owner's place until the next start.
    async fn conclude_at_last(&self, task: &Task, outcome: &Result<Outcome, Failure>) -> Option<Own> {
        loop {
            match self.conclude(task, outcome).await {
                Ok(own) => return own,
                Err(error) => tracing::error!(task = %task.id, %error, "the end of a download could not be stored"),
            }
            self.unless_stopped(sleep(PAUSE)).await?;
        }
    }

    async fn conclude(&self, task: &Task, outcome: &Result<Outcome, Failure>) -> Result<Option<Own>, StoreError> {
        let (id, store) = (task.id, &self.0.workshop.store);
        match outcome {
            Ok(Outcome::List(films)) => {
                tracing::info!(task = %id, films, "list read");
                self.0.workshop.events.publish(task.owner.clone(), What::Many);
            }
            Ok(Outcome::File(finished, digest)) => {
                tracing::info!(task = %id, bytes = finished.bytes, "download completed");
                let own = Own { id, media: finished.media, bytes: finished.bytes, digest: *digest };
                if store.complete(id, finished.clone(), *digest).await? {
                    return Ok(Some(own));
                }
                self.discard(id).await;
            }
            Err(Failure::Stopped) if self.0.stop.is_cancelled() => store.release(id).await?,
            // Whoever mends that finds the task where it was.
            Err(Failure::Unready(_)) => store.release(id).await?,
            Err(Failure::Awaited(awaited)) => self.postpone(task, *awaited).await?,
            Err(failure) if failure.passes() => self.retry(id, failure).await?,
            Err(failure) => self.fail(id, failure).await?,
        }
        Ok(None)
    }

    async fn retry(&self, id: TaskId, failure: &Failure) -> Result<(), StoreError> {
        let Workshop { store, config, .. } = &self.0.workshop;
        let at_least = failure.wait().unwrap_or_default();
        let retries = Retries { most: config.retries, first: config.retry_delay, at_least };
        match store.retry(id, failure.message(), retries).await? {
            Retried::After(wait) => {
                tracing::warn!(task = %id, %failure, ?wait, "download failed and waits for another try");
                Ok(())
            }
            Retried::Spent | Retried::Gone => self.fail(id, failure).await,
        }
    }

    async fn postpone(&self, task: &Task, awaited: Awaited) -> Result<(), StoreError> {
        let Some(wait) = awaited.wait(task.created_at, Timestamp::now()) else {
            return self.fail(task.id, &Failure::TooLongAwaited).await;
        };
        if self.0.workshop.store.postpone(task.id, awaited.message(), wait).await? {
            tracing::info!(task = %task.id, ?awaited, ?wait, "a download waits for its source");
            Ok(())
        } else {
            self.fail(task.id, &Failure::Stopped).await
        }
    }

    async fn fail(&self, id: TaskId, failure: &Failure) -> Result<(), StoreError> {
        tracing::warn!(task = %id, %failure, "download ended without a file");
        self.0.workshop.store.fail(id, failure.message()).await?;
        self.discard(id).await;
        Ok(())
    }

    /// A task, or a list with all its films.
    async fn remove_all(&self, id: TaskId) -> Result<(), Failure> {
        let Some(task) = self.0.workshop.store.get(id).await? else { return Ok(()) };
        let (hidden, running) = {
            let _handover = self.0.handover.lock().await;
            let hidden = self.0.workshop.store.begin_removal(id).await?;
            let running: Vec<_> = hidden.iter().map(|id| self.0.running.find(*id)).collect();
            running.iter().flatten().for_each(|running| running.stop.cancel());
            (hidden, running)
        };
        let mut all = Ok(());
        for (id, running) in hidden.into_iter().zip(running) {
            // One that cannot be removed keeps none of the others.
            all = all.and(self.remove_one(id, &task.owner, running).await);
        }
        if let Some(list) = task.part.list() {
            self.settle(list, &task.owner).await;
        }
        all
    }

    async fn remove_one(&self, id: TaskId, owner: &Owner, running: Option<Arc<Running>>) -> Result<(), Failure> {
        self.0.workshop.streams.forget(id).await;
        if let Some(running) = running {
            running.ended().await;
        }
        let media = self.0.workshop.media.clone();
        spawn_blocking(move || media.remove(id)).await??;
        self.0.workshop.store.forget(id).await?;
        self.tell_removed(id, owner).await;
        Ok(())
    }

    async fn tell_removed(&self, id: TaskId, owner: &Owner) {
        let _telling = self.0.workshop.telling.lock().await;
        self.0.workshop.events.publish(owner.clone(), What::Removed(id));
    }

    /// One of a list's films has changed.
    async fn settle(&self, list: TaskId, owner: &Owner) {
        match self.0.workshop.store.settle(list).await {
            Ok(Settled::Changed) => self.0.workshop.tell(list).await,
            Ok(Settled::Gone) => self.tell_removed(list, owner).await,
            Ok(Settled::Unchanged) => {}
            Err(error) => tracing::error!(task = %list, %error, "the films of a list could not be counted"),
        }
    }

    async fn settle_list_of(&self, id: TaskId) -> Result<(), StoreError> {
        let task = self.0.workshop.store.get(id).await?;
        if let Some((list, owner)) = task.and_then(|task| task.part.list().zip(Some(task.owner))) {
            self.settle(list, &owner).await;
        }
        Ok(())
    }

    /// What nobody wants any more. Best effort: what stays is found again at the next start.
    async fn discard(&self, id: TaskId) {
        let media = self.0.workshop.media.clone();
        if let Ok(Err(error)) = spawn_blocking(move || media.remove(id)).await {
            tracing::warn!(task = %id, %error, "the files of a task that ended without one could not be removed");
        }
    }

    async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        self.0.stop.run_until_cancelled(work).await
    }
}
