//! The list of downloads, cancel and remove.

use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
    http::StatusCode,
};
use serde_json::{Value, json};

use super::{App, view::TaskView};
use crate::worker::{
    caller::Caller,
    refusal::Refusal,
    store::Cancelled,
    task::{Task, TaskId},
};

type Id = Result<Path<String>, PathRejection>;

/// `GET /api/downloads`
pub(super) async fn list(State(app): State<App>, caller: Caller) -> Result<Json<Vec<TaskView>>, Refusal> {
    let tasks = app.queue.workshop().store.list(caller).await?;
    let view = |task: Task| {
        let progress = app.queue.progress(task.id);
        TaskView::new(task, progress)
    };
    Ok(Json(tasks.into_iter().map(view).collect()))
}

/// `DELETE /api/downloads/{id}`: cancels it; it stays in the list.
pub(super) async fn cancel(State(app): State<App>, caller: Caller, id: Id) -> Result<Json<Value>, Refusal> {
    let id = own(&app, &caller, id).await?;
    match app.queue.cancel(id).await? {
        Cancelled::Yes => Ok(Json(json!({"message": "Descarga cancelada"}))),
        Cancelled::TooLate => {
            Err(Refusal::new(StatusCode::CONFLICT, "already_ended", "The download has already ended"))
        }
        Cancelled::Unknown => Err(Refusal::no_such_download()),
    }
}

/// `DELETE /api/downloads/{id}/remove`: removes it with its files.
pub(super) async fn remove(State(app): State<App>, caller: Caller, id: Id) -> Result<Json<Value>, Refusal> {
    let id = own(&app, &caller, id).await?;
    app.queue.remove(id).await?;
    Ok(Json(json!({"message": "Descarga eliminada"})))
}

/// The id in the path, if it is of a task that the caller may know of.
async fn own(app: &App, caller: &Caller, id: Id) -> Result<TaskId, Refusal> {
    let id = id.ok().and_then(|Path(id)| id.parse().ok()).ok_or_else(Refusal::no_such_download)?;
    let task = app.queue.workshop().store.find(id, caller).await?;
    task.map(|task| task.id).ok_or_else(Refusal::no_such_download)
}
