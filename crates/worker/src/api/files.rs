//! Finished files and thumbnails. The id or name that a client sends is looked up; it never becomes part of a path.

use axum::{
    extract::{ConnectInfo, Path, State, rejection::PathRejection},
    http::{HeaderMap, Method},
    response::Response,
};
use unicode_normalization::UnicodeNormalization;

use super::{
    App,
    file_answers::{Conditions, MediaAnswers, ThumbnailAnswers},
    refusal::{Refusal, RefusalBody},
};
use crate::{
    store::Store,
    streaming::{
        send::{Disposition, Known, Sending},
        sendfile::SendQueue,
    },
    tasks::{caller::Caller, file_name::task_of, id::TaskId, media_type::MediaType, task::Task},
};

type Named = Result<Path<String>, PathRejection>;

/// A finished file, for saving
#[utoipa::path(
    get,
    path = "/api/download/{id}/file",
    params(("id" = String, Path, format = Uuid, description = "The download"), Conditions),
    responses(
        MediaAnswers,
        (status = 404, body = RefusalBody, description = "No such download, it is not finished, or it belongs to another user"),
    )
)]
pub(super) async fn download(
    State(app): State<App>,
    caller: Caller,
    named: Named,
    method: Method,
    headers: HeaderMap,
    ConnectInfo(send_queue): ConnectInfo<SendQueue>,
) -> Result<Response, Refusal> {
    let id = named.ok().and_then(|Path(id)| id.parse().ok());
    let found = finished(&app, &caller, id).await?;
    let (task, media) = found.ok_or_else(Refusal::no_such_download)?;
    Ok(sending(&app, &task, media, &method, Disposition::Attachment).answer(&method, &headers, send_queue).await?)
}

/// A finished file, for playback
#[utoipa::path(
    get,
    path = "/api/stream/{filename}",
    params(("filename" = String, Path, description = "The `filename` of the download"), Conditions),
    responses(
        MediaAnswers,
        (status = 404, body = RefusalBody, description = "No such file, or it belongs to another user"),
    )
)]
pub(super) async fn stream(
    State(app): State<App>,
    caller: Caller,
    named: Named,
    method: Method,
    headers: HeaderMap,
    ConnectInfo(send_queue): ConnectInfo<SendQueue>,
) -> Result<Response, Refusal> {
    let unknown = || Refusal::not_found("Archivo no encontrado");
    let Path(name) = named.map_err(|_| unknown())?;
    // File names in the API are in NFC; macOS decomposes them.
    let name: String = name.nfc().collect();
    let found = finished(&app, &caller, task_of(&name)).await?;
    let (task, media) = found.filter(|(task, _)| task.file_name() == Some(name)).ok_or_else(unknown)?;
    Ok(sending(&app, &task, media, &method, Disposition::Inline).answer(&method, &headers, send_queue).await?)
}

/// The thumbnail of a download
#[utoipa::path(
    get,
    path = "/api/thumbnails/{id}",
    params(("id" = String, Path, format = Uuid, description = "The download"), Conditions),
    responses(
        ThumbnailAnswers,
        (status = 404, body = RefusalBody, description = "No such download, it has no thumbnail, or it belongs to another user"),
    )
)]
pub(super) async fn thumbnail(
    State(app): State<App>,
    caller: Caller,
    named: Named,
    method: Method,
    headers: HeaderMap,
    ConnectInfo(send_queue): ConnectInfo<SendQueue>,
) -> Result<Response, Refusal> {
    let id = named.ok().and_then(|Path(id)| id.parse().ok());
    let found = finished(&app, &caller, id).await?;
    let found = found.filter(|(task, _)| task.has_thumbnail);
    let (task, _) = found.ok_or_else(|| Refusal::not_found("Miniatura no encontrada"))?;
    let path = app.queue.context().media.thumbnail(task.id);
    let (content_type, disposition) = ("image/jpeg", Disposition::Inline);
    let reading = app.queue.context().media.read(task.id);
    Ok(Sending { id: task.id, path, content_type, disposition, name: None, reading, known: None }
        .answer(&method, &headers, send_queue)
        .await?)
}

/// Returns the task with this id if the caller may see it and it has a finished file.
pub(super) async fn finished(
    app: &App,
    caller: &Caller,
    id: Option<TaskId>,
) -> Result<Option<(Task, MediaType)>, Refusal> {
    let Some(id) = id else { return Ok(None) };
    let task = app.queue.context().store.find(id, caller).await?;
    Ok(task.and_then(|task| task.finished().map(|media| (task, media))))
}

fn sending(app: &App, task: &Task, media: MediaType, method: &Method, disposition: Disposition) -> Sending {
    let context = app.queue.context();
    if method == Method::GET {
        note_play(&context.store, task.id);
    }
    Sending {
        id: task.id,
        path: context.media.file(task.id, media),
        reading: context.media.read(task.id),
        content_type: media.content_type(),
        disposition,
        known: task.digest.zip(task.completed_at).map(|(digest, at)| Known { digest, bytes: task.filesize, at }),
        name: task.file_name(),
    }
}

/// Records a play in the background, so that the first byte does not wait for the disk.
pub(super) fn note_play(store: &Store, id: TaskId) {
    let store = store.clone();
    tokio::spawn(async move {
        if let Err(error) = store.played(id).await {
            tracing::warn!(task = %id, %error, "a play could not be recorded");
        }
    });
}
