//! Lists, cancels and removes downloads.

use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
    http::StatusCode,
    response::Response,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    App,
    refusal::{Refusal, RefusalBody},
    rows::{Frame, Rows},
    view::TaskView,
};
use crate::{
    store::{CancelResult, Selection},
    tasks::{caller::Caller, id::TaskId},
};

/// A confirmation.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Done {
    /// Human-readable text.
    message: &'static str,
}

/// The maximum number of downloads of one user. An administrator reads more than that in pages.
const MAX_LISTED: usize = 5_000;

type Id = Result<Path<String>, PathRejection>;

/// List downloads
///
/// The caller's own; for an administrator, all users'.
#[utoipa::path(
    get,
    path = "/api/downloads",
    responses(
        (status = 200, body = Vec<TaskView>, description = "Oldest first; if there are more than 5,000, the newest 5,000"),
        (status = 503, body = RefusalBody, description = "The user has not finished reading other responses (`busy`)"),
    )
)]
pub(super) async fn list(State(app): State<App>, caller: Caller) -> Result<Response, Refusal> {
    let owner = (!caller.is_admin()).then(|| caller.user.clone());
    let position = app.queue.context().store.before_newest(owner.clone(), MAX_LISTED).await?;
    let selection = Selection { owner, ..Selection::default() };
    let frame = Frame { before: b"[".to_vec(), after: |_, _| b"]".to_vec(), rest: Vec::new() };
    Rows::new(&app, &caller, selection, position, MAX_LISTED, frame).respond().await
}

/// Cancel a download
///
/// It stays in the list. Cancelling a playlist cancels all its videos.
#[utoipa::path(
    delete,
    path = "/api/downloads/{id}",
    params(("id" = String, Path, format = Uuid, description = "The download")),
    responses(
        (status = 200, body = Done, description = "The download is cancelled"),
        (status = 404, body = RefusalBody, description = "No such download, or it belongs to another user"),
        (status = 409, body = RefusalBody, description = "The download has already ended (`already_ended`)"),
        (status = 507, body = RefusalBody, description = "The disk is full (`disk_full`)"),
    )
)]
pub(super) async fn cancel(State(app): State<App>, caller: Caller, id: Id) -> Result<Json<Done>, Refusal> {
    let id = visible_task(&app, &caller, id).await?;
    match app.queue.cancel(id).await? {
        CancelResult::Yes { .. } => Ok(Json(Done { message: "Descarga cancelada" })),
        CancelResult::TooLate => {
            Err(Refusal::new(StatusCode::CONFLICT, "already_ended", "The download has already ended"))
        }
        CancelResult::Unknown => Err(Refusal::no_such_download()),
    }
}

/// Remove a download with its files
///
/// Removing a playlist removes all its videos.
#[utoipa::path(
    delete,
    path = "/api/downloads/{id}/remove",
    params(("id" = String, Path, format = Uuid, description = "The download")),
    responses(
        (status = 200, body = Done, description = "The download and its files are removed"),
        (status = 404, body = RefusalBody, description = "No such download, or it belongs to another user"),
        (status = 507, body = RefusalBody, description = "The disk is full (`disk_full`)"),
    )
)]
pub(super) async fn remove(State(app): State<App>, caller: Caller, id: Id) -> Result<Json<Done>, Refusal> {
    let id = visible_task(&app, &caller, id).await?;
    app.queue.remove(id).await?;
    Ok(Json(Done { message: "Descarga eliminada" }))
}

/// Returns the id in the path if it belongs to a task that the caller may see.
async fn visible_task(app: &App, caller: &Caller, id: Id) -> Result<TaskId, Refusal> {
    let id = id.ok().and_then(|Path(id)| id.parse().ok()).ok_or_else(Refusal::no_such_download)?;
    let task = app.queue.context().store.find(id, caller).await?;
    task.map(|task| task.id).ok_or_else(Refusal::no_such_download)
}
