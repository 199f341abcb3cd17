//! Deduplicates identical files of several tasks: the content is stored once, and each task has its own hard link to it.
//!
//! Each user has downloaded the file themselves and removes only their own link, so nobody gains, loses or learns anything from what
//! others have. It happens after the task is completed, because the time it takes would reveal that another user has the same file.

use std::io;

use thiserror::Error;
use tokio::task::{JoinError, spawn_blocking};
use tokio_util::sync::CancellationToken;

use super::{MediaFolder, digest::Digest, media_type::MediaType};
use crate::{jobs::job::JobContext, store::StoreError, tasks::task::TaskId};

/// How many candidates are tried. A file may have reached the maximum number of links, or may have changed.
const MAX_TRIED: u32 = 4;

/// The file of another task, which was identical when it was finished.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Duplicate {
    pub(crate) id: TaskId,
    pub(crate) media: MediaType,
}

/// The file that a task has just been completed with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Own {
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

/// Replaces `own` with a link to an identical file, if there is one. Leaves it as it is if that fails.
pub(crate) async fn share(context: &JobContext, own: Own, stop: &CancellationToken) {
    let _one_at_a_time = context.sharing.lock().await;
    if let Err(error) = try_all(context, own, stop).await {
        tracing::warn!(task = %own.id, %error, "cannot look for identical files");
    }
}

async fn try_all(context: &JobContext, own: Own, stop: &CancellationToken) -> Result<(), SharingError> {
    for duplicate in context.store.duplicates(own.id, own.digest, own.bytes, MAX_TRIED).await? {
        let (media, stop) = (context.media.clone(), stop.clone());
        match spawn_blocking(move || try_one(&media, own, duplicate, &stop)).await? {
            Ok(true) => {
                tracing::info!(task = %own.id, bytes = own.bytes, "file linked to an identical one");
                break;
            }
            Ok(false) => {}
            Err(error) => tracing::debug!(task = %own.id, %error, "file not linked to an identical one"),
        }
    }
    Ok(())
}

/// Links to the other file only if its content, read again, is still the same.
fn try_one(media: &MediaFolder, own: Own, duplicate: Duplicate, stop: &CancellationToken) -> io::Result<bool> {
    let found = Digest::of(&media.file(duplicate.id, duplicate.media), || stop.is_cancelled())?;
    let Some(found) = found else { return Ok(false) };
    if found != own.digest {
        tracing::warn!(task = %duplicate.id, "file of a finished download has changed");
        return Ok(false);
    }
    media.replace_by_link(own.id, own.media, &duplicate)?;
    Ok(true)
}
