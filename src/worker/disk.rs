//! Whether there is room for more: databases and logs lie on the same disks as what is downloaded, and go on longer than it.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustix::fs::{StatVfsMountFlags, statvfs};
use thiserror::Error;
use tokio::{
    task::{JoinError, spawn_blocking},
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::written::Written;

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

/// Stops a job when the room ends before the job does.
pub(crate) struct Watch {
    ended: Arc<Mutex<Option<Exhausted>>>,
    _looking: AbortOnDropHandle<()>,
}

impl Disks {
    /// `reserve` bytes stay free in each of `folders`.
    pub(crate) fn new(folders: Vec<PathBuf>, reserve: u64) -> Self {
        Self(Arc::new(Watched { folders, reserve }))
    }

    /// Whether something may be written now.
    pub(crate) async fn room(&self) -> Result<(), NoRoom> {
        let watched = Arc::clone(&self.0);
        spawn_blocking(move || watched.judge()).await?
    }

    /// Cancels `job` as soon as the room ends, or it has more than its share.
    pub(crate) fn watch(&self, job: CancellationToken, share: Share) -> Watch {
        let (disks, ended) = (self.clone(), Arc::<Mutex<Option<Exhausted>>>::default());
        let told = Arc::clone(&ended);
        let looking = tokio::spawn(async move {
            let reason = disks.exhausted(share).await;
            *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
            job.cancel();
        });
        Watch { ended, _looking: AbortOnDropHandle::new(looking) }
    }

    async fn exhausted(&self, share: Share) -> Exhausted {
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

impl Watch {
    /// Why the job was stopped, if it was.
    pub(crate) fn end(self) -> Result<(), Exhausted> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Ok(()), Err)
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
