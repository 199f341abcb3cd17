//! `POST /api/info`: what a page offers, without the addresses of its media.

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use serde_json::Number;
use utoipa::ToSchema;

use super::{
    App,
    look::{LookError, NotSeen, Question, resolved},
};
use crate::username::UserName;
use crate::worker::{
    body::Body,
    caller::Caller,
    refusal::{Refusal, RefusalBody},
    source::SourceUrl,
};

const MAX_DESCRIPTION: usize = 2_000;
const WHAT: &str = "Information";

/// What is asked about.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Question)]
pub(super) struct Asked {
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
    request_body = Asked,
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
    caller: Caller,
    Body(asked): Body<Asked>,
) -> Result<Json<Info>, Refusal> {
    let source = SourceUrl::parse(&asked.url, &app.queue.workshop().config.allow_private)?;
    Ok(Json(about(&app, &caller.user, source).await?))
}

/// Looks at one page.
pub(super) async fn about(app: &App, user: &UserName, source: SourceUrl) -> Result<Info, Refusal> {
    resolved(&source, WHAT).await?;
    let url = source.as_str().to_owned();
    let json = app.looks.look(&app.queue, user, Question::Page(source)).await;
    let page = json.and_then(|json| serde_json::from_slice(&json).map_err(|_| LookError::Unreadable));
    // What yt-dlp has under this name is the media's address.
    page.map(|page| Info { page, url }).map_err(|error| error.refusal(WHAT))
}

/// What is shown of yt-dlp's answer, by the same names.
pub(super) fn read(line: &str) -> Option<Vec<u8>> {
    let page: Page = serde_json::from_str(line).ok()?;
    let mut page = page.of_first();
    page.description = page.description.map(|text| text.chars().take(MAX_DESCRIPTION).collect());
    serde_json::to_vec(&page).ok()
}
