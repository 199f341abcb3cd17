//! `POST /api/info`: what a page offers, without the addresses of its media.

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use serde_json::Number;

use super::{App, look::resolved};
use crate::worker::{body::Body, caller::Caller, refusal::Refusal, source::SourceUrl, ytdlp::look_at};

const MAX_DESCRIPTION: usize = 2_000;
const WHAT: &str = "Information";

/// The body.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Question {
    url: String,
}

/// The answer; read from yt-dlp by the same names.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Info {
    pub(super) id: Option<String>,
    pub(super) title: Option<String>,
    description: Option<String>,
    pub(super) thumbnail: Option<String>,
    pub(super) duration: Option<Number>,
    pub(super) uploader: Option<String>,
    pub(super) view_count: Option<Number>,
    #[serde(default)]
    formats: Vec<Format>,
    /// What a page holds that is a list by yt-dlp's account, as one with an embedded video is.
    #[serde(default, skip_serializing)]
    entries: Vec<Option<Info>>,
    /// Where the question was about; not what yt-dlp has under this name, which is the media's address.
    #[serde(skip_deserializing)]
    pub(super) url: String,
}

/// One format of a page.
#[derive(Debug, Deserialize, Serialize)]
struct Format {
    #[serde(rename = "format_id")]
    id: Option<String>,
    #[serde(rename = "format_note")]
    note: Option<String>,
    ext: Option<String>,
    resolution: Option<String>,
    height: Option<Number>,
    width: Option<Number>,
    fps: Option<Number>,
    filesize: Option<Number>,
    vcodec: Option<String>,
    acodec: Option<String>,
}

impl Info {
    /// The first entry, as a download would take it; itself where it has none.
    fn of_first(mut self) -> Self {
        let first = std::mem::take(&mut self.entries).into_iter().flatten().next();
        first.unwrap_or(self)
    }
}

pub(super) async fn info(
    State(app): State<App>,
    _: Caller,
    Body(question): Body<Question>,
) -> Result<Json<Info>, Refusal> {
    let source = SourceUrl::parse(&question.url, &app.queue.workshop().config.allow_private)?;
    Ok(Json(about(&app, &source).await?))
}

/// Looks at one page.
pub(super) async fn about(app: &App, source: &SourceUrl) -> Result<Info, Refusal> {
    resolved(source, WHAT).await?;
    let page: Info = app.looks.look(app.queue.workshop(), |tools| look_at(tools, source), WHAT).await?;
    let mut info = page.of_first();
    info.description = info.description.map(|text| text.chars().take(MAX_DESCRIPTION).collect());
    source.as_str().clone_into(&mut info.url);
    Ok(info)
}
