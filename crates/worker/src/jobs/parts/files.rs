//! Opens, lists and reads the files of a child, whatever it has put in their place.

use std::{
    ffi::CString,
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{FileExt, MetadataExt},
    },
};

use crc32fast::Hasher;
use rustix::{
    fs::{Dir, Mode, OFlags, openat},
    io::Errno,
};

/// Flags that open a folder, but never a symbolic link to one.
pub(super) const FOLDER: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Flags that open a file without ever blocking, whatever a child has put there.
pub(super) const FILE: OFlags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

/// Read size, in bytes.
const PIECE: usize = 1 << 20;

/// Opens a regular file that has no other name. Returns `None` for anything else, and if it no longer exists.
pub(in crate::jobs) fn regular(folder: impl AsFd, name: &CString) -> io::Result<Option<(File, fs::Metadata)>> {
    let file = match openat(folder, name, FILE | OFlags::RDONLY, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT | Errno::LOOP | Errno::NXIO | Errno::ACCESS) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let about = file.metadata()?;
    Ok((about.is_file() && about.nlink() == 1).then_some((file, about)))
}

/// Returns true for a fragment, which yt-dlp removes once it is part of a larger file.
pub(in crate::jobs) fn is_fragment(name: &CString) -> bool {
    name.to_bytes().windows(5).any(|part| part == b"-Frag")
}

pub(in crate::jobs) fn names(folder: &OwnedFd) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let name = entry?.file_name().to_owned();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(name);
        }
    }
    Ok(names)
}

/// Adds the bytes from `from` to `to` of a file to `hasher`. Returns the position reached, or `None` if stopped.
pub(super) fn hash(
    file: &File,
    from: u64,
    to: u64,
    hasher: &mut Hasher,
    may_continue: impl Fn() -> bool,
) -> io::Result<Option<u64>> {
    let mut at = from;
    let mut piece = vec![0; PIECE];
    while at < to {
        if !may_continue() {
            return Ok(None);
        }
        let most = usize::try_from(to - at).unwrap_or(PIECE).min(PIECE);
        let read = file.read_at(piece.get_mut(..most).unwrap_or_default(), at)?;
        if read == 0 {
            break;
        }
        hasher.update(piece.get(..read).unwrap_or_default());
        at += read as u64;
    }
    Ok(Some(at))
}
