//! The routes of the OfflineTube v5 API, and under `/api/v2` the worker's extensions to it.

pub(super) mod body;
mod described_responses;
mod download;
mod downloads;
mod event_view;
mod events;
mod file_response;
mod files;
pub(super) mod guard;
mod hls;
mod info;
mod json_response;
mod metadata;
pub(super) mod openapi;
mod page;
mod readable_file;
pub(super) mod refusal;
pub(super) mod replay;
mod rows;
mod search;
mod socket;
mod subtitles;
mod view;
mod zip;

use axum::{
    Router,
    body::Bytes,
    extract::DefaultBodyLimit,
    http::{HeaderValue, StatusCode, header},
    middleware::map_response,
    response::Response,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use utoipa_axum::{router::OpenApiRouter, routes};

use self::{metadata::MetadataLookups, refusal::Refusal, zip::Archives};
use super::{queue::Queue, streaming::budget::ResponseBudget};

/// The largest request body. A body holds a URL and a few words.
const MAX_BODY: usize = 16 << 10;

/// The state that all handlers share.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) queue: Queue,
    metadata: MetadataLookups,
    archives: Archives,
    budget: ResponseBudget,
    /// Cancelled when the worker stops.
    stop: CancellationToken,
    /// Holds a token for each response that still needs the database, which is not released before all are done.
    answering: TaskTracker,
    /// The description of the API that clients get.
    openapi: Bytes,
}

impl App {
    pub(crate) fn new(queue: Queue, openapi: Bytes, stop: CancellationToken, answering: TaskTracker) -> Self {
        let metadata = MetadataLookups::new(&queue.context().config, stop.clone());
        let archives = Archives::new(stop.clone());
        let budget = ResponseBudget::new(stop.clone());
        Self { queue, metadata, archives, budget, stop, answering, openapi }
    }
}

/// Every route. Its method and path are declared only in the description of its handler.
fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(openapi::blank())
        .routes(routes!(download::start))
        .routes(routes!(downloads::list))
        .routes(routes!(page::list))
        .routes(routes!(files::download))
        .routes(routes!(downloads::cancel))
        .routes(routes!(downloads::remove))
        .routes(routes!(info::info))
        .routes(routes!(search::search))
        .routes(routes!(search::trending))
        .routes(routes!(files::stream))
        .routes(routes!(files::thumbnail))
        .routes(routes!(subtitles::list))
        .routes(routes!(subtitles::file))
        .routes(routes!(hls::playlist))
        .routes(routes!(hls::stream))
        .routes(routes!(zip::zip))
        .routes(routes!(events::follow))
        .routes(routes!(socket::follow))
        .routes(routes!(openapi::serve))
}

/// Builds the router of every route except the health check.
pub(crate) fn router(app: App) -> Router {
    Router::from(routes())
        .fallback(async || Refusal::not_found("Not Found"))
        .method_not_allowed_fallback(async || {
            Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "Method Not Allowed")
        })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(map_response(harden))
        .with_state(app)
}

/// Stops browsers from guessing content types, and caches from storing anything but files.
async fn harden(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}
