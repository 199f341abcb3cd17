//! Finished downloads as HLS, for players that cannot play the file itself.

use axum::{
    extract::{ConnectInfo, Path, State, rejection::PathRejection},
    http::{HeaderMap, HeaderName, Method, header},
    response::Response,
};
use bytes::Bytes;

use super::{
    App, answer,
    file_answers::{Conditions, StreamAnswers},
    files::{finished, note_play},
    refusal::{Refusal, RefusalBody},
};
use crate::{
    streaming::{
        send::{Disposition, Sending},
        sendfile::SendQueue,
    },
    tasks::{caller::Caller, task::Task},
};

/// RFC 8216, section 4.
const PLAYLIST: &str = "application/vnd.apple.mpegurl";

type Id = Result<Path<String>, PathRejection>;

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
    id: Id,
) -> Result<([(HeaderName, &'static str); 2], Bytes), Refusal> {
    let task = own(&app, &caller, id).await?;
    let context = app.queue.context();
    let _reading = context.media.read(task.id);
    let playlist = app.queue.streams().playlist(&task, caller.link.as_deref()).await?;
    let text = answer::text(&app, &caller, playlist.most, async { Ok(playlist.text().await?) }).await?;
    note_play(&context.store, task.id);
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
        StreamAnswers,
        (status = 404, body = RefusalBody, description = "No such download, it is not finished, or it belongs to another user"),
        (status = 415, body = RefusalBody, description = "MP4 cannot hold its video or audio format (`not_streamable`)"),
        (status = 500, body = RefusalBody, description = "The stream could not be prepared (`remux_failed`)"),
        (status = 503, body = RefusalBody, description = "The stream is not ready (`preparing`) or cannot be prepared (`busy`, `ffmpeg_missing`)"),
        (status = 507, body = RefusalBody, description = "The server cannot store anything (`disk_full`, `disk_read_only`)"),
    )
)]
pub(super) async fn stream(
    State(app): State<App>,
    caller: Caller,
    id: Id,
    method: Method,
    headers: HeaderMap,
    ConnectInfo(send_queue): ConnectInfo<SendQueue>,
) -> Result<Response, Refusal> {
    let task = own(&app, &caller, id).await?;
    let (id, context) = (task.id, app.queue.context());
    let reading = context.media.read(id);
    let path = app.queue.streams().file(&task).await?;
    if method == Method::GET {
        note_play(&context.store, id);
    }
    let (content_type, disposition) = ("video/mp4", Disposition::Inline);
    Ok(Sending { id, path, content_type, disposition, name: None, reading, known: None }
        .answer(&method, &headers, send_queue)
        .await?)
}

async fn own(app: &App, caller: &Caller, id: Id) -> Result<Task, Refusal> {
    let id = id.ok().and_then(|Path(id)| id.parse().ok());
    let found = finished(app, caller, id).await?;
    found.map(|(task, _)| task).ok_or_else(Refusal::no_such_download)
}
