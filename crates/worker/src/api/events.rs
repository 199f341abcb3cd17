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
    event_view::{self, EventView},
    refusal::{Refusal, RefusalBody},
};
use crate::{events::Subscription, tasks::caller::Caller};

/// More often than any proxy times out a silent response.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The query.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct EventsQuery {
    /// 1 for all users' downloads, which only administrators can follow.
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
    params(EventsQuery, ("last-event-id" = Option<String>, Header, description = "The id of the last event received")),
    responses(
        (status = 200, content_type = "text/event-stream", description = "An endless stream of events"),
        (status = 403, body = RefusalBody, description = "Only administrators can follow all users' downloads (`admins_only`)"),
        (status = 422, body = RefusalBody, description = "The query is invalid (`invalid_value`)"),
        (status = 429, body = RefusalBody, description = "The user has too many streams open (`too_many_streams`)"),
        (status = 503, body = RefusalBody, description = "The worker is stopping (`busy`)"),
    )
)]
pub(super) async fn follow(
    State(app): State<App>,
    caller: Caller,
    query: Result<Query<EventsQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, Refusal> {
    let Query(query) = query.map_err(|e| Refusal::invalid("invalid_value", e.body_text()))?;
    let after = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let subscription = event_view::subscribe(&app, &caller, event_view::audience(&caller, query.all)?, after).await?;
    Ok(Sse::new(events(app, subscription)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

/// The events, until the worker stops.
fn events(app: App, subscription: Subscription) -> impl Stream<Item = Result<Event, Infallible>> {
    unfold((app, subscription), async |(app, mut subscription)| {
        let event = app.stop.run_until_cancelled(event_view::next(&app, &mut subscription)).await?;
        Some((Ok(sse(&event)), (app, subscription)))
    })
}

fn sse(event: &EventView) -> Event {
    let json = serde_json::to_string(&event.data).unwrap_or_default();
    Event::default().event(event.name).id(event.id.to_string()).data(json)
}
