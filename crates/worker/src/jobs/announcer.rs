//! Publishes the changes of tasks to subscribers.

use std::sync::Arc;

use tokio::sync::Mutex;

use crate::{
    events::{Events, TaskEvent},
    store::Store,
    tasks::{
        id::TaskId,
        owner::Owner,
        progress::Progress,
        task::{Status, Task},
    },
};

/// Publishes changes of tasks.
pub(crate) struct Announcer {
    store: Store,
    events: Events,
    /// Held from reading a task until its event is published, so that the last event shows the newest state.
    turn: Mutex<()>,
}

impl Announcer {
    pub(crate) fn new(store: Store, events: Events) -> Self {
        Self { store, events, turn: Mutex::default() }
    }

    /// Publishes the current state of a task.
    pub(crate) async fn changed(&self, id: TaskId) {
        let _turn = self.turn.lock().await;
        match self.store.get(id).await {
            Ok(Some(task)) if task.status != Status::Removing => {
                self.events.publish(task.owner.clone(), TaskEvent::Task(Arc::new(task)));
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(task = %id, %error, "event of a task not published"),
        }
    }

    pub(crate) async fn removed(&self, id: TaskId, owner: &Owner) {
        let _turn = self.turn.lock().await;
        self.events.publish(owner.clone(), TaskEvent::Removed(id));
    }

    /// Tells an owner that many of their tasks have changed.
    pub(crate) fn many_changed(&self, owner: &Owner) {
        self.events.publish(owner.clone(), TaskEvent::Many);
    }

    pub(crate) fn progressed(&self, task: &Task, progress: Progress) {
        self.events.publish(task.owner.clone(), TaskEvent::Progress(task.id, progress));
    }
}
