//! Deduplicates identical files of several tasks: the content is stored once, and each task has its own hard link to it.
//!
//! Each user has downloaded the file themselves and removes only their own link, so no user gains, loses or learns anything from what
//! others have. It happens after the task is completed, because the time it takes would reveal that another user has the same file.

use std::io;

use thiserror::Error;
use tokio::{
    sync::Mutex,
    task::{JoinError, spawn_blocking},
};
use tokio_util::sync::CancellationToken;

use crate::{
    media::MediaFolder,
    store::{Store, StoreError},
    tasks::{digest::Digest, finished::Duplicate, id::TaskId, media_type::MediaType},
};

/// How many candidates are tried. A file may have reached the maximum number of links, or may have changed.
const MAX_TRIED: u32 = 4;

/// The file that a task has just been completed with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CompletedFile {
    pub(crate) id: TaskId,
    pub(crate) media: MediaType,
    pub(crate) bytes: u64,
    pub(crate) digest: Digest,
}

#[derive(Debug, Error)]
enum SharingError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("a background thread failed: {0}")]
    Lost(#[from] JoinError),
}

/// Finds identical files and links them.
pub(crate) struct Dedup {
    store: Store,
    media: MediaFolder,
    /// Held while a file is replaced by a link to an identical one.
    turn: Mutex<()>,
}

impl Dedup {
    pub(crate) fn new(store: Store, media: MediaFolder) -> Self {
        Self { store, media, turn: Mutex::default() }
    }

    /// Replaces `completed` with a link to an identical file, if there is one. Leaves it as it is if that fails, or once `stop` is cancelled.
    pub(crate) async fn share(&self, completed: CompletedFile, stop: &CancellationToken) {
        let _turn = self.turn.lock().await;
        if let Err(error) = self.try_all(completed, stop).await {
            tracing::warn!(task = %completed.id, %error, "cannot look for identical files");
        }
    }

    async fn try_all(&self, completed: CompletedFile, stop: &CancellationToken) -> Result<(), SharingError> {
        for duplicate in self.store.duplicates(completed.id, completed.digest, completed.bytes, MAX_TRIED).await? {
            let media = self.media.clone();
            let stop = stop.clone();
            match spawn_blocking(move || try_one(&media, completed, duplicate, &stop)).await? {
                Ok(true) => {
                    tracing::info!(task = %completed.id, bytes = completed.bytes, "file linked to an identical one");
                    break;
                }
                Ok(false) => {}
                Err(error) => tracing::debug!(task = %completed.id, %error, "file not linked to an identical one"),
            }
        }
        Ok(())
    }
}

/// Links to the other file only if its content, read again, is still the same.
fn try_one(
    media: &MediaFolder,
    completed: CompletedFile,
    duplicate: Duplicate,
    stop: &CancellationToken,
) -> io::Result<bool> {
    let found = Digest::of_file(&media.file(duplicate.id, duplicate.media), || stop.is_cancelled())?;
    let Some(found) = found else { return Ok(false) };
    if found != completed.digest {
        tracing::warn!(task = %duplicate.id, "file of a finished download has changed");
        return Ok(false);
    }
    media.replace_by_link(completed.id, completed.media, &duplicate)?;
    Ok(true)
}
