//! `GET /api/v2/events`: what happens to tasks, as Server-Sent Events (HTML, section 9.2).
//!
//! `task` has a task object, `progress` what has come of one in numbers, `removed` an id. `reset` comes first, and wherever
//! events were missed that are not to be had any more: the list of downloads is to be read anew, then.

use std::{convert::Infallible, time::Duration};

use axum::{
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode},
    response::{
        IntoResponse,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_util::stream::{Stream, unfold};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use super::{App, view::TaskView};
use crate::worker::{
    caller::Caller,
    events::{EventId, Follower, Missed, What, Whose},
    refusal::{Refusal, RefusalBody},
    task::TaskId,
    ytdlp::Progress,
};

/// More often than any proxy gives up a silent answer.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The query.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Ask {
    /// 1 for everybody's, which administrators only see.
    #[serde(default)]
    #[param(maximum = 1, default = 0)]
    all: u8,
}

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

/// Follow what happens to downloads
///
/// Server-Sent Events (HTML, section 9.2). `task` has a `Task`, `progress` a `Progress`, `removed` an id, `reset` nothing: that
/// comes first, and wherever events were missed that are not to be had any more; the list is to be read anew, then.
#[utoipa::path(
    get,
    path = "/api/v2/events",
    params(Ask, ("last-event-id" = Option<String>, Header, description = "The last event that was seen")),
    responses(
        (status = 200, content_type = "text/event-stream", description = "Events, without an end"),
        (status = 403, body = RefusalBody, description = "Only administrators see everybody's (`admins_only`)"),
        (status = 422, body = RefusalBody, description = "The query is not what is expected (`invalid_value`)"),
        (status = 429, body = RefusalBody, description = "The user has too many streams open (`too_many_streams`)"),
    )
)]
pub(super) async fn follow(
    State(app): State<App>,
    caller: Caller,
    query: Result<Query<Ask>, QueryRejection>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, Refusal> {
    let Query(ask) = query.map_err(|e| Refusal::invalid("invalid_value", e.body_text()))?;
    let whose = whose(&caller, ask.all)?;
    let after = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let follower = app.queue.workshop().events.follow(&caller, whose, after).ok_or_else(|| {
        Refusal::new(StatusCode::TOO_MANY_REQUESTS, "too_many_streams", "Too many event streams are open already")
    })?;
    Ok(Sse::new(events(app, follower)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

fn whose(caller: &Caller, all: u8) -> Result<Whose, Refusal> {
    match all {
        0 => Ok(Whose::Own(caller.user.clone())),
        1 if caller.is_admin() => Ok(Whose::Everybodys),
        1 => Err(Refusal::new(StatusCode::FORBIDDEN, "admins_only", "Only administrators see everybody's downloads")),
        _ => Err(Refusal::invalid("invalid_value", "all is 0 or 1")),
    }
}

/// Ends when the worker does.
fn events(app: App, follower: Follower) -> impl Stream<Item = Result<Event, Infallible>> {
    unfold((app, follower), async |(app, mut follower)| {
        loop {
            match follower.missed() {
                Missed::Event(id, what) => return Some((Ok(event(&app, id, what)), (app, follower))),
                Missed::Lost(id) => return Some((Ok(named("reset", id, &json!({}))), (app, follower))),
                Missed::Nothing => app.stop.run_until_cancelled(follower.more()).await?,
            }
        }
    })
}

fn event(app: &App, id: EventId, what: What) -> Event {
    match what {
        What::Task(task) => {
            let progress = app.queue.progress(task.id);
            named("task", id, &TaskView::new(task.as_ref().clone(), progress))
        }
        What::Progress(task, progress) => named("progress", id, &ProgressView::new(task, progress)),
        What::Removed(task) => named("removed", id, &json!({ "id": task.to_string() })),
    }
}

fn named(name: &str, id: EventId, data: &impl Serialize) -> Event {
    let json = serde_json::to_string(data).unwrap_or_default();
    Event::default().event(name).id(id.to_string()).data(json)
}

impl ProgressView {
    fn new(id: TaskId, progress: Progress) -> Self {
        let Progress { percent, downloaded, total, speed, eta } = progress;
        let progress = (percent * 10.0).round() / 10.0;
        Self { id: id.to_string(), progress, downloaded_bytes: downloaded, total_bytes: total, speed, eta }
    }
}
