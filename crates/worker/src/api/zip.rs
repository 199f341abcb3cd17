//! `GET /api/v2/zip?ids=…`: several finished files as one archive.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderName, Method, header},
};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;
use utoipa::IntoParams;

use super::{
    App,
    file_response::note_play,
    readable_file::ReadableFile,
    refusal::{Refusal, RefusalBody},
};
use crate::{
    shares::{Busy, Shares, Sizes},
    streaming::archive::{self, Member},
    tasks::{caller::Caller, id::TaskId},
};

/// The maximum number of files in one archive.
pub(super) const MAX_FILES: usize = 100;

/// How many archives there are at a time. Each occupies a thread for as long as its client reads.
const SLOTS: Sizes = Sizes { all: 16, user: 4, link: 2 };

/// How long a client waits for a slot.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// The query.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ZipQuery {
    /// Ids of finished downloads, separated by commas; at most 100.
    #[param(style = Form, explode = false, value_type = Vec<uuid::Uuid>, min_items = 1, max_items = 100)]
    ids: String,
}

/// Limits how many archives are sent at a time.
#[derive(Clone)]
pub(super) struct Archives(Arc<Shares>);

impl Archives {
    pub(super) fn new(stop: CancellationToken) -> Self {
        Self(Arc::new(Shares::new(SLOTS, stop)))
    }
}

type ZipResponse = ([(HeaderName, &'static str); 3], Body);

/// Several finished files as one archive
#[utoipa::path(
    get,
    path = "/api/v2/zip",
    params(ZipQuery),
    responses(
        (status = 200, content_type = "application/zip", description = "The archive, created while it is sent"),
        (status = 400, body = RefusalBody, description = "The query is invalid (`malformed`)"),
        (status = 404, body = RefusalBody, description = "One of the downloads does not exist, is not finished, or belongs to another user"),
        (status = 422, body = RefusalBody, description = "More than 100 downloads are requested (`too_many`)"),
        (status = 503, body = RefusalBody, description = "Too many archives are being sent, in total, to this user or for this link (`busy`)"),
    )
)]
pub(super) async fn zip(
    State(app): State<App>,
    caller: Caller,
    method: Method,
    query: Result<Query<ZipQuery>, QueryRejection>,
) -> Result<ZipResponse, Refusal> {
    let Query(ZipQuery { ids }) =
        query.map_err(|_| Refusal::malformed("Write the ids of the downloads as ids=ID,ID"))?;
    let ids = parse(&ids)?;
    let mut members = Vec::with_capacity(ids.len());
    for id in ids {
        members.push(member(&app, &caller, id, &method).await?);
    }
    let headers = [
        (header::CONTENT_TYPE, "application/zip"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"downloads.zip\""),
        (header::CACHE_CONTROL, "private, no-store"),
    ];
    if method == Method::HEAD {
        return Ok((headers, Body::empty()));
    }
    let busy = |Busy| Refusal::unavailable("busy", "Too many archives are being sent; try again later");
    let slot = app.archives.0.of(&caller).take_within(1, MAX_WAIT).await.map_err(busy)?;
    Ok((headers, archive::body(members, slot, app.budget.account(&caller, archive::UNREAD))))
}

/// Each id once, in the order given.
fn parse(text: &str) -> Result<Vec<TaskId>, Refusal> {
    let mut ids = Vec::new();
    for id in text.split(',') {
        let id = id.parse().map_err(|_| Refusal::no_such_download())?;
        if !ids.contains(&id) {
            ids.push(id);
        }
        if ids.len() > MAX_FILES {
            return Err(Refusal::invalid("too_many", format!("An archive can hold at most {MAX_FILES} files")));
        }
    }
    Ok(ids)
}

/// Gives the same 404 for a download that does not exist, is not finished, or belongs to somebody else.
async fn member(app: &App, caller: &Caller, id: TaskId, method: &Method) -> Result<Member, Refusal> {
    let file = ReadableFile::find(app, caller, id).await?;
    let ReadableFile { task, media, reading } = file.ok_or_else(Refusal::no_such_download)?;
    let context = app.queue.context();
    if method == Method::GET {
        note_play(&context.store, id);
    }
    Ok(Member {
        name: task.file_name().ok_or_else(Refusal::no_such_download)?,
        path: context.media.file(id, media),
        finished: task.completed_at,
        reading,
    })
}
