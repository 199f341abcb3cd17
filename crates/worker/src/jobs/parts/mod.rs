//! Tracks how much of an unfinished download is safely on disk, so that a power cut costs a few seconds of download but never corrupts
//! content.
//!
//! After a power cut, a file system may have kept the length of a file but not its last pages. While a job runs, its files are therefore
//! synced every few seconds, and the synced length and checksum are noted next to the folder that the child can write to. After a reboot,
//! the first run truncates each file to its noted length, if the checksum matches, and removes all others. A finished file is complete
//! and synced when it is noted, so its length is sufficient.

mod cut_back;
pub(super) mod files;
mod note;
mod recorder;

use std::{collections::BTreeMap, io, os::fd::OwnedFd, path::PathBuf};

use rustix::{
    fs::{AtFlags, CWD, Mode, fsync, mkdirat, openat, renameat, unlinkat},
    io::Errno,
};
use tokio_util::sync::CancellationToken;

pub(crate) use self::recorder::SyncRecorder;
use self::{
    cut_back::cut_back,
    files::{FOLDER, is_fragment, names, regular},
    note::{Note, boot_id},
};

/// The folders for partial files, for those that wait for the companion of the next run, and for the finished file.
pub(crate) const WORKING: &str = "tmp";
const KEPT: &str = "kept";
const OUT: &str = "out";

/// The maximum number of files that are tracked. A download has only a few; any beyond the limit are downloaded again.
pub(crate) const MAX_TRACKED: usize = 64;

/// The partial files of a job.
#[derive(Clone, Debug)]
pub(crate) struct PartialFiles {
    /// The folder that the child can write to.
    work: PathBuf,
    /// The note, which the child cannot reach.
    note: PathBuf,
}

impl PartialFiles {
    /// Returns the parts in `work`, whose note is at `note`.
    pub(crate) fn new(work: PathBuf, note: PathBuf) -> Self {
        Self { work, note }
    }

    /// Prepares the files of an earlier run for the next one: sets them aside, where only the companion picks them up, and truncates them
    /// to what is safely on disk if the machine has rebooted since. Returns `None` if `stop` is cancelled before that is done.
    pub(crate) fn begin(&self, stop: &CancellationToken) -> io::Result<Option<SyncRecorder>> {
        let kept = self.set_aside()?;
        let boot = boot_id();
        let noted = Note::read(&self.note);
        let last = if noted.boot == boot && !boot.is_empty() {
            noted
        } else {
            let finished = self.keep_finished(&noted.finished)?;
            let Some(files) = cut_back(&kept, &noted.files, || !stop.is_cancelled())? else { return Ok(None) };
            Note { boot, files, finished }
        };
        last.write(&self.note)?;
        Ok(Some(SyncRecorder::new(self.clone(), last, stop.clone())))
    }

    fn set_aside(&self) -> io::Result<OwnedFd> {
        let working = self.folder(WORKING)?;
        let kept = self.folder(KEPT)?;
        for name in names(&working)? {
            if is_fragment(&name) {
                unlinkat(&working, &name, AtFlags::empty())?;
            } else if regular(&working, &name)?.is_some() {
                renameat(&working, &name, &kept, &name)?;
            }
        }
        Ok(kept)
    }

    /// Removes the finished files that do not match their note, and returns the others.
    fn keep_finished(&self, noted: &BTreeMap<String, u64>) -> io::Result<BTreeMap<String, u64>> {
        let out = self.folder(OUT)?;
        let mut finished = BTreeMap::new();
        for name in names(&out)? {
            let Some((_, about)) = regular(&out, &name)? else { continue };
            if let Ok(text) = name.to_str()
                && noted.get(text) == Some(&about.len())
            {
                finished.insert(text.to_owned(), about.len());
            } else {
                unlinkat(&out, &name, AtFlags::empty())?;
            }
        }
        Ok(finished)
    }

    /// Syncs the finished files and returns their lengths.
    fn sync_finished(&self) -> io::Result<BTreeMap<String, u64>> {
        let out = self.folder(OUT)?;
        let mut finished = BTreeMap::new();
        for name in names(&out)?.iter().take(MAX_TRACKED) {
            if let (Ok(text), Some((file, about))) = (name.to_str(), regular(&out, name)?) {
                file.sync_all()?;
                finished.insert(text.to_owned(), about.len());
            }
        }
        fsync(&out)?;
        Ok(finished)
    }

    /// Opens one of the child's folders. Fails if the child has replaced it with something else.
    pub(crate) fn folder(&self, name: &str) -> io::Result<OwnedFd> {
        let work = openat(CWD, &self.work, FOLDER, Mode::empty())?;
        match mkdirat(&work, name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => Ok(openat(&work, name, FOLDER, Mode::empty())?),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
#[path = "parts_tests.rs"]
mod tests;
