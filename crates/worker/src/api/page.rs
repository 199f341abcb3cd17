//! `GET /api/v2/downloads`: downloads in pages, with a filter and totals.

use std::str::FromStr;

use axum::{
    extract::{Query, State, rejection::QueryRejection},
    response::Response,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    App,
    refusal::{Refusal, RefusalBody},
    rows::{Frame, Rows},
    view::TaskView,
};
use crate::{
    store::{Order, Selection, Sequence},
    tasks::{caller::Caller, task::Status},
};

pub(super) const MAX_LIMIT: usize = 100;
pub(super) const MAX_TEXT: usize = 200;

/// The query.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PageQuery {
    /// The maximum number of downloads to return.
    #[serde(default = "some_rows")]
    #[param(minimum = 1, maximum = 100, default = some_rows)]
    limit: usize,
    /// The `next` of the previous page; without it, the newest downloads.
    cursor: Option<String>,
    /// Only downloads in these states, separated by commas.
    #[param(example = "pending,downloading")]
    status: Option<String>,
    /// Only downloads whose title or URL contains this text, ignoring case.
    #[param(max_length = 200)]
    text: Option<String>,
}

/// A page of downloads.
#[derive(Debug, ToSchema)]
#[schema(as = Downloads)]
#[expect(dead_code, reason = "it describes what `Rows` writes")]
pub(super) struct PageView {
    /// Newest first. A page can hold fewer than `limit` downloads, even none, without being the last one.
    downloads: Vec<TaskView>,
    /// The `cursor` for the next page; null if this is the last one.
    #[schema(required)]
    next: Option<String>,
    totals: Totals,
}

/// The number of downloads, regardless of the filter.
#[derive(Debug, Default, Serialize, ToSchema)]
struct Totals {
    all: u64,
    pending: u64,
    downloading: u64,
    processing: u64,
    completed: u64,
    error: u64,
    cancelled: u64,
}

/// List downloads in pages
///
/// The caller's own; for an administrator, all users'.
#[utoipa::path(
    get,
    path = "/api/v2/downloads",
    params(PageQuery),
    responses(
        (status = 200, body = PageView, description = "Newest first"),
        (status = 422, body = RefusalBody, description = "The query is invalid (`invalid_value`)"),
        (status = 503, body = RefusalBody, description = "The user has not finished reading other responses (`busy`)"),
    )
)]
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(query) = query.map_err(|e| Refusal::invalid("invalid_value", e.body_text()))?;
    let position = query.position()?;
    let limit = query.limit()?;
    let selection = query.selection(&caller)?;
    let totals = app.queue.context().store.totals(selection.owner.clone()).await?;
    let frame = Frame {
        before: b"{\"downloads\":[".to_vec(),
        after: end,
        rest: serde_json::to_vec(&Totals::of(&totals)).unwrap_or_default(),
    };
    Rows::new(&app, &caller, selection, position, limit, frame).respond().await
}

fn end(next: Option<Sequence>, totals: &[u8]) -> Vec<u8> {
    let next = next.map_or_else(|| "null".to_owned(), |position| format!("\"{position:x}\""));
    [b"],\"next\":", next.as_bytes(), b",\"totals\":", totals, b"}"].concat()
}

impl PageQuery {
    fn limit(&self) -> Result<usize, Refusal> {
        let in_range = (1..=MAX_LIMIT).contains(&self.limit);
        in_range.then_some(self.limit).ok_or_else(|| invalid("limit must be 1 to 100"))
    }

    fn position(&self) -> Result<Option<Sequence>, Refusal> {
        let read = |text: &String| Sequence::from_str_radix(text, 16).ok().filter(|position| *position > 0);
        let position = self.cursor.as_ref().map(|text| read(text).ok_or(())).transpose();
        position.map_err(|()| invalid("cursor must be the `next` of a previous page"))
    }

    fn selection(&self, caller: &Caller) -> Result<Selection, Refusal> {
        let text = self.text.as_deref().unwrap_or_default();
        if text.chars().count() > MAX_TEXT {
            return Err(invalid("text must have at most 200 characters"));
        }
        let owner = (!caller.is_admin()).then(|| caller.user.clone());
        Ok(Selection { owner, states: self.states()?, text: text.trim().to_lowercase(), order: Order::NewestFirst })
    }

    /// Clients see a playlist with running videos as downloading.
    fn states(&self) -> Result<Vec<Status>, Refusal> {
        let mut states = Vec::new();
        for name in self.status.iter().flat_map(|names| names.split(',')) {
            let status = Status::from_str(name).ok().filter(|status| Status::SHOWN.contains(status));
            let status = status.ok_or_else(|| {
                invalid("status must name pending, downloading, processing, completed, error or cancelled, separated by commas")
            })?;
            states.push(status);
            if status == Status::Downloading {
                states.push(Status::Expanded);
            }
        }
        Ok(states)
    }
}

impl Totals {
    fn of(counts: &[(&'static str, u64)]) -> Self {
        let of =
            |status: Status| counts.iter().filter(|(name, _)| *name == status.name()).map(|(_, count)| count).sum();
        Self {
            all: counts.iter().map(|(_, count)| count).sum(),
            pending: of(Status::Pending),
            downloading: of(Status::Downloading),
            processing: of(Status::Processing),
            completed: of(Status::Completed),
            error: of(Status::Error),
            cancelled: of(Status::Cancelled),
        }
    }
}

fn invalid(detail: &'static str) -> Refusal {
    Refusal::invalid("invalid_value", detail)
}

fn some_rows() -> usize {
    50
}
