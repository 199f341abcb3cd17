//! Finished films as HLS, for players that cannot read their file.

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
};
use crate::worker::{
    caller::Caller,
    conduit::Lane,
    refusal::{Refusal, RefusalBody},
    send::{Disposition, Sending},
    task::Task,
};

/// RFC 8216, section 4.
const PLAYLIST: &str = "application/vnd.apple.mpegurl";

type Id = Result<Path<String>, PathRejection>;

/// A finished download as HLS
///
/// The first who asks waits until it is prepared, for a while.
#[utoipa::path(
    get,
    path = "/api/v2/hls/{id}/index.m3u8",
    params(("id" = String, Path, format = Uuid, description = "The download")),
    responses(
        (status = 200, body = String, content_type = PLAYLIST, description = "The playlist"),
        (status = 404, body = RefusalBody, description = "None of the caller's has this id and is finished"),
        (status = 415, body = RefusalBody, description = "Its streams have no place in MP4 (`not_streamable`)"),
        (status = 500, body = RefusalBody, description = "It cannot be prepared (`remux_failed`)"),
        (status = 503, body = RefusalBody, description = "Not yet (`preparing`), or not now (`busy`, `ffmpeg_missing`)"),
        (status = 507, body = RefusalBody, description = "There is no room (`disk_full`, `disk_read_only`)"),
    )
)]
pub(super) async fn playlist(
    State(app): State<App>,
    caller: Caller,
    id: Id,
) -> Result<([(HeaderName, &'static str); 2], Bytes), Refusal> {
    let task = own(&app, &caller, id).await?;
    let workshop = app.queue.workshop();
    let _reading = workshop.readers.begin(task.id);
    let playlist = workshop.streams.playlist(&app.queue, &task, caller.link.as_deref()).await?;
    let text = answer::text(&app, &caller, playlist.most, async { Ok(playlist.text().await?) }).await?;
    note_play(&workshop.store, task.id);
    // With the link that it may have in it, it is nobody else's.
    let headers = [(header::CONTENT_TYPE, PLAYLIST), (header::CACHE_CONTROL, "private, no-store")];
    Ok((headers, text))
}

/// What the playlist of a download names
#[utoipa::path(
    get,
    path = "/api/v2/hls/{id}/stream.mp4",
    params(("id" = String, Path, format = Uuid, description = "The download"), Conditions),
    responses(
        StreamAnswers,
        (status = 404, body = RefusalBody, description = "None of the caller's has this id and is finished"),
        (status = 415, body = RefusalBody, description = "Its streams have no place in MP4 (`not_streamable`)"),
        (status = 500, body = RefusalBody, description = "It cannot be prepared (`remux_failed`)"),
        (status = 503, body = RefusalBody, description = "Not yet (`preparing`), or not now (`busy`, `ffmpeg_missing`)"),
        (status = 507, body = RefusalBody, description = "There is no room (`disk_full`, `disk_read_only`)"),
    )
)]
pub(super) async fn stream(
    State(app): State<App>,
    caller: Caller,
    id: Id,
    method: Method,
    headers: HeaderMap,
    ConnectInfo(lane): ConnectInfo<Lane>,
) -> Result<Response, Refusal> {
    let task = own(&app, &caller, id).await?;
    let (id, workshop) = (task.id, app.queue.workshop());
    let reading = workshop.readers.begin(id);
    let path = workshop.streams.file(&app.queue, &task).await?;
    if method == Method::GET {
        note_play(&workshop.store, id);
    }
    let (content_type, disposition) = ("video/mp4", Disposition::Inline);
    Sending { id, path, content_type, disposition, name: None, reading, known: None }
        .answer(&method, &headers, lane)
        .await
}

async fn own(app: &App, caller: &Caller, id: Id) -> Result<Task, Refusal> {
    let id = id.ok().and_then(|Path(id)| id.parse().ok());
    let found = finished(app, caller, id).await?;
    found.map(|(task, _)| task).ok_or_else(Refusal::no_such_download)
}
