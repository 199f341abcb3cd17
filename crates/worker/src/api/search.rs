//! `GET /api/search` and `GET /api/trending`: lists of videos to download.

use axum::{
    extract::{Query, State, rejection::QueryRejection},
    response::Response,
};
use serde::{Deserialize, Serialize};
use serde_json::Number;
use utoipa::{IntoParams, ToSchema};

use super::{
    App,
    info::{self, Info, MAX_ADDED, MAX_FOUND},
    json_response,
    metadata::{LookupError, LookupFailures, Question},
    refusal::Refusal,
};
use crate::tasks::{caller::Caller, source::SourceUrl};

pub(super) const MAX_RESULTS: u8 = 50;
pub(super) const MAX_TEXT: usize = 200;

/// YouTube's own trending page no longer exists; OfflineTube searches for this instead.
const TRENDING: &str = "música popular";

/// The query.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct SearchQuery {
    /// Search words, or the URL of one page; no control characters.
    #[param(
        min_length = 1,
        max_length = 200,
        pattern = r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$"
    )]
    q: String,
    /// The maximum number of results to return.
    #[serde(default = "some_results")]
    #[param(minimum = 1, maximum = 50, default = some_results)]
    max_results: u8,
}

/// The results of a search.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Results {
    results: Vec<Found>,
    /// The search words.
    query: String,
}

/// One result.
// Also read from yt-dlp's output, under the same names.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
struct Found {
    #[schema(required)]
    id: Option<String>,
    #[schema(required)]
    title: Option<String>,
    #[serde(default)]
    #[schema(required)]
    thumbnail: Option<String>,
    #[serde(default, skip_serializing)]
    thumbnails: Vec<Thumbnail>,
    /// In seconds.
    #[schema(required, value_type = Option<f64>)]
    duration: Option<Number>,
    #[schema(required)]
    uploader: Option<String>,
    #[schema(required, value_type = Option<f64>)]
    view_count: Option<Number>,
    #[schema(required)]
    url: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Thumbnail {
    url: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Listing {
    #[serde(default)]
    entries: Vec<Option<Found>>,
}

/// Search for videos to download
#[utoipa::path(
    get,
    path = "/api/search",
    params(SearchQuery),
    responses(
        (status = 200, body = Results, description = "The results"),
        LookupFailures,
    )
)]
pub(super) async fn search(
    State(app): State<App>,
    caller: Caller,
    query: Result<Query<SearchQuery>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(query) =
        query.map_err(|_| Refusal::invalid("invalid_value", "Expected q and, optionally, max_results (1 to 50)"))?;
    let text = query.q.trim();
    if text.is_empty() || text.chars().count() > MAX_TEXT || text.chars().any(char::is_control) {
        return Err(Refusal::invalid("invalid_value", "q must have 1 to 200 characters"));
    }
    if !(1..=MAX_RESULTS).contains(&query.max_results) {
        return Err(Refusal::invalid("invalid_value", "max_results must be 1 to 50"));
    }
    if text.contains("://") {
        return one_page(&app, &caller, text).await;
    }
    found(&app, &caller, text, query.max_results, "Search").await
}

/// Popular videos
#[utoipa::path(
    get,
    path = "/api/trending",
    responses(
        (status = 200, body = Results, description = "The results"),
        LookupFailures,
    )
)]
pub(super) async fn trending(State(app): State<App>, caller: Caller) -> Result<Response, Refusal> {
    found(&app, &caller, TRENDING, some_results(), "Trending").await
}

async fn found(app: &App, caller: &Caller, text: &str, count: u8, what: &'static str) -> Result<Response, Refusal> {
    let json = app.metadata.lookup(&app.queue, caller, Question::Search { text: text.to_owned(), count }).await;
    let json = json.map_err(|error| error.refusal(what))?;
    json_response::json(app, caller, json.len() + MAX_ADDED, || {
        let results = serde_json::from_slice(&json).map_err(|_| LookupError::Unreadable.refusal(what))?;
        Ok(Results { results, query: text.to_owned() })
    })
    .await
}

/// Reduces yt-dlp's output to the fields that clients get, under the same names.
pub(super) fn read(line: &str) -> Option<Vec<u8>> {
    let listing: Listing = serde_json::from_str(line).ok()?;
    let found = listing.entries.into_iter().flatten().take(usize::from(MAX_RESULTS));
    let mut found: Vec<_> = found.map(|found| found.with_thumbnail().bounded()).collect();
    loop {
        let json = serde_json::to_vec(&found).ok()?;
        if json.len() <= MAX_FOUND {
            return Some(json);
        }
        found.truncate(found.len() / 2);
    }
}

async fn one_page(app: &App, caller: &Caller, text: &str) -> Result<Response, Refusal> {
    let source = SourceUrl::parse(text, &app.queue.context().config.allow_private)?;
    let (json, url) = info::about(app, caller, source).await?;
    json_response::json(app, caller, json.len() + MAX_ADDED, || {
        let page = Info::read(&json, url)?;
        Ok(Results { results: vec![page.into()], query: text.to_owned() })
    })
    .await
}

impl Found {
    /// Applies the same limits as for a page.
    fn bounded(mut self) -> Self {
        for text in [&mut self.id, &mut self.uploader] {
            info::cut(text, info::MAX_NAME);
        }
        info::cut(&mut self.title, info::MAX_TITLE);
        for address in [&mut self.thumbnail, &mut self.url] {
            address.take_if(|address| address.len() > info::MAX_ADDRESS);
        }
        self
    }

    fn with_thumbnail(mut self) -> Self {
        let largest = self.thumbnails.pop().and_then(|thumbnail| thumbnail.url);
        self.thumbnail = self.thumbnail.or(largest);
        self
    }
}

impl From<Info> for Found {
    fn from(Info { page, url }: Info) -> Self {
        Self {
            id: page.id,
            title: page.title,
            thumbnail: page.thumbnail,
            thumbnails: Vec::new(),
            duration: page.duration,
            uploader: page.uploader,
            view_count: page.view_count,
            url: Some(url),
        }
    }
}

fn some_results() -> u8 {
    20
}
