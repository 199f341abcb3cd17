//! Compares the library with the database at startup, to find files without a task and tasks whose file is gone.

use std::{collections::HashSet, io, path::PathBuf};

use thiserror::Error;
use tokio::task::{JoinError, spawn_blocking};

use crate::{
    media::MediaFolder,
    store::{Store, StoreError},
    tasks::{finished::LibraryTask, id::TaskId, task::Status},
};

/// The differences between the library and the database.
#[derive(Debug, Default, PartialEq, Eq)]
struct Differences {
    /// Entries in the media folder that belong to no task.
    orphans: Vec<PathBuf>,
    /// Completed tasks whose file is gone.
    lost: Vec<TaskId>,
    /// Tasks whose file was gone and has returned.
    found: Vec<TaskId>,
}

/// The reason why the two cannot be compared.
#[derive(Debug, Error)]
pub(super) enum ReconcileError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot read the media folder: {0}")]
    Media(#[from] io::Error),
    #[error("a background thread failed: {0}")]
    Lost(#[from] JoinError),
}

/// Logs orphaned files and updates the status of tasks whose file is gone or has returned. Deletes nothing.
pub(super) async fn reconcile(store: &Store, media: &MediaFolder) -> Result<(), ReconcileError> {
    let known = store.ids().await?;
    let finished = store.library_tasks().await?;
    let folder = media.clone();
    let differences = spawn_blocking(move || compare(&folder, &known, &finished)).await??;
    for path in &differences.orphans {
        tracing::warn!(path = %path.display(), "orphan in the media folder: it belongs to no task; remove it manually if it is not needed");
    }
    for id in differences.lost {
        tracing::error!(task = %id, "file of a finished download is missing");
        store.mark_lost(id).await?;
    }
    for id in differences.found {
        tracing::info!(task = %id, "file of a finished download has returned");
        store.mark_found(id).await?;
    }
    Ok(())
}

fn compare(media: &MediaFolder, known: &HashSet<TaskId>, finished: &[LibraryTask]) -> io::Result<Differences> {
    let mut differences = Differences { orphans: media.orphans(|id| known.contains(&id))?, ..Differences::default() };
    for LibraryTask { id, status } in finished.iter().copied() {
        let there = media.finished(id)?.is_some();
        match status {
            Status::Completed if !there => differences.lost.push(id),
            Status::Error if there => differences.found.push(id),
            _ => {}
        }
    }
    Ok(differences)
}
