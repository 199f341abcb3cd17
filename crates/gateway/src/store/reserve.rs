//! Disk space reserved for revocations: a file that is deleted when no other space is left.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FallocateFlags, fallocate, statvfs},
    io::Errno,
};

/// More than the removal of a user with all keys and links writes.
const BYTES: u64 = 4 << 20;
/// The reserve is not allocated unless the free space is at least this many times its size.
const SPARE: u64 = 2;

/// The reserve file, `state.reserve` beside the database.
#[derive(Debug)]
pub(super) struct Reserve(PathBuf);

impl Reserve {
    /// Returns the reserve of this database.
    pub(super) fn of(database: &Path) -> Self {
        Self(database.with_extension("reserve"))
    }

    /// Allocates the reserve if it does not exist and the disk has enough space.
    pub(super) fn take(&self) {
        // A copy from a backup may have the length but no disk blocks.
        let whole = fs::metadata(&self.0).is_ok_and(|found| found.blocks().saturating_mul(512) >= BYTES);
        if !whole && self.may_take() && self.allocate().is_err() {
            self.give_up();
        }
    }

    /// Frees the space for the next write; returns whether there was any.
    pub(super) fn give_up(&self) -> bool {
        fs::remove_file(&self.0).is_ok()
    }

    fn may_take(&self) -> bool {
        let space = self.0.parent().and_then(|folder| statvfs(folder).ok());
        space.is_some_and(|space| space.f_bavail.saturating_mul(space.f_frsize) >= BYTES * SPARE)
    }

    fn allocate(&self) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&self.0)?;
        match fallocate(&file, FallocateFlags::empty(), 0, BYTES) {
            Err(Errno::OPNOTSUPP) => fill(&mut file),
            other => Ok(other?),
        }
    }
}

/// Writes the whole file, for file systems that cannot preallocate space.
fn fill(file: &mut File) -> io::Result<()> {
    let piece = vec![0; 64 << 10];
    (0..BYTES / piece.len() as u64).try_for_each(|_| file.write_all(&piece))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_allocated_once_and_released_once() {
        let dir = tempfile::tempdir().unwrap();
        let reserve = Reserve::of(&dir.path().join("state.db"));
        assert!(!reserve.give_up());
        reserve.take();
        reserve.take();
        let found = fs::metadata(dir.path().join("state.reserve")).unwrap();
        assert!(found.len() == BYTES && found.blocks() * 512 >= BYTES, "{} blocks", found.blocks());
        assert!(reserve.give_up() && !reserve.give_up());
    }
}
