//! Several tasks' files that are the same: one place on disk, and each its own name for it.
//!
//! Each user has downloaded it, and what he removes is his name only, so nobody gains, loses or learns anything by what others
//! have. It happens when a task is completed already, since the time that it takes would tell that there was something.

use std::io;

use thiserror::Error;
use tokio::task::{JoinError, spawn_blocking};
use tokio_util::sync::CancellationToken;

use super::{
    digest::Digest, job::Workshop, media::MediaFolder, media_type::MediaType, store::StoreError, task::TaskId,
};

/// A file can have so many names, and no more, and may have changed; so a few others are tried.
const MAX_TRIED: u32 = 4;

/// Another task's file that was the same when it was finished.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Twin {
    pub(crate) id: TaskId,
    pub(crate) media: MediaType,
}

/// What a task has just been completed with.
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
    #[error("a thread was lost: {0}")]
    Lost(#[from] JoinError),
}

/// Has `own` lie where others lie already. Where that cannot be done, it stays where it is.
pub(crate) async fn share(workshop: &Workshop, own: Own, stop: &CancellationToken) {
    let _one_at_a_time = workshop.sharing.lock().await;
    if let Err(error) = try_all(workshop, own, stop).await {
        tracing::warn!(task = %own.id, %error, "nobody could look who has the same file");
    }
}

async fn try_all(workshop: &Workshop, own: Own, stop: &CancellationToken) -> Result<(), SharingError> {
    for twin in workshop.store.twins(own.id, own.digest, own.bytes, MAX_TRIED).await? {
        let (media, stop) = (workshop.media.clone(), stop.clone());
        match spawn_blocking(move || try_one(&media, own, twin, &stop)).await? {
            Ok(true) => {
                tracing::info!(task = %own.id, bytes = own.bytes, "a file lies on disk once for several tasks");
                break;
            }
            Ok(false) => {}
            Err(error) => tracing::debug!(task = %own.id, %error, "a file stays a copy"),
        }
    }
    Ok(())
}

/// Takes the other's file only as what it was, read once more.
fn try_one(media: &MediaFolder, own: Own, twin: Twin, stop: &CancellationToken) -> io::Result<bool> {
    let found = Digest::of(&media.file(twin.id, twin.media), || stop.is_cancelled())?;
    let Some(found) = found else { return Ok(false) };
    if found != own.digest {
        tracing::warn!(task = %twin.id, "the file of a finished download is not what it was");
        return Ok(false);
    }
    media.replace_by_link(own.id, own.media, &twin)?;
    Ok(true)
}
