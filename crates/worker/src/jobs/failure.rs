//! Why a job has no result, and what its owner may know of it.

use std::{io, time::Duration};

use thiserror::Error;
use tokio::task::JoinError;

use crate::{
    disk::{Exhausted, NoRoom},
    media::AcceptError,
    store::StoreError,
    tasks::{
        premiere::Premiere,
        source::{ResolveError, SourceError},
    },
    ytdlp::{Unready, YtDlpError},
};

/// The reason why a job has no result.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    /// It was cancelled, removed or gave way, or the worker is stopping.
    #[error("stopped")]
    Stopped,
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    #[error(transparent)]
    Unready(#[from] Unready),
    #[error("{}", .0.message)]
    YtDlp(YtDlpError),
    #[error("the source is larger than the limit, longer than four hours, or live")]
    NotTaken,
    #[error("{}", .0.message())]
    Awaited(Premiere),
    #[error("the announced start is too far in the future")]
    TooLongAwaited,
    #[error("the playlist has changed since it was read; request it again")]
    ListChanged,
    #[error("the playlist has more than {0} videos; set playlist_limit to download only the first ones")]
    TooLong(u16),
    #[error("the playlist has no videos")]
    EmptyList,
    #[error("the playlist has more videos than there is room for in the queue")]
    NoRoomToWait,
    #[error("the downloader was stopped before it finished")]
    Killed,
    #[error("the download took too long")]
    TimedOut,
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    #[error("the download exceeds the disk space that a download may use")]
    TooMuch,
    #[error("the download stalled")]
    Stalled,
    #[error(transparent)]
    Refused(AcceptError),
    #[error("cannot access the job's files: {0}")]
    Io(io::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("a background thread failed: {0}")]
    Lost(#[from] JoinError),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoRoom(NoRoom::Full),
            io::ErrorKind::ReadOnlyFilesystem => Self::NoRoom(NoRoom::ReadOnly),
            _ => Self::Io(error),
        }
    }
}

impl From<Exhausted> for Failure {
    fn from(reason: Exhausted) -> Self {
        match reason {
            Exhausted::Disks(reason) => Self::NoRoom(reason),
            Exhausted::Share => Self::TooMuch,
        }
    }
}

impl From<AcceptError> for Failure {
    fn from(error: AcceptError) -> Self {
        match error {
            AcceptError::Io(error) => error.into(),
            AcceptError::Stopped => Self::Stopped,
            AcceptError::NoRoom(reason) => Self::NoRoom(reason),
            refused => Self::Refused(refused),
        }
    }
}

impl Failure {
    /// Returns true if a later retry may succeed.
    pub(crate) fn is_temporary(&self) -> bool {
        match self {
            Self::Stalled | Self::Resolve(ResolveError::Unresolved) => true,
            Self::YtDlp(error) => error.kind.is_temporary(),
            _ => false,
        }
    }

    /// Returns how long the site asks clients to wait.
    pub(crate) fn wait(&self) -> Option<Duration> {
        match self {
            Self::YtDlp(error) => error.wait,
            _ => None,
        }
    }

    /// Returns the message that the task's owner sees.
    pub(crate) fn message(&self) -> String {
        match self {
            Self::Io(_) | Self::Store(_) | Self::Lost(_) | Self::NoRoom(NoRoom::Unknown(_) | NoRoom::Lost(_)) => {
                "the download failed on this server".to_owned()
            }
            failure => failure.to_string(),
        }
    }
}
