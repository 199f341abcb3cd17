//! The file of the access log: appended to, rotated by size, and reopened if another program has moved it.

use std::{
    ffi::OsString,
    fs::{self, File, Metadata, OpenOptions},
    io::{self, Write},
    num::NonZeroU64,
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// An open log file, with its size limit and rotation.
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    /// None for a pipe or a device, which is neither measured nor moved.
    regular: Option<RegularFile>,
    max_bytes: Option<NonZeroU64>,
    /// How many rotated files are kept besides the current one.
    keep: u32,
}

struct RegularFile {
    bytes: u64,
    identity: (u64, u64),
}

/// The result of a check of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileCheck {
    /// The path still leads to the same file.
    Same,
    /// A different file was opened; it begins with a whole line.
    Another,
}

impl LogFile {
    /// Opens the file for appending. If it does not exist, creates it with mode 0600.
    pub(super) fn open(path: &Path, max_bytes: Option<NonZeroU64>, keep: u32) -> io::Result<Self> {
        let (file, regular) = open(path)?;
        Ok(Self { path: path.to_owned(), file, regular, max_bytes, keep })
    }

    /// Whether the last line is incomplete, for example because the disk was full before a kill.
    pub(super) fn is_torn(&self) -> bool {
        let mut last = [b'\n'];
        let Some(at) = self.regular.as_ref().and_then(|regular| regular.bytes.checked_sub(1)) else { return false };
        File::open(&self.path).is_ok_and(|file| file.read_exact_at(&mut last, at).is_ok()) && last != [b'\n']
    }

    /// Appends as much as the disk accepts; returns the number of bytes, and the error if that was not all.
    pub(super) fn append(&mut self, bytes: &[u8]) -> (usize, io::Result<()>) {
        let (written, result) = self.write(bytes);
        if let Some(regular) = &mut self.regular {
            regular.bytes += written as u64;
        }
        (written, result)
    }

    fn write(&mut self, bytes: &[u8]) -> (usize, io::Result<()>) {
        let mut written = 0;
        while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
            match self.file.write(rest) {
                Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
                Ok(n) => written += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return (written, Err(error)),
            }
        }
        (written, Ok(()))
    }

    /// Checks whether the file is still at its path (logrotate moves it), and how large it is.
    pub(super) fn look(&mut self) -> io::Result<FileCheck> {
        let Some(regular) = &mut self.regular else { return Ok(FileCheck::Same) };
        match fs::metadata(&self.path) {
            Ok(found) if identity(&found) == regular.identity => {
                regular.bytes = found.len();
                Ok(FileCheck::Same)
            }
            _ => self.reopen(),
        }
    }

    /// Whether the file has reached its maximum size.
    pub(super) fn is_full(&self) -> bool {
        self.regular.as_ref().zip(self.max_bytes).is_some_and(|(regular, max)| regular.bytes >= max.get())
    }

    /// Renames each file to the next number, drops the oldest and opens a new one. Call it only between two lines.
    pub(super) fn rotate(&mut self) -> io::Result<()> {
        // A predecessor or a successor may have rotated already.
        if self.look()? == FileCheck::Another {
            return Ok(());
        }
        if self.keep == 0 {
            fs::remove_file(&self.path)?;
        }
        for number in (0..self.keep).rev() {
            match fs::rename(self.rotated(number), self.rotated(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.reopen().map(drop)
    }

    /// Returns the folder whose disk the file uses; None for a pipe or a device.
    pub(super) fn folder(&self) -> Option<&Path> {
        self.regular.as_ref().and_then(|_| self.path.parent())
    }

    fn reopen(&mut self) -> io::Result<FileCheck> {
        (self.file, self.regular) = open(&self.path)?;
        Ok(FileCheck::Another)
    }

    /// Returns `access.log`, `access.log.1`, `access.log.2`.
    fn rotated(&self, number: u32) -> PathBuf {
        let mut name = OsString::from(&self.path);
        if number > 0 {
            name.push(format!(".{number}"));
        }
        name.into()
    }
}

fn open(path: &Path) -> io::Result<(File, Option<RegularFile>)> {
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    let found = file.metadata()?;
    let regular = found.is_file().then(|| RegularFile { bytes: found.len(), identity: identity(&found) });
    Ok((file, regular))
}

fn identity(found: &Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(path: &Path, keep: u32) -> LogFile {
        LogFile::open(path, NonZeroU64::new(10), keep).unwrap()
    }

    fn append(file: &mut LogFile, text: &str) {
        assert!(matches!(file.append(text.as_bytes()), (n, Ok(())) if n == text.len()));
    }

    #[test]
    fn a_full_file_is_moved_and_the_oldest_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        let mut file = log(&path, 2);
        for text in ["first line\n", "second line\n", "third line\n", "fourth line\n"] {
            append(&mut file, text);
            assert!(file.is_full());
            file.rotate().unwrap();
            assert!(!file.is_full());
        }
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).ok();
        assert_eq!(read("access.log").as_deref(), Some(""));
        assert_eq!(read("access.log.1").as_deref(), Some("fourth line\n"));
        assert_eq!(read("access.log.2").as_deref(), Some("third line\n"));
        assert_eq!(read("access.log.3"), None);
        let mut alone = log(&dir.path().join("alone"), 0);
        append(&mut alone, "a line that is gone\n");
        alone.rotate().unwrap();
        assert_eq!((read("alone").as_deref(), read("alone.1")), (Some(""), None));
    }

    #[test]
    fn changes_to_the_file_by_other_programs_are_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        let mut file = log(&path, 2);
        append(&mut file, "0123456789\n");
        fs::write(&path, "").unwrap();
        assert_eq!((file.look().unwrap(), file.is_full()), (FileCheck::Same, false), "copytruncate");
        fs::rename(&path, dir.path().join("moved")).unwrap();
        append(&mut file, "late\n");
        assert_eq!(file.look().unwrap(), FileCheck::Another);
        append(&mut file, "new\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "new\n");
        assert_eq!(fs::read_to_string(dir.path().join("moved")).unwrap(), "late\n");
    }

    #[test]
    fn a_torn_line_is_noticed_and_a_device_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        assert!(!log(&path, 1).is_torn());
        fs::write(&path, "whole\n").unwrap();
        assert!(!log(&path, 1).is_torn());
        fs::write(&path, "whole\ntor").unwrap();
        assert!(log(&path, 1).is_torn());
        let mut null = log(Path::new("/dev/null"), 1);
        append(&mut null, "0123456789\n");
        assert!(!null.is_torn() && !null.is_full() && null.folder().is_none());
    }
}
