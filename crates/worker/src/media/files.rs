//! Opens and creates files and folders that a child may have tampered with.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::Path,
};

/// Creates a folder and its missing parents, accessible to their owner only.
pub(crate) fn make_private(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Opens a regular file without following a symbolic link.
pub(crate) fn open_regular(path: &Path) -> io::Result<(File, fs::Metadata)> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    let about = file.metadata()?;
    if about.is_file() { Ok((file, about)) } else { Err(io::Error::other("not a regular file")) }
}

/// Checks that `path` is a regular file with a single name. Through a second name, the next child could still change it.
pub(super) fn sole(path: &Path) -> io::Result<fs::Metadata> {
    let about = fs::symlink_metadata(path)?;
    if about.is_file() && about.nlink() == 1 {
        Ok(about)
    } else {
        Err(io::Error::other("not a regular file with a single name"))
    }
}

pub(super) fn real_folder(path: &Path) -> io::Result<()> {
    let real = fs::symlink_metadata(path)?.is_dir();
    if real { Ok(()) } else { Err(io::ErrorKind::NotADirectory.into()) }
}
