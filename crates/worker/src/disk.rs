//! Checks whether there is disk space for more downloads. Databases and logs lie on the same disks and must still be writable when
//! downloads no longer are.

pub(super) mod usage;

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use rustix::fs::{StatVfsMountFlags, statvfs};
use thiserror::Error;
use tokio::{
    task::{JoinError, spawn_blocking},
    time::sleep,
};

use self::usage::DiskUsage;

/// How often the disks are checked while a job writes to them.
const LOOK: Duration = Duration::from_secs(1);

/// The file systems that the worker writes to, and how much of each must stay free.
#[derive(Clone, Debug)]
pub(crate) struct Disks(Arc<Watched>);

#[derive(Debug)]
struct Watched {
    folders: Vec<PathBuf>,
    reserve: u64,
}

/// The disk space that one job may use.
#[derive(Clone, Debug)]
pub(crate) struct DiskAllowance {
    /// The job's folder.
    pub(crate) folder: PathBuf,
    /// The limit for all its files together, in bytes.
    pub(crate) most: u64,
}

/// The reason why nothing more can be written.
#[derive(Debug, Error)]
pub(crate) enum NoRoom {
    #[error("the disk is full")]
    Full,
    #[error("the disk is read-only")]
    ReadOnly,
    #[error("cannot check the disk: {0}")]
    Unknown(#[from] io::Error),
    #[error("a background thread failed: {0}")]
    Lost(#[from] JoinError),
}

/// The reason why a job is ended early.
#[derive(Debug)]
pub(crate) enum Exhausted {
    Disks(NoRoom),
    /// The job uses more than its share.
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
    /// Watches the file systems of `folders`, of which `reserve` bytes each must stay free.
    pub(crate) fn new(folders: Vec<PathBuf>, reserve: u64) -> Self {
        Self(Arc::new(Watched { folders, reserve }))
    }

    /// Checks whether something may be written now.
    pub(crate) async fn room(&self) -> Result<(), NoRoom> {
        let disks = self.clone();
        spawn_blocking(move || disks.judge()).await?
    }

    /// Like [`room`](Self::room), but blocks.
    pub(crate) fn judge(&self) -> Result<(), NoRoom> {
        self.0.judge()
    }

    /// Waits until a disk is full or unusable, or the job exceeds its share.
    pub(crate) async fn exhausted(&self, share: DiskAllowance) -> Exhausted {
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

impl DiskAllowance {
    fn judge(&self) -> Result<(), Exhausted> {
        match DiskUsage::in_folder(&self.folder) {
            Ok(written) if written.bytes <= self.most => Ok(()),
            Ok(_) => Err(Exhausted::Share),
            Err(reason) => {
                tracing::warn!(folder = %self.folder.display(), %reason, "cannot tell how much a download has written; ending it");
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
