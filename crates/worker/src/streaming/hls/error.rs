//! The reason why there is no stream.

use thiserror::Error;
use tokio::task::spawn_blocking;

use crate::{
    disk::{Exhausted, NoRoom},
    store::StoreError,
    ytdlp::Unready,
};

/// The reason why there is no stream.
#[derive(Clone, Debug, Error)]
pub(crate) enum RemuxError {
    #[error("MP4 cannot hold its streams, or no player supports them")]
    NotStreamable,
    #[error("ffmpeg was not found on this server")]
    NoFfmpeg,
    #[error(transparent)]
    Unready(#[from] Unready),
    #[error("the disk is full")]
    Full,
    #[error("the disk is read-only")]
    ReadOnly,
    #[error("too many streams are being prepared")]
    Busy,
    #[error("the stream is still being prepared")]
    StillPreparing,
    #[error("stopped")]
    Stopped,
    #[error("the file no longer exists")]
    Gone,
    #[error("ffmpeg failed")]
    Failed,
    #[error("internal error")]
    Internal,
}

impl From<NoRoom> for RemuxError {
    fn from(reason: NoRoom) -> Self {
        match reason {
            NoRoom::Full => Self::Full,
            NoRoom::ReadOnly => Self::ReadOnly,
            NoRoom::Unknown(_) | NoRoom::Lost(_) => Self::Internal,
        }
    }
}

impl From<Exhausted> for RemuxError {
    fn from(reason: Exhausted) -> Self {
        match reason {
            Exhausted::Disks(reason) => reason.into(),
            Exhausted::Share => Self::Failed,
        }
    }
}

impl From<StoreError> for RemuxError {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "the task database failed");
        Self::Internal
    }
}

/// Runs `work`, which accesses the files of a stream, on a thread that may block.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, RemuxError> {
    let result = spawn_blocking(work).await.map_err(|_| RemuxError::Internal)?;
    result.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => RemuxError::Gone,
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => RemuxError::Full,
        std::io::ErrorKind::ReadOnlyFilesystem => RemuxError::ReadOnly,
        _ => {
            tracing::error!(%error, "the files of a stream could not be accessed");
            RemuxError::Internal
        }
    })
}
