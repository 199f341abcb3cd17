//! `POST /api/download`: starts a download.

use axum::{Json, extract::State};
use serde::Deserialize;

use super::{App, view::TaskView};
use crate::worker::{
    body::Body,
    caller::Caller,
    order::{Output, Priority, Quality},
    refusal::Refusal,
    source::{SourceError, SourceUrl},
    task::Task,
};

/// The body.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Order {
    url: String,
    #[serde(default)]
    quality: Quality,
    #[serde(default = "video")]
    download_type: String,
    format: Option<String>,
    #[serde(default)]
    priority: Priority,
}

pub(super) async fn start(
    State(app): State<App>,
    caller: Caller,
    Body(order): Body<Order>,
) -> Result<Json<TaskView>, Refusal> {
    let workshop = app.queue.workshop();
    let source = SourceUrl::parse(&order.url, &workshop.config.allow_private)?;
    let output = Output::parse(&order.download_type, order.format.as_deref())
        .map_err(|e| Refusal::invalid("invalid_value", e.to_string()))?;
    workshop.readiness.tools().await?;
    workshop.disks.room().await?;
    let task = Task::new(caller.user, source.as_str().to_owned(), order.quality, output);
    let task = Task { priority: order.priority, ..task };
    app.queue.add(task.clone()).await?;
    Ok(Json(TaskView::new(task, None)))
}

impl From<SourceError> for Refusal {
    fn from(error: SourceError) -> Self {
        Self::invalid("url_refused", error.to_string())
    }
}

fn video() -> String {
    "video".to_owned()
}
