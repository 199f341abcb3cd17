//! Compares the library with the database at startup, to find files without a task and tasks whose file is gone.

use std::{collections::HashSet, path::PathBuf};

use tokio::task::spawn_blocking;

use super::MediaFolder;
use crate::{
    jobs::job::Failure,
    store::Store,
    tasks::task::{Status, TaskId},
};

/// A task that has, or had, a finished file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LibraryTask {
    pub(crate) id: TaskId,
    pub(crate) status: Status,
}

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

/// Logs orphaned files and updates the status of tasks whose file is gone or has returned. Deletes nothing.
pub(crate) async fn take(store: &Store, media: &MediaFolder) -> Result<(), Failure> {
    let (known, finished) = (store.ids().await?, store.finished_ones().await?);
    let folder = media.clone();
    let differences = spawn_blocking(move || compare(&folder, &known, &finished)).await??;
    for path in &differences.orphans {
        tracing::warn!(path = %path.display(), "orphan in the media folder: it belongs to no task; remove it manually if it is not needed");
    }
    for id in differences.lost {
        tracing::error!(task = %id, "file of a finished download is missing");
        store.lose(id).await?;
    }
    for id in differences.found {
        tracing::info!(task = %id, "file of a finished download has returned");
        store.find_again(id).await?;
    }
    Ok(())
}

fn compare(media: &MediaFolder, known: &HashSet<TaskId>, finished: &[LibraryTask]) -> std::io::Result<Differences> {
    let mut differences = Differences { orphans: media.strangers(|id| known.contains(&id))?, ..Differences::default() };
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
