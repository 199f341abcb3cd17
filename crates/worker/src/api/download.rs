//! `POST /api/download`: starts a download.

use std::num::{NonZeroU16, NonZeroU64};

use axum::{Json, extract::State};
use serde::Deserialize;
use utoipa::{ToSchema, openapi::Object};

use super::{
    App,
    body::Body,
    openapi::one_of,
    refusal::{Refusal, RefusalBody},
    view::{TaskView, kinds, qualities},
};
use crate::tasks::{
    caller::Caller,
    language::Languages,
    order::{FORMATS, Output, Priority, Quality},
    playlist::{PlaylistExtent, PlaylistProgress, PlaylistRole},
    source::SourceUrl,
    subtitles::WantedSubtitles,
    task::Task,
};

/// A request for a download.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Order {
    /// A page or a file, over http or https, on a public address.
    #[schema(format = Uri, min_length = 1, max_length = 2048, pattern = "^[hH][tT][tT][pP][sS]?:")]
    url: String,
    #[serde(default)]
    #[schema(schema_with = wanted_quality)]
    quality: Quality,
    #[serde(default = "video")]
    #[schema(schema_with = wanted_kind)]
    download_type: String,
    #[schema(schema_with = formats)]
    format: Option<String>,
    #[serde(default)]
    priority: Priority,
    /// Language tags of the requested subtitles.
    #[serde(default)]
    #[schema(value_type = Vec<String>, max_items = 8)]
    subtitles: Languages,
    /// Whether automatically generated subtitles are acceptable.
    #[serde(default)]
    automatic_subtitles: bool,
    /// Whether to download all videos of a playlist instead of the first, or the one that the URL names. Each becomes a separate download.
    #[serde(default)]
    playlist: bool,
    /// Download only this many videos from the beginning of the playlist, up to the server's limit; without it, a longer one is refused.
    #[schema(value_type = Option<u16>, minimum = 1, maximum = 500)]
    playlist_limit: Option<NonZeroU16>,
}

/// Start a download
///
/// The download waits for its turn. Follow it in the list of downloads or in the events.
#[utoipa::path(
    post,
    path = "/api/download",
    request_body = Order,
    responses(
        (status = 200, body = TaskView, description = "The download, which is pending"),
        (status = 400, body = RefusalBody, description = "The body is not one JSON object with distinct keys (`malformed`)"),
        (status = 409, body = RefusalBody, description = "The user has too many downloads, ended ones included (`too_many_downloads`)"),
        (status = 413, body = RefusalBody, description = "The body is too large (`unreadable_body`)"),
        (status = 415, body = RefusalBody, description = "The Content-Type is not JSON (`not_json`)"),
        (status = 422, body = RefusalBody, description = "A value is not accepted (`invalid_value`, `url_refused`)"),
        (status = 503, body = RefusalBody, description = "Nothing can be downloaded now (`queue_full`, `yt_dlp_missing`, \
            `yt_dlp_too_old`, `yt_dlp_broken`, `sandbox_missing`)"),
        (status = 507, body = RefusalBody, description = "The server cannot store anything (`disk_full`, `disk_read_only`)"),
    )
)]
pub(super) async fn start(
    State(app): State<App>,
    caller: Caller,
    Body(order): Body<Order>,
) -> Result<Json<TaskView>, Refusal> {
    let context = app.queue.context();
    let source = SourceUrl::parse(&order.url, &context.config.allow_private)?;
    let output = Output::parse(&order.download_type, order.format.as_deref())
        .map_err(|e| Refusal::invalid("invalid_value", e.to_string()))?;
    let playlist_role = playlist_role(order.playlist, order.playlist_limit, context.config.max_playlist)?;
    context.readiness.tools().await?;
    context.disks.room().await?;
    let limits = caller.limits;
    let max_filesize = caller.limits.max_filesize.map(NonZeroU64::get);
    let task = Task::new(caller.user, source.as_str().to_owned(), order.quality, output);
    let wanted = WantedSubtitles { languages: order.subtitles, automatic: order.automatic_subtitles };
    let task = Task { priority: order.priority, wanted, playlist_role, max_filesize, ..task };
    app.queue.add(task.clone(), limits).await?;
    Ok(Json(TaskView::new(task, None)))
}

fn playlist_role(playlist: bool, limit: Option<NonZeroU16>, most: u16) -> Result<PlaylistRole, Refusal> {
    match (playlist, limit) {
        (false, None) => Ok(PlaylistRole::Single),
        (false, Some(_)) => Err(Refusal::invalid("invalid_value", "playlist_limit requires playlist to be true")),
        (true, Some(limit)) if limit.get() > most => {
            Err(Refusal::invalid("invalid_value", format!("playlist_limit must be at most {most}")))
        }
        (true, limit) => Ok(PlaylistRole::List(
            limit.map_or(PlaylistExtent::Whole, PlaylistExtent::First),
            PlaylistProgress::default(),
        )),
    }
}

fn wanted_quality() -> Object {
    let mut quality = qualities();
    quality.default = Some(Quality::default().to_string().into());
    quality
}

fn wanted_kind() -> Object {
    let mut kind = kinds();
    kind.default = Some(video().into());
    kind
}

fn formats() -> Object {
    let words = "The container: the first three are for video, the others for audio. Without it, the source's own container is kept.";
    one_of(words, FORMATS)
}

fn video() -> String {
    "video".to_owned()
}
