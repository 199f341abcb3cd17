//! Removes a folder whatever its permissions are, and even if it is nested more deeply than a path can be long.
//!
//! It follows no links and does not recurse: nested entries are moved up first, so that only two folders are open at a time.

use std::{
    ffi::CStr,
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{AtFlags, CWD, Dir, Mode, OFlags, RenameFlags, chmod, openat, renameat_with, unlinkat},
    io::Errno,
    path::Arg,
};
use uuid::Uuid;

/// Flags that open a folder, but never a symbolic link to one.
const FOLDER: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Removes whatever is at `path`, with everything in it. Succeeds if nothing is there.
///
/// # Errors
/// If something in it belongs to another account, or nothing can be removed at all.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    if taken_away(CWD, path)? {
        return Ok(());
    }
    let top = opened_up(CWD, path)?;
    while !taken_away(CWD, path)? {
        if empty_once(&top)? == 0 {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
    }
    Ok(())
}

/// Removes the entries of `top`, and moves the contents of non-empty folders up into it. Returns the number of entries.
fn empty_once(top: &OwnedFd) -> io::Result<usize> {
    let mut seen = 0;
    for_each_name(top, |name| {
        seen += 1;
        if !taken_away(top, name)? {
            raise(top, name)?;
            taken_away(top, name)?;
        }
        Ok(())
    })?;
    Ok(seen)
}

/// Removes the entries of a folder in `top`, and moves those that cannot be removed yet up into `top`.
fn raise(top: &OwnedFd, name: &CStr) -> io::Result<()> {
    let folder = opened_up(top, name)?;
    for_each_name(&folder, |inner| {
        if !taken_away(&folder, inner)? {
            // It must be writable, because the rename also changes its `..` entry.
            opened_up(&folder, inner)?;
            let above = Uuid::new_v4().to_string();
            renameat_with(&folder, inner, top, above, RenameFlags::NOREPLACE)?;
        }
        Ok(())
    })
}

fn for_each_name(folder: &OwnedFd, mut work: impl FnMut(&CStr) -> io::Result<()>) -> io::Result<()> {
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            work(name)?;
        }
    }
    Ok(())
}

/// Removes one entry. Returns false for a folder that is not empty.
fn taken_away(folder: impl AsFd, name: impl Arg + Copy) -> io::Result<bool> {
    match unlinkat(&folder, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOTDIR) => match unlinkat(&folder, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(true),
            Err(error) => Err(error.into()),
        },
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Opens a folder whose permissions may forbid it.
fn opened_up(folder: impl AsFd, name: impl Arg) -> io::Result<OwnedFd> {
    let handle = openat(folder, name, OFlags::PATH | FOLDER, Mode::empty())?;
    // Through its handle, which cannot be replaced by a link.
    chmod(format!("/proc/self/fd/{}", handle.as_raw_fd()), Mode::RWXU)?;
    Ok(openat(&handle, c".", OFlags::RDONLY | FOLDER, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use rustix::fs::mkdirat;

    use super::*;

    #[test]
    fn a_missing_path_a_link_and_a_folder_are_removed_and_no_link_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("target");
        let link = dir.path().join("link");
        fs::create_dir(&target).unwrap();
        fs::write(target.join("file"), "").unwrap();
        symlink(&target, &link).unwrap();
        let folder = dir.path().join("folder");
        fs::create_dir(&folder).unwrap();
        symlink(&target, folder.join("link")).unwrap();
        symlink("..", folder.join("up")).unwrap();
        for path in [&dir.path().join("missing"), &link, &folder, &folder] {
            remove(path).unwrap();
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(target.join("file").exists());
        remove(&target.join("file")).unwrap();
        remove(&target).unwrap();
    }

    #[test]
    fn a_tree_that_is_deeper_than_the_longest_path_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let mut at = openat(CWD, dir.path(), OFlags::RDONLY | FOLDER, Mode::empty()).unwrap();
        for _ in 0..2_000 {
            for name in ["deep", "beside"] {
                mkdirat(&at, name, Mode::RWXU).unwrap();
            }
            at = openat(&at, "deep", OFlags::RDONLY | FOLDER, Mode::empty()).unwrap();
        }
        drop(at);
        remove(&dir.path().join("deep")).unwrap();
        remove(dir.path()).unwrap();
        assert!(!dir.path().exists());
    }
}
