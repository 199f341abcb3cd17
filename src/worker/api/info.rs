//! `POST /api/info`: what a page offers, without the addresses of its media.

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use serde_json::Number;
use utoipa::ToSchema;

use super::{
    App,
    look::{NotSeen, resolved},
};
use crate::worker::{
    body::Body,
    caller::Caller,
    refusal::{Refusal, RefusalBody},
    source::SourceUrl,
    ytdlp::look_at,
};

const MAX_DESCRIPTION: usize = 2_000;
const WHAT: &str = "Information";

/// What is asked about.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Question {
    /// A page or a file, by http or https and at a public place.
    #[schema(format = Uri, min_length = 1, max_length = 2048, pattern = "^[hH][tT][tT][pP][sS]?:")]
    url: String,
}

/// What a page offers.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Info {
    #[serde(flatten)]
    #[schema(inline)]
    pub(super) page: Page,
    /// What was asked about.
    pub(super) url: String,
}

/// What yt-dlp says of a page, by its names.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub(super) struct Page {
    #[schema(required)]
    pub(super) id: Option<String>,
    #[schema(required)]
    pub(super) title: Option<String>,
    #[schema(required)]
    description: Option<String>,
    #[schema(required)]
    pub(super) thumbnail: Option<String>,
    /// In seconds.
    #[schema(required, value_type = Option<f64>)]
    pub(super) duration: Option<Number>,
    #[schema(required)]
    pub(super) uploader: Option<String>,
    #[schema(required, value_type = Option<f64>)]
    pub(super) view_count: Option<Number>,
    #[serde(default)]
    #[schema(required)]
    formats: Vec<Format>,
    /// What a page holds that is a list by yt-dlp's account, as one with an embedded video is.
    #[serde(default, skip_serializing)]
    entries: Vec<Option<Page>>,
}

/// One format of a page.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
struct Format {
    #[serde(rename = "format_id")]
    #[schema(required)]
    id: Option<String>,
    #[serde(rename = "format_note")]
    #[schema(required)]
    note: Option<String>,
    #[schema(required)]
    ext: Option<String>,
    #[schema(required)]
    resolution: Option<String>,
    #[schema(required, value_type = Option<f64>)]
    height: Option<Number>,
    #[schema(required, value_type = Option<f64>)]
    width: Option<Number>,
    #[schema(required, value_type = Option<f64>)]
    fps: Option<Number>,
    /// In bytes.
    #[schema(required, value_type = Option<f64>)]
    filesize: Option<Number>,
    #[schema(required)]
    vcodec: Option<String>,
    #[schema(required)]
    acodec: Option<String>,
}

impl Page {
    /// The first entry, as a download would take it; itself where it has none.
    fn of_first(mut self) -> Self {
        let first = std::mem::take(&mut self.entries).into_iter().flatten().next();
        first.unwrap_or(self)
    }
}

/// What a page offers
///
/// Without the addresses of its media.
#[utoipa::path(
    post,
    path = "/api/info",
    request_body = Question,
    responses(
        (status = 200, body = Info, description = "What the page offers"),
        (status = 400, body = RefusalBody, description = "The body is not one JSON object with distinct keys (`malformed`)"),
        (status = 413, body = RefusalBody, description = "The body is too large (`unreadable_body`)"),
        (status = 415, body = RefusalBody, description = "The body is not said to be JSON (`not_json`)"),
        NotSeen,
    )
)]
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
    let page: Page = app.looks.look(app.queue.workshop(), |tools| look_at(tools, source), WHAT).await?;
    let mut page = page.of_first();
    page.description = page.description.map(|text| text.chars().take(MAX_DESCRIPTION).collect());
    // What yt-dlp has under this name is the media's address.
    Ok(Info { page, url: source.as_str().to_owned() })
}
