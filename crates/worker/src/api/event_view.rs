//! The events that clients receive over Server-Sent Events or a WebSocket.
//!
//! The data of `task` is a task object, of `progress` the progress of one in numbers, of `removed` an id. `reset` comes first, and
//! again whenever missed events are no longer available: the client must then fetch the list of downloads again.

use axum::http::StatusCode;
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use super::{App, refusal::Refusal, view::TaskView};
use crate::{
    events::{Audience, EventId, NextEvent, Subscription, TaskEvent},
    shares::Busy,
    tasks::{caller::Caller, id::TaskId, progress::Progress},
};

/// An event.
#[derive(Debug, Serialize)]
pub(super) struct EventView {
    #[serde(rename = "event")]
    pub(super) name: &'static str,
    /// The id to resume from.
    #[serde(serialize_with = "as_text")]
    pub(super) id: EventId,
    pub(super) data: Data,
}

/// The data of an event.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Data {
    Task(Box<TaskView>),
    Progress(ProgressView),
    Removed { id: String },
    Reset {},
}

/// Tells the client to fetch the list of downloads again.
const RESET: (&str, Data) = ("reset", Data::Reset {});

/// The progress of a download; the data of a `progress` event.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Progress)]
pub(super) struct ProgressView {
    /// The download.
    #[schema(format = Uuid)]
    id: String,
    /// In percent.
    #[schema(minimum = 0, maximum = 100)]
    progress: f64,
    downloaded_bytes: u64,
    #[schema(required)]
    total_bytes: Option<u64>,
    /// In bytes per second.
    #[schema(required)]
    speed: Option<f64>,
    /// In seconds.
    #[schema(required)]
    eta: Option<f64>,
}

/// Subscribes to the events that follow the event `after`.
pub(super) async fn subscribe(
    app: &App,
    caller: &Caller,
    audience: Audience,
    after: Option<&str>,
) -> Result<Subscription, Refusal> {
    let after = after.and_then(|id| id.parse().ok());
    let subscription = app.queue.context().events.subscribe(caller, audience, after).await;
    subscription.map_err(|Busy| {
        if app.stop.is_cancelled() {
            Refusal::unavailable("busy", "The worker is stopping; try again later")
        } else {
            Refusal::too_many("too_many_streams", "Too many event streams are open; close one and try again")
        }
    })
}

/// Waits for the next event.
pub(super) async fn next(app: &App, subscription: &mut Subscription) -> EventView {
    loop {
        match subscription.try_next() {
            NextEvent::Event(id, event) => return EventView::of(app, id, event),
            NextEvent::Lost(id) => {
                let (name, data) = RESET;
                return EventView { name, id, data };
            }
            NextEvent::None => subscription.changed().await,
        }
    }
}

/// Returns whose events a caller receives: all users' if `all` is 1.
pub(super) fn audience(caller: &Caller, all: u8) -> Result<Audience, Refusal> {
    match all {
        0 => Ok(Audience::Own(caller.user.clone())),
        1 if caller.is_admin() => Ok(Audience::Everyone),
        1 => {
            Err(Refusal::new(StatusCode::FORBIDDEN, "admins_only", "Only administrators can see all users' downloads"))
        }
        _ => Err(Refusal::invalid("invalid_value", "all must be 0 or 1")),
    }
}

impl EventView {
    fn of(app: &App, id: EventId, event: TaskEvent) -> Self {
        let (name, data) = match event {
            TaskEvent::Task(task) => {
                let progress = app.queue.progress(task.id);
                ("task", Data::Task(Box::new(TaskView::new(task.as_ref().clone(), progress))))
            }
            TaskEvent::Progress(task, progress) => ("progress", Data::Progress(ProgressView::new(task, progress))),
            TaskEvent::Removed(task) => ("removed", Data::Removed { id: task.to_string() }),
            TaskEvent::Many => RESET,
        };
        Self { name, id, data }
    }
}

impl ProgressView {
    fn new(id: TaskId, progress: Progress) -> Self {
        let Progress { percent, downloaded, total, speed, eta, finished: _ } = progress;
        let progress = (percent * 10.0).round() / 10.0;
        Self { id: id.to_string(), progress, downloaded_bytes: downloaded, total_bytes: total, speed, eta }
    }
}

fn as_text<S: Serializer>(id: &EventId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}
