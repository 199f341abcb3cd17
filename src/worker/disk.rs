//! Whether there is room for more: databases and logs lie on the same disks as what is downloaded, and go on longer than it.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use rustix::fs::{StatVfsMountFlags, statvfs};
use thiserror::Error;
use tokio::{
    task::{JoinError, spawn_blocking},
    time::sleep,
};

use super::written::Written;

/// What a run may have on the disk that is to keep next to nothing, in one file and in all: a JavaScript runtime has a cache. In bytes.
pub(crate) const SCRATCH_FILE: u64 = 64 << 20;
pub(crate) const SCRATCH: u64 = 4 * SCRATCH_FILE;

/// How often the disks are looked at while something is written to them.
const LOOK: Duration = Duration::from_secs(1);

/// The file systems that are written to, and how much of each is left alone.
#[derive(Clone, Debug)]
pub(crate) struct Disks(Arc<Watched>);

#[derive(Debug)]
struct Watched {
    folders: Vec<PathBuf>,
    reserve: u64,
}

/// What one job may have of them.
#[derive(Clone, Debug)]
pub(crate) struct Share {
    /// The job's.
    pub(crate) folder: PathBuf,
    /// In bytes, of all its files.
    pub(crate) most: u64,
}

/// Why nothing more is written.
#[derive(Debug, Error)]
pub(crate) enum NoRoom {
    #[error("the disk is full")]
    Full,
    #[error("the disk is read-only")]
    ReadOnly,
    #[error("the disk cannot be looked at: {0}")]
    Unknown(#[from] io::Error),
    #[error("a thread was lost: {0}")]
    Lost(#[from] JoinError),
}

/// Why a job ends before it is done.
#[derive(Debug)]
pub(crate) enum Exhausted {
    Disks(NoRoom),
    /// It has more than its share.
    Share,
}

impl<E> From<E> for Exhausted
where
    NoRoom: From<E>,
{
    fn from(error: E) -> Self {
        Self::Disks(error.into())
    }
}

impl Disks {
    /// `reserve` bytes stay free in each of `folders`.
    pub(crate) fn new(folders: Vec<PathBuf>, reserve: u64) -> Self {
        Self(Arc::new(Watched { folders, reserve }))
    }

    /// Whether something may be written now.
    pub(crate) async fn room(&self) -> Result<(), NoRoom> {
        let disks = self.clone();
        spawn_blocking(move || disks.judge()).await?
    }

    /// The same, for a thread that may wait.
    pub(crate) fn judge(&self) -> Result<(), NoRoom> {
        self.0.judge()
    }

    /// Waits until the room ends, or a job has more than its share.
    pub(crate) async fn exhausted(&self, share: Share) -> Exhausted {
        loop {
            sleep(LOOK).await;
            if let Err(reason) = self.room().await {
                return reason.into();
            }
            let share = share.clone();
            match spawn_blocking(move || share.judge()).await {
                Ok(Ok(())) => {}
                Ok(Err(reason)) => return reason,
                Err(lost) => return lost.into(),
            }
        }
    }
}

impl Share {
    fn judge(&self) -> Result<(), Exhausted> {
        match Written::in_folder(&self.folder) {
            Ok(written) if written.bytes <= self.most => Ok(()),
            Ok(_) => Err(Exhausted::Share),
            Err(reason) => {
                tracing::warn!(folder = %self.folder.display(), %reason, "nobody can say what a download has written");
                Err(Exhausted::Share)
            }
        }
    }
}

impl Watched {
    fn judge(&self) -> Result<(), NoRoom> {
        for folder in &self.folders {
            let space = statvfs(folder).map_err(io::Error::from)?;
            if space.f_flag.contains(StatVfsMountFlags::RDONLY) {
                return Err(NoRoom::ReadOnly);
            }
            if space.f_bavail.saturating_mul(space.f_frsize) < self.reserve {
                return Err(NoRoom::Full);
            }
        }
        Ok(())
    }
}
