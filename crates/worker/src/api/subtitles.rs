//! The subtitles of finished files, as WebVTT.

use axum::{
    Json,
    extract::{ConnectInfo, Path, State, rejection::PathRejection},
    http::{HeaderMap, Method},
    response::Response,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    App,
    file_answers::{Conditions, SubtitlesAnswers},
    files::finished,
    refusal::{Refusal, RefusalBody},
};
use crate::{
    streaming::{
        send::{Disposition, Sending},
        sendfile::SendQueue,
    },
    tasks::{caller::Caller, id::TaskId, language::Language},
};

const CONTENT_TYPE: &str = "text/vtt; charset=utf-8";

/// Subtitles in one language.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SubtitlesView {
    language: String,
    url: String,
}

/// The subtitles of a finished download
#[utoipa::path(
    get,
    path = "/api/v2/downloads/{id}/subtitles",
    params(("id" = String, Path, format = Uuid, description = "The download")),
    responses(
        (status = 200, body = Vec<SubtitlesView>, description = "One entry for each available language"),
        (status = 404, body = RefusalBody, description = "No such download, it is not finished, or it belongs to another user"),
    )
)]
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Vec<SubtitlesView>>, Refusal> {
    let id = id.ok().and_then(|Path(id)| id.parse().ok());
    let found = finished(&app, &caller, id).await?;
    let (task, _) = found.ok_or_else(Refusal::no_such_download)?;
    Ok(Json(task.subtitles.iter().map(|language| SubtitlesView::new(task.id, language)).collect()))
}

/// Subtitles as WebVTT
#[utoipa::path(
    get,
    path = "/api/v2/downloads/{id}/subtitles/{file}",
    params(
        ("id" = String, Path, format = Uuid, description = "The download"),
        ("file" = String, Path, pattern = r"^[A-Za-z0-9]+(-[A-Za-z0-9]+)*\.vtt$", max_length = 39, description = "A language from the list of subtitles, followed by `.vtt`"),
        Conditions,
    ),
    responses(
        SubtitlesAnswers,
        (status = 404, body = RefusalBody, description = "No such download, it has no subtitles in this language, or it belongs to another user"),
    )
)]
pub(super) async fn file(
    State(app): State<App>,
    caller: Caller,
    named: Result<Path<(String, String)>, PathRejection>,
    method: Method,
    headers: HeaderMap,
    ConnectInfo(send_queue): ConnectInfo<SendQueue>,
) -> Result<Response, Refusal> {
    let unknown = || Refusal::not_found("Subtitles not found");
    let Path((id, name)) = named.map_err(|_| unknown())?;
    let language = name.strip_suffix(".vtt").and_then(|tag| tag.parse().ok()).ok_or_else(unknown)?;
    let (task, _) = finished(&app, &caller, id.parse().ok()).await?.ok_or_else(unknown)?;
    let language = task.subtitles.best(&language).ok_or_else(unknown)?;
    let context = app.queue.context();
    let sending = Sending {
        id: task.id,
        path: context.media.subtitles(task.id, language),
        content_type: CONTENT_TYPE,
        disposition: Disposition::Inline,
        name: None,
        reading: context.media.read(task.id),
        known: None,
    };
    Ok(sending.answer(&method, &headers, send_queue).await?)
}

impl SubtitlesView {
    fn new(id: TaskId, language: &Language) -> Self {
        Self { language: language.to_string(), url: format!("/api/v2/downloads/{id}/subtitles/{language}.vtt") }
    }
}
