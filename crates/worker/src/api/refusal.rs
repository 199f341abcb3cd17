//! The error responses of the API: `{"detail": …, "code": …}` with a matching status.
//!
//! The texts belong to the API. Internal errors are logged where they occur and never sent to a client.

use std::borrow::Cow;

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    disk::NoRoom,
    queue::QueueError,
    store::StoreError,
    streaming::{budget::TooMuchUnread, hls::RemuxError, send::SendError},
    tasks::source::SourceError,
    ytdlp::Unready,
};

/// An error response.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    body: RefusalBody,
    retry_after: bool,
}

/// The reason why a request was refused.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Refusal)]
pub(crate) struct RefusalBody {
    /// For people; the words may change.
    detail: Cow<'static, str>,
    /// For programs; it does not change. Absent with a 404.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { status, body: RefusalBody { detail: detail.into(), code: Some(code) }, retry_after: false }
    }

    /// Returns a 404 with a text of the API, which is the same for missing objects and those of other users.
    pub(crate) fn not_found(detail: &'static str) -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            body: RefusalBody { detail: detail.into(), code: None },
            retry_after: false,
        }
    }

    /// The detail is Spanish, as in OfflineTube's API.
    pub(crate) fn no_such_download() -> Self {
        Self::not_found("Descarga no encontrada")
    }

    pub(crate) fn malformed(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", detail)
    }

    pub(crate) fn invalid(code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail)
    }

    pub(crate) fn unavailable(code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { retry_after: true, ..Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail) }
    }

    pub(crate) fn too_many(code: &'static str, detail: &'static str) -> Self {
        Self { retry_after: true, ..Self::new(StatusCode::TOO_MANY_REQUESTS, code, detail) }
    }

    pub(crate) fn disk_full() -> Self {
        Self::new(StatusCode::INSUFFICIENT_STORAGE, "disk_full", "The disk is full")
    }

    fn read_only() -> Self {
        Self::new(StatusCode::INSUFFICIENT_STORAGE, "disk_read_only", "The disk is read-only")
    }

    pub(crate) fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "Internal Server Error")
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "task database failed");
        match error {
            StoreError::Full => Self::disk_full(),
            StoreError::ListFull => {
                Self::new(StatusCode::CONFLICT, "too_many_downloads", "There are too many downloads; remove some first")
            }
            StoreError::QueueFull => Self::unavailable("queue_full", "Too many downloads are waiting already"),
            StoreError::InUse
            | StoreError::File(_)
            | StoreError::Released
            | StoreError::Newer(_)
            | StoreError::Sqlite(_)
            | StoreError::Lost(_) => Self::internal(),
        }
    }
}

impl From<NoRoom> for Refusal {
    fn from(reason: NoRoom) -> Self {
        tracing::warn!(%reason, "request refused: cannot write to the disk");
        match reason {
            NoRoom::Full => Self::disk_full(),
            NoRoom::ReadOnly => Self::read_only(),
            NoRoom::Unknown(_) | NoRoom::Lost(_) => Self::internal(),
        }
    }
}

/// A task that could not be removed was logged where that failed.
impl From<QueueError> for Refusal {
    fn from(error: QueueError) -> Self {
        match error {
            QueueError::Store(error) => error.into(),
            QueueError::NotRemoved | QueueError::Lost(_) => Self::internal(),
        }
    }
}

impl From<SourceError> for Refusal {
    fn from(error: SourceError) -> Self {
        Self::invalid("url_refused", error.to_string())
    }
}

impl From<Unready> for Refusal {
    fn from(unready: Unready) -> Self {
        let code = match unready {
            Unready::Missing => "yt_dlp_missing",
            Unready::TooOld(_) => "yt_dlp_too_old",
            Unready::Broken => "yt_dlp_broken",
            Unready::Sandbox(_) => "sandbox_missing",
        };
        Self::unavailable(code, unready.to_string())
    }
}

impl From<RemuxError> for Refusal {
    fn from(error: RemuxError) -> Self {
        match error {
            RemuxError::NotStreamable => Self::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "not_streamable",
                "This file cannot be streamed without re-encoding its video or audio; download it instead",
            ),
            RemuxError::NoFfmpeg => Self::unavailable("ffmpeg_missing", "ffmpeg was not found on this server"),
            RemuxError::Unready(unready) => unready.into(),
            RemuxError::Full => NoRoom::Full.into(),
            RemuxError::ReadOnly => NoRoom::ReadOnly.into(),
            RemuxError::Busy => Self::unavailable("busy", "Too many streams are being prepared; try again later"),
            RemuxError::Stopped => Self::unavailable("busy", "The worker is restarting; try again"),
            RemuxError::StillPreparing => {
                Self::unavailable("preparing", "The stream is being prepared; try again shortly")
            }
            RemuxError::Gone => Self::no_such_download(),
            RemuxError::Failed | RemuxError::Internal => Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "remux_failed",
                "The stream could not be prepared on this server",
            ),
        }
    }
}

impl From<SendError> for Refusal {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Gone => Self::not_found("Archivo no encontrado"),
            SendError::Lost(_) => Self::internal(),
        }
    }
}

impl From<TooMuchUnread> for Refusal {
    fn from(_: TooMuchUnread) -> Self {
        Self::unavailable("busy", "You have not finished reading earlier responses; read or close them first")
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body)).into_response();
        if self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        }
        response
    }
}
