//! `POST /api/info`: what a page offers, without the URLs of its media.

use axum::{extract::State, response::Response};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Number;
use utoipa::ToSchema;

use super::{
    App,
    body::Body,
    json_response,
    metadata::{LookupError, LookupFailures, Question, resolved},
    refusal::{Refusal, RefusalBody},
};
use crate::tasks::{caller::Caller, source::SourceUrl};

const WHAT: &str = "Information";

/// Limits for a page's own texts, in characters.
const MAX_DESCRIPTION: usize = 2_000;
pub(super) const MAX_TITLE: usize = 500;
pub(super) const MAX_NAME: usize = 200;
/// The limit for the texts of a format.
const MAX_WORD: usize = 80;

/// Longer URLs are left out: cut ones would lead nowhere. In bytes.
pub(super) const MAX_ADDRESS: usize = 2_048;

/// Some sites list hundreds of formats, the best ones last.
const MAX_FORMATS: usize = 200;

/// The maximum size of the JSON of a whole page, in bytes. A video with many formats has some 30 KiB.
pub(super) const MAX_FOUND: usize = 128 << 10;

/// The maximum size of what a response adds to that, in bytes: a URL or the search words, as JSON.
pub(super) const MAX_ADDED: usize = 16 << 10;

/// The page to examine.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Question)]
pub(super) struct InfoRequest {
    /// A page or a file, over http or https, on a public address.
    #[schema(format = Uri, min_length = 1, max_length = 2048, pattern = "^[hH][tT][tT][pP][sS]?:")]
    url: String,
}

/// What a page offers.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Info {
    #[serde(flatten)]
    #[schema(inline)]
    pub(super) page: Page,
    /// The requested URL.
    pub(super) url: String,
}

/// What yt-dlp reports about a page, under its own field names.
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
    /// The entries of a page that yt-dlp reports as a playlist, as it does for a page with an embedded video.
    #[serde(default, skip_serializing)]
    entries: Vec<Option<Page>>,
}

/// Cuts a text to at most `most` characters.
pub(super) fn cut(text: &mut Option<String>, most: usize) {
    if let Some(text) = text
        && let Some((end, _)) = text.char_indices().nth(most)
    {
        text.truncate(end);
    }
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
    /// Returns the page as JSON, with texts cut to their limits and only as many formats as fit.
    fn bounded(mut self) -> Option<Vec<u8>> {
        for (text, most) in [
            (&mut self.id, MAX_NAME),
            (&mut self.title, MAX_TITLE),
            (&mut self.description, MAX_DESCRIPTION),
            (&mut self.uploader, MAX_NAME),
        ] {
            cut(text, most);
        }
        self.thumbnail = self.thumbnail.filter(|address| address.len() <= MAX_ADDRESS);
        self.formats.iter_mut().for_each(Format::cut);
        let mut surplus = self.formats.len().saturating_sub(MAX_FORMATS);
        loop {
            self.formats.drain(..surplus);
            let json = serde_json::to_vec(&self).ok()?;
            if json.len() <= MAX_FOUND {
                return Some(json);
            }
            surplus = Some(self.formats.len().div_ceil(2)).filter(|half| *half > 0)?;
        }
    }

    /// Returns the first entry, which a download would take, or the page itself if it has no entries.
    fn of_first(mut self) -> Self {
        let first = std::mem::take(&mut self.entries).into_iter().flatten().next();
        first.unwrap_or(self)
    }
}

impl Format {
    fn cut(&mut self) {
        let Self { id, note, ext, resolution, vcodec, acodec, .. } = self;
        for text in [id, note, ext, resolution, vcodec, acodec] {
            cut(text, MAX_WORD);
        }
    }
}

/// What a page offers
///
/// The result does not contain the URLs of its media.
#[utoipa::path(
    post,
    path = "/api/info",
    request_body = InfoRequest,
    responses(
        (status = 200, body = Info, description = "What the page offers"),
        (status = 400, body = RefusalBody, description = "The body is not one JSON object with distinct keys (`malformed`)"),
        (status = 413, body = RefusalBody, description = "The body is too large (`unreadable_body`)"),
        (status = 415, body = RefusalBody, description = "The Content-Type is not JSON (`not_json`)"),
        LookupFailures,
    )
)]
pub(super) async fn info(
    State(app): State<App>,
    caller: Caller,
    Body(request): Body<InfoRequest>,
) -> Result<Response, Refusal> {
    let source = SourceUrl::parse(&request.url, &app.queue.context().config.allow_private)?;
    let (json, url) = about(&app, &caller, source).await?;
    json_response::json(&app, &caller, json.len() + MAX_ADDED, || Info::read(&json, url)).await
}

/// Examines one page; returns what was found, and the page's URL.
pub(super) async fn about(app: &App, caller: &Caller, source: SourceUrl) -> Result<(Bytes, String), Refusal> {
    resolved(app, &caller.user, &source, WHAT).await?;
    let url = source.as_str().to_owned();
    let json = app.metadata.lookup(&app.queue, caller, Question::Page(source)).await;
    Ok((json.map_err(|error| error.refusal(WHAT))?, url))
}

impl Info {
    /// yt-dlp's own `url` is that of the media; this `url` is the page's.
    pub(super) fn read(json: &[u8], url: String) -> Result<Self, Refusal> {
        let page = serde_json::from_slice(json).map_err(|_| LookupError::Unreadable.refusal(WHAT))?;
        Ok(Self { page, url })
    }
}

/// Reduces yt-dlp's output to the fields that clients get, under the same names.
pub(super) fn read(line: &str) -> Option<Vec<u8>> {
    let page: Page = serde_json::from_str(line).ok()?;
    page.of_first().bounded()
}
