//! The subtitles of finished files, as WebVTT.

use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
    response::Response,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    App,
    described_responses::{Conditions, SubtitlesResponses},
    file_response::FileResponse,
    readable_file::{ReadableFile, Unreadable},
    refusal::{Refusal, RefusalBody},
};
use crate::tasks::{id::TaskId, language::Language};

const CONTENT_TYPE: &str = "text/vtt; charset=utf-8";
const UNKNOWN: &str = "Subtitles not found";

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
pub(super) async fn list(file: ReadableFile) -> Json<Vec<SubtitlesView>> {
    let task = file.task;
    Json(task.subtitles.iter().map(|language| SubtitlesView::new(task.id, language)).collect())
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
        SubtitlesResponses,
        (status = 404, body = RefusalBody, description = "No such download, it has no subtitles in this language, or it belongs to another user"),
    )
)]
pub(super) async fn file(
    State(app): State<App>,
    file: Result<ReadableFile, Unreadable>,
    named: Result<Path<(String, String)>, PathRejection>,
    response: FileResponse,
) -> Result<Response, Refusal> {
    let file = file.map_err(|reason| reason.refusal(UNKNOWN))?;
    let unknown = || Refusal::not_found(UNKNOWN);
    let Path((_, name)) = named.map_err(|_| unknown())?;
    let language = name.strip_suffix(".vtt").and_then(|tag| tag.parse().ok()).ok_or_else(unknown)?;
    let language = file.task.subtitles.best(&language).ok_or_else(unknown)?;
    let path = app.queue.context().media.subtitles(file.task.id, language);
    response.other_file(file, path, CONTENT_TYPE).await
}

impl SubtitlesView {
    fn new(id: TaskId, language: &Language) -> Self {
        Self { language: language.to_string(), url: format!("/api/v2/downloads/{id}/subtitles/{language}.vtt") }
    }
}
