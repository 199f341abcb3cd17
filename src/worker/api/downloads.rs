//! The list of downloads, cancel and remove.

use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
    http::StatusCode,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{App, view::TaskView};
use crate::worker::{
    caller::Caller,
    refusal::{Refusal, RefusalBody},
    store::Cancelled,
    task::{Task, TaskId},
};

/// What was done.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Done {
    /// For people.
    message: &'static str,
}

type Id = Result<Path<String>, PathRejection>;

/// List the downloads
///
/// The caller's own; everybody's for an administrator.
#[utoipa::path(
    get,
    path = "/api/downloads",
    responses((status = 200, body = Vec<TaskView>, description = "The oldest first"))
)]
pub(super) async fn list(State(app): State<App>, caller: Caller) -> Result<Json<Vec<TaskView>>, Refusal> {
    let tasks = app.queue.workshop().store.list(caller).await?;
    let view = |task: Task| {
        let progress = app.queue.progress(task.id);
        TaskView::new(task, progress)
    };
    Ok(Json(tasks.into_iter().map(view).collect()))
}

/// Cancel a download
///
/// It stays in the list. Of a list of films, all of them.
#[utoipa::path(
    delete,
    path = "/api/downloads/{id}",
    params(("id" = String, Path, format = Uuid, description = "The download")),
    responses(
        (status = 200, body = Done, description = "It was cancelled"),
        (status = 404, body = RefusalBody, description = "None of the caller's has this id"),
        (status = 409, body = RefusalBody, description = "It has already ended (`already_ended`)"),
        (status = 507, body = RefusalBody, description = "The disk is full (`disk_full`)"),
    )
)]
pub(super) async fn cancel(State(app): State<App>, caller: Caller, id: Id) -> Result<Json<Done>, Refusal> {
    let id = own(&app, &caller, id).await?;
    match app.queue.cancel(id).await? {
        Cancelled::Yes { .. } => Ok(Json(Done { message: "Descarga cancelada" })),
        Cancelled::TooLate => {
            Err(Refusal::new(StatusCode::CONFLICT, "already_ended", "The download has already ended"))
        }
        Cancelled::Unknown => Err(Refusal::no_such_download()),
    }
}

/// Remove a download with its files
///
/// A list with all its films.
#[utoipa::path(
    delete,
    path = "/api/downloads/{id}/remove",
    params(("id" = String, Path, format = Uuid, description = "The download")),
    responses(
        (status = 200, body = Done, description = "It is gone"),
        (status = 404, body = RefusalBody, description = "None of the caller's has this id"),
        (status = 507, body = RefusalBody, description = "The disk is full (`disk_full`)"),
    )
)]
pub(super) async fn remove(State(app): State<App>, caller: Caller, id: Id) -> Result<Json<Done>, Refusal> {
    let id = own(&app, &caller, id).await?;
    app.queue.remove(id).await?;
    Ok(Json(Done { message: "Descarga eliminada" }))
}

/// The id in the path, if it is of a task that the caller may know of.
async fn own(app: &App, caller: &Caller, id: Id) -> Result<TaskId, Refusal> {
    let id = id.ok().and_then(|Path(id)| id.parse().ok()).ok_or_else(Refusal::no_such_download)?;
    let task = app.queue.workshop().store.find(id, caller).await?;
    task.map(|task| task.id).ok_or_else(Refusal::no_such_download)
}
