//! `GET /api/v2/events`: what happens to tasks, as Server-Sent Events (HTML, section 9.2).

use std::{convert::Infallible, time::Duration};

use axum::{
    extract::{Query, State, rejection::QueryRejection},
    http::HeaderMap,
    response::{
        IntoResponse,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_util::stream::{Stream, unfold};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    App,
    told::{self, Told},
};
use crate::worker::{
    caller::Caller,
    events::Follower,
    refusal::{Refusal, RefusalBody},
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
        (status = 503, body = RefusalBody, description = "The worker is stopping (`busy`)"),
    )
)]
pub(super) async fn follow(
    State(app): State<App>,
    caller: Caller,
    query: Result<Query<Ask>, QueryRejection>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, Refusal> {
    let Query(ask) = query.map_err(|e| Refusal::invalid("invalid_value", e.body_text()))?;
    let after = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let follower = told::follow(&app, &caller, told::whose(&caller, ask.all)?, after).await?;
    Ok(Sse::new(events(app, follower)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

/// Ends when the worker does.
fn events(app: App, follower: Follower) -> impl Stream<Item = Result<Event, Infallible>> {
    unfold((app, follower), async |(app, mut follower)| {
        let told = app.stop.run_until_cancelled(told::next(&app, &mut follower)).await?;
        Some((Ok(event(&told)), (app, follower)))
    })
}

fn event(told: &Told) -> Event {
    let json = serde_json::to_string(&told.data).unwrap_or_default();
    Event::default().event(told.name).id(told.id.to_string()).data(json)
}
