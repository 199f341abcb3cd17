//! Finished files and thumbnails.

use axum::{extract::State, response::Response};

use super::{
    App,
    described_responses::{Conditions, MediaResponses, ThumbnailResponses},
    file_response::FileResponse,
    readable_file::{ReadableFile, Unreadable},
    refusal::{Refusal, RefusalBody},
};
use crate::streaming::send::Disposition;

/// A finished file, for saving
#[utoipa::path(
    get,
    path = "/api/download/{id}/file",
    params(("id" = String, Path, format = Uuid, description = "The download"), Conditions),
    responses(
        MediaResponses,
        (status = 404, body = RefusalBody, description = "No such download, it is not finished, or it belongs to another user"),
    )
)]
pub(super) async fn download(file: ReadableFile, response: FileResponse) -> Result<Response, Refusal> {
    response.media(file, Disposition::Attachment).await
}

/// A finished file, for playback
#[utoipa::path(
    get,
    path = "/api/stream/{filename}",
    params(("filename" = String, Path, description = "The `filename` of the download"), Conditions),
    responses(
        MediaResponses,
        (status = 404, body = RefusalBody, description = "No such file, or it belongs to another user"),
    )
)]
pub(super) async fn stream(
    file: Result<ReadableFile, Unreadable>,
    response: FileResponse,
) -> Result<Response, Refusal> {
    let file = file.map_err(|reason| reason.refusal("Archivo no encontrado"))?;
    response.media(file, Disposition::Inline).await
}

/// The thumbnail of a download
#[utoipa::path(
    get,
    path = "/api/thumbnails/{id}",
    params(("id" = String, Path, format = Uuid, description = "The download"), Conditions),
    responses(
        ThumbnailResponses,
        (status = 404, body = RefusalBody, description = "No such download, it has no thumbnail, or it belongs to another user"),
    )
)]
pub(super) async fn thumbnail(
    State(app): State<App>,
    file: Result<ReadableFile, Unreadable>,
    response: FileResponse,
) -> Result<Response, Refusal> {
    let unknown = "Miniatura no encontrada";
    let file = file.map_err(|reason| reason.refusal(unknown))?;
    if !file.task.has_thumbnail {
        return Err(Refusal::not_found(unknown));
    }
    let path = app.queue.context().media.thumbnail(file.task.id);
    response.other_file(file, path, "image/jpeg").await
}
