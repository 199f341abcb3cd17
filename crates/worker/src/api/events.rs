//! `GET /api/v2/events`: changes of tasks, as Server-Sent Events (HTML, section 9.2).

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
    event_view::{self, Told},
    refusal::{Refusal, RefusalBody},
};
use crate::{events::Follower, tasks::caller::Caller};

/// More often than any proxy times out a silent response.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The query.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Ask {
    /// 1 for everybody's downloads, which only administrators can follow.
    #[serde(default)]
    #[param(maximum = 1, default = 0)]
    all: u8,
}

/// Follow downloads
///
/// Server-Sent Events (HTML, section 9.2). The data of `task` is a `Task`, of `progress` a `Progress`, of `removed` an id; `reset`
/// has none. `reset` comes first, and again whenever missed events are no longer available: fetch the list of downloads again then.
#[utoipa::path(
    get,
    path = "/api/v2/events",
    params(Ask, ("last-event-id" = Option<String>, Header, description = "The id of the last event received")),
    responses(
        (status = 200, content_type = "text/event-stream", description = "An endless stream of events"),
        (status = 403, body = RefusalBody, description = "Only administrators can follow everybody's downloads (`admins_only`)"),
        (status = 422, body = RefusalBody, description = "The query is invalid (`invalid_value`)"),
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
    let follower = event_view::follow(&app, &caller, event_view::whose(&caller, ask.all)?, after).await?;
    Ok(Sse::new(events(app, follower)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

/// The events, until the worker stops.
fn events(app: App, follower: Follower) -> impl Stream<Item = Result<Event, Infallible>> {
    unfold((app, follower), async |(app, mut follower)| {
        let told = app.stop.run_until_cancelled(event_view::next(&app, &mut follower)).await?;
        Some((Ok(event(&told)), (app, follower)))
    })
}

fn event(told: &Told) -> Event {
    let json = serde_json::to_string(&told.data).unwrap_or_default();
    Event::default().event(told.name).id(told.id.to_string()).data(json)
}
