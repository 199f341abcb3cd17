//! Finished downloads as HLS, for players that cannot play the file itself.

use axum::{
    extract::State,
    http::{HeaderName, header},
    response::Response,
};
use bytes::Bytes;

use super::{
    App,
    described_responses::{Conditions, StreamResponses},
    file_response::{FileResponse, note_play},
    json_response,
    readable_file::ReadableFile,
    refusal::{Refusal, RefusalBody},
};
use crate::tasks::caller::Caller;

/// RFC 8216, section 4.
const PLAYLIST: &str = "application/vnd.apple.mpegurl";

/// A finished download as HLS
///
/// The first request prepares the stream, and waits for it up to a limit.
#[utoipa::path(
    get,
    path = "/api/v2/hls/{id}/index.m3u8",
    params(("id" = String, Path, format = Uuid, description = "The download")),
    responses(
        (status = 200, body = String, content_type = PLAYLIST, description = "The playlist"),
        (status = 404, body = RefusalBody, description = "No such download, it is not finished, or it belongs to another user"),
        (status = 415, body = RefusalBody, description = "MP4 cannot hold its video or audio format (`not_streamable`)"),
        (status = 500, body = RefusalBody, description = "The stream could not be prepared (`remux_failed`)"),
        (status = 503, body = RefusalBody, description = "The stream is not ready (`preparing`) or cannot be prepared (`busy`, `ffmpeg_missing`)"),
        (status = 507, body = RefusalBody, description = "The server cannot store anything (`disk_full`, `disk_read_only`)"),
    )
)]
pub(super) async fn playlist(
    State(app): State<App>,
    caller: Caller,
    file: ReadableFile,
) -> Result<([(HeaderName, &'static str); 2], Bytes), Refusal> {
    let playlist = app.queue.streams().playlist(&file.task, caller.link.as_deref()).await?;
    let text = json_response::text(&app, &caller, playlist.most, async { Ok(playlist.text().await?) }).await?;
    note_play(&app.queue.context().store, file.task.id);
    // The playlist may contain the caller's signed link, so no shared cache may store it.
    let headers = [(header::CONTENT_TYPE, PLAYLIST), (header::CACHE_CONTROL, "private, no-store")];
    Ok((headers, text))
}

/// The media file that the playlist of a download refers to
#[utoipa::path(
    get,
    path = "/api/v2/hls/{id}/stream.mp4",
    params(("id" = String, Path, format = Uuid, description = "The download"), Conditions),
    responses(
        StreamResponses,
        (status = 404, body = RefusalBody, description = "No such download, it is not finished, or it belongs to another user"),
        (status = 415, body = RefusalBody, description = "MP4 cannot hold its video or audio format (`not_streamable`)"),
        (status = 500, body = RefusalBody, description = "The stream could not be prepared (`remux_failed`)"),
        (status = 503, body = RefusalBody, description = "The stream is not ready (`preparing`) or cannot be prepared (`busy`, `ffmpeg_missing`)"),
        (status = 507, body = RefusalBody, description = "The server cannot store anything (`disk_full`, `disk_read_only`)"),
    )
)]
pub(super) async fn stream(
    State(app): State<App>,
    file: ReadableFile,
    response: FileResponse,
) -> Result<Response, Refusal> {
    let path = app.queue.streams().file(&file.task).await?;
    response.note_play(&file);
    response.other_file(file, path, "video/mp4").await
}
