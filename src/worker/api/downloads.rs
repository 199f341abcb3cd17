//! The list of downloads, cancel and remove.

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
    rows::{Frame, Rows},
    view::TaskView,
};
use crate::worker::{
    caller::Caller,
    refusal::{Refusal, RefusalBody},
    store::{Cancelled, Selection},
    task::TaskId,
};

/// What was done.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Done {
    /// For people.
    message: &'static str,
}

/// As many as one user has at most. What an administrator has beyond that comes in pages.
const MAX_LISTED: usize = 5_000;

type Id = Result<Path<String>, PathRejection>;

/// List the downloads
///
/// The caller's own; everybody's for an administrator.
#[utoipa::path(
    get,
    path = "/api/downloads",
    responses(
        (status = 200, body = Vec<TaskView>, description = "The oldest first; of more than 5,000 the newest 5,000"),
        (status = 503, body = RefusalBody, description = "Other answers to this user are still unread (`busy`)"),
    )
)]
pub(super) async fn list(State(app): State<App>, caller: Caller) -> Result<Response, Refusal> {
    let owner = (!caller.is_admin()).then(|| caller.user.clone());
    let place = app.queue.workshop().store.before_newest(owner.clone(), MAX_LISTED).await?;
    let selection = Selection { owner, ..Selection::default() };
    let frame = Frame { before: b"[".to_vec(), after: |_, _| b"]".to_vec(), rest: Vec::new() };
    Rows::new(&app, &caller, selection, place, MAX_LISTED, frame).answer().await
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
