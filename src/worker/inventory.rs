//! Compares the library with the database at a start: files that no task knows, and tasks whose file is gone.

use std::{collections::HashSet, path::PathBuf};

use tokio::task::spawn_blocking;

use super::{
    job::Failure,
    media::MediaFolder,
    store::Store,
    task::{Status, TaskId},
};

/// A task that has, or had, a finished file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) id: TaskId,
    pub(crate) status: Status,
}

/// Where library and database do not agree.
#[derive(Debug, Default, PartialEq, Eq)]
struct Differences {
    /// What lies there and belongs to nobody.
    orphans: Vec<PathBuf>,
    /// Completed, and without a file.
    lost: Vec<TaskId>,
    /// Was lost, and is there again.
    found: Vec<TaskId>,
}

/// Reports what belongs to nobody, and has each task say whether its file is there. Deletes nothing.
pub(crate) async fn take(store: &Store, media: &MediaFolder) -> Result<(), Failure> {
    let (known, finished) = (store.ids().await?, store.finished_ones().await?);
    let folder = media.clone();
    let differences = spawn_blocking(move || compare(&folder, &known, &finished)).await??;
    for path in &differences.orphans {
        tracing::warn!(path = %path.display(), "an orphan in the media folder: no task knows it; it stays until somebody removes it");
    }
    for id in differences.lost {
        tracing::error!(task = %id, "the file of a finished download is gone");
        store.lose(id).await?;
    }
    for id in differences.found {
        tracing::info!(task = %id, "the file of a finished download is there again");
        store.find_again(id).await?;
    }
    Ok(())
}

fn compare(media: &MediaFolder, known: &HashSet<TaskId>, finished: &[Entry]) -> std::io::Result<Differences> {
    let mut differences = Differences { orphans: media.strangers(|id| known.contains(&id))?, ..Differences::default() };
    for Entry { id, status } in finished.iter().copied() {
        let there = media.finished(id)?.is_some();
        match status {
            Status::Completed if !there => differences.lost.push(id),
            Status::Error if there => differences.found.push(id),
            _ => {}
        }
    }
    Ok(differences)
}
