//! Measures what a job has written so far, within the limits of a normal download.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::SystemTime,
};

use thiserror::Error;

/// The maximum number of files and folders of one job; a download has a few dozen.
const MAX_ENTRIES: usize = 10_000;

/// The deepest nesting of folders; the cache of a JavaScript runtime is the deepest.
const MAX_DEPTH: usize = 32;

/// The contents of a job's folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DiskUsage {
    /// Bytes allocated on disk.
    pub(crate) bytes: u64,
    entries: usize,
    newest: Option<SystemTime>,
}

/// The reason why a job's folder cannot be measured.
#[derive(Debug, Error)]
pub(crate) enum DiskUsageError {
    #[error("it contains too many files")]
    TooMany,
    #[error("its folders are nested too deeply")]
    TooDeep,
    #[error("cannot read a folder: {0}")]
    Closed(#[from] io::Error),
}

impl DiskUsage {
    /// Measures `folder`. Entries that disappear in the meantime are not counted.
    pub(crate) fn in_folder(folder: &Path) -> Result<Self, DiskUsageError> {
        let mut written = Self::default();
        let mut folders = vec![(folder.to_owned(), 0)];
        while let Some((folder, depth)) = folders.pop() {
            if depth > MAX_DEPTH {
                return Err(DiskUsageError::TooDeep);
            }
            written.add(&folder, |below| folders.push((below, depth + 1)))?;
        }
        Ok(written)
    }

    fn add(&mut self, folder: &Path, mut below: impl FnMut(PathBuf)) -> Result<(), DiskUsageError> {
        let Some(entries) = still_there(fs::read_dir(folder))? else { return Ok(()) };
        for entry in entries {
            let entry = entry?;
            let Some(about) = still_there(entry.metadata())? else { continue };
            self.entries += 1;
            if self.entries > MAX_ENTRIES {
                return Err(DiskUsageError::TooMany);
            }
            self.bytes = self.bytes.saturating_add(about.blocks().saturating_mul(512));
            self.newest = self.newest.max(about.modified().ok());
            if about.is_dir() {
                below(entry.path());
            }
        }
        Ok(())
    }
}

fn still_there<T>(looked: io::Result<T>) -> io::Result<Option<T>> {
    match looked {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
