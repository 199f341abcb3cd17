//! What who follows downloads is told, whether by Server-Sent Events or over a WebSocket.
//!
//! `task` has a task object, `progress` what has come of one in numbers, `removed` an id. `reset` comes first, and wherever
//! events were missed that are not to be had any more: the list of downloads is to be read anew, then.

use axum::http::StatusCode;
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use super::{App, view::TaskView};
use crate::worker::{
    caller::Caller,
    events::{EventId, Follower, Missed, What, Whose},
    refusal::Refusal,
    shares::Busy,
    task::TaskId,
    ytdlp::Progress,
};

/// An event.
#[derive(Debug, Serialize)]
pub(super) struct Told {
    #[serde(rename = "event")]
    pub(super) name: &'static str,
    /// Where to go on.
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

/// The list of downloads is to be read anew.
const RESET: (&str, Data) = ("reset", Data::Reset {});

/// What has come of a download; the data of `progress`.
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
    /// In bytes a second.
    #[schema(required)]
    speed: Option<f64>,
    /// In seconds.
    #[schema(required)]
    eta: Option<f64>,
}

/// Follows on from the event `after`.
pub(super) async fn follow(app: &App, caller: &Caller, whose: Whose, after: Option<&str>) -> Result<Follower, Refusal> {
    let after = after.and_then(|id| id.parse().ok());
    let follower = app.queue.workshop().events.follow(caller, whose, after).await;
    follower.map_err(|Busy| {
        if app.stop.is_cancelled() {
            Refusal::unavailable("busy", "The worker is stopping; try again")
        } else {
            Refusal::too_many("too_many_streams", "Too many event streams are open already")
        }
    })
}

/// Waits for what comes next.
pub(super) async fn next(app: &App, follower: &mut Follower) -> Told {
    loop {
        match follower.missed() {
            Missed::Event(id, what) => return Told::of(app, id, what),
            Missed::Lost(id) => {
                let (name, data) = RESET;
                return Told { name, id, data };
            }
            Missed::Nothing => follower.more().await,
        }
    }
}

/// Whose events a caller asks for: everybody's where `all` is 1.
pub(super) fn whose(caller: &Caller, all: u8) -> Result<Whose, Refusal> {
    match all {
        0 => Ok(Whose::Own(caller.user.clone())),
        1 if caller.is_admin() => Ok(Whose::Everybodys),
        1 => Err(Refusal::new(StatusCode::FORBIDDEN, "admins_only", "Only administrators see everybody's downloads")),
        _ => Err(Refusal::invalid("invalid_value", "all is 0 or 1")),
    }
}

impl Told {
    fn of(app: &App, id: EventId, what: What) -> Self {
        let (name, data) = match what {
            What::Task(task) => {
                let progress = app.queue.progress(task.id);
                ("task", Data::Task(Box::new(TaskView::new(task.as_ref().clone(), progress))))
            }
            What::Progress(task, progress) => ("progress", Data::Progress(ProgressView::new(task, progress))),
            What::Removed(task) => ("removed", Data::Removed { id: task.to_string() }),
            What::Many => RESET,
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
