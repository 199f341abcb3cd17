//! The folder that holds all media.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use sallyport_core::{config::LibraryAccess, files::durable};

use super::{
    content::{HLS, THUMBNAIL, content, file_name, subtitles_name},
    files::{make_private, real_folder},
    job_folder::JobFolder,
    library,
    read_leases::{ReadLease, ReadLeases},
    removal::remove,
};
use crate::tasks::{
    finished::{Duplicate, Finished},
    id::TaskId,
    language::Language,
    media_type::MediaType,
};

const JOBS: &str = ".jobs";

/// The identity of a file on disk, independent of its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct FileId {
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

/// The folder that holds all media.
#[derive(Clone, Debug)]
pub(crate) struct MediaFolder {
    path: PathBuf,
    access: LibraryAccess,
    /// Which finished files are being read.
    leases: ReadLeases,
}

impl MediaFolder {
    /// Opens the folder, creating it if necessary; a new folder is accessible to its owner only.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        make_private(&path.join(JOBS))?;
        Ok(Self { path: fs::canonicalize(path)?, access: LibraryAccess::Owner, leases: ReadLeases::default() })
    }

    /// Sets who can read the folder and everything in it, including what is already finished.
    pub(crate) fn for_readers(self, access: LibraryAccess) -> io::Result<Self> {
        let folder = Self { access, ..self };
        library::open_top(access, &folder.path)?;
        for id in folder.tasks()? {
            folder.set_readers(id, &folder.folder(id));
        }
        Ok(folder)
    }

    /// Failures are only logged: the worker can still serve a file that other accounts cannot read.
    fn set_readers(&self, id: TaskId, folder: &Path) {
        if let Err(error) = library::open(self.access, &self.path, folder) {
            tracing::error!(
                task = %id,
                %error,
                "cannot set the permissions of a finished file: the worker's account must be in the group of media_dir, or the \
                 folder must have the setgid bit"
            );
        }
    }

    /// Returns the folder of all jobs, in which children without a task run too.
    pub(crate) fn jobs(&self) -> PathBuf {
        self.path.join(JOBS)
    }

    pub(crate) fn job(&self, id: TaskId) -> JobFolder {
        JobFolder::new(self.jobs().join(id.to_string()))
    }

    pub(crate) fn file(&self, id: TaskId, media: MediaType) -> PathBuf {
        self.folder(id).join(file_name(media))
    }

    pub(crate) fn thumbnail(&self, id: TaskId) -> PathBuf {
        self.folder(id).join(THUMBNAIL)
    }

    pub(crate) fn subtitles(&self, id: TaskId, language: &Language) -> PathBuf {
        self.folder(id).join(subtitles_name(language))
    }

    /// Returns the folder of the prepared HLS stream of a finished file.
    pub(crate) fn hls(&self, id: TaskId) -> PathBuf {
        self.folder(id).join(HLS)
    }

    /// Keeps the finished file of this id from being removed until the lease is dropped.
    pub(crate) fn read(&self, id: TaskId) -> Arc<ReadLease> {
        self.leases.begin(id)
    }

    /// Returns true while a client reads the finished file of this id.
    pub(crate) fn is_being_read(&self, id: TaskId) -> bool {
        self.leases.any(id)
    }

    /// Returns the ids of all finished folders.
    pub(crate) fn tasks(&self) -> io::Result<Vec<TaskId>> {
        let names = fs::read_dir(&self.path)?.flatten().map(|entry| entry.file_name());
        Ok(names.filter_map(|name| name.to_str()?.parse().ok()).collect())
    }

    /// Returns the content of the finished folder of this id, if there is one.
    pub(crate) fn finished(&self, id: TaskId) -> io::Result<Option<Finished>> {
        content(&self.folder(id))
    }

    /// Moves the result of a job into place and syncs it to disk.
    pub(crate) fn publish(&self, id: TaskId) -> io::Result<()> {
        let ready = self.job(id).ready();
        real_folder(&ready)?;
        self.set_readers(id, &ready);
        for entry in fs::read_dir(&ready)? {
            durable::sync(&entry?.path())?;
        }
        durable::rename(&ready, &self.folder(id))
    }

    /// Replaces a finished file atomically with a hard link to that of `duplicate`, which has the same content.
    pub(crate) fn replace_by_link(&self, id: TaskId, media: MediaType, duplicate: &Duplicate) -> io::Result<()> {
        // In the folder of jobs, where the next startup removes it if the worker is killed here.
        let link = self.jobs().join(format!("link-{id}"));
        fs::hard_link(self.file(duplicate.id, duplicate.media), &link)?;
        let replaced = durable::rename(&link, &self.file(id, media));
        if replaced.is_err() || link.exists() {
            remove(&link)?;
        }
        replaced
    }

    /// Returns the identity of a finished file on disk. Tasks that share the file return the same one.
    pub(crate) fn place(&self, id: TaskId, media: MediaType) -> Option<FileId> {
        let about = fs::symlink_metadata(self.file(id, media)).ok()?;
        Some(FileId { device: about.dev(), inode: about.ino() })
    }

    /// Removes the finished folder and the job folder of this id.
    pub(crate) fn remove(&self, id: TaskId) -> io::Result<()> {
        // Each is removed even if the other cannot be.
        let job = self.job(id).discard();
        remove(&self.folder(id)).and(job)
    }

    /// Removes all job folders except those of `kept`. If one cannot be removed, the others still are.
    pub(crate) fn discard_jobs_except(&self, kept: &[TaskId]) -> io::Result<()> {
        for entry in fs::read_dir(self.jobs())? {
            let entry = entry?;
            let id = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if !id.is_some_and(|id| kept.contains(&id)) {
                let path = entry.path();
                if let Err(error) = remove(&path) {
                    tracing::error!(path = %path.display(), %error, "cannot remove the folder of an earlier job");
                }
            }
        }
        Ok(())
    }

    /// Returns the entries of the media folder that belong to no task for which `is_known` returns true.
    pub(crate) fn orphans(&self, is_known: impl Fn(TaskId) -> bool) -> io::Result<Vec<PathBuf>> {
        let mut orphans = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let name = entry.file_name();
            let id = name.to_str().and_then(|name| name.parse().ok());
            if name != JOBS && !id.is_some_and(&is_known) {
                orphans.push(entry.path());
            }
        }
        Ok(orphans)
    }

    fn folder(&self, id: TaskId) -> PathBuf {
        self.path.join(id.to_string())
    }
}
