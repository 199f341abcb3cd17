//! Renames that survive a power cut: the content reaches the disk first, then the name.
//!
//! A file system may store a new name before the content. After a power cut, the file then has its full length but not its content. Every
//! rename in this program goes through here; a test below searches the source for others.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// Renames the file or folder `from` to `to`, replacing an existing file.
///
/// Of a folder, only the list of names is synced; sync the files in it first.
///
/// # Errors
/// If something cannot be synced, nothing is renamed. An error after the rename means that the new name may not survive a power cut.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    sync(from)?;
    fs::rename(from, to)?;
    sync_parent(to)
}

/// Syncs the content of a file, or every name in a folder, to the disk. Does not follow links.
pub fn sync(path: &Path) -> io::Result<()> {
    OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?.sync_all()
}

/// Syncs the name `path` to the disk.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => fs::File::open(parent)?.sync_all(),
        _ => fs::File::open(".")?.sync_all(),
    }
}

/// Renames something that is not needed after a power cut, such as a folder about to be removed.
pub fn rename_for_now(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_folders_are_renamed() {
        let dir = tempfile::tempdir().unwrap();
        let from = dir.path().join("from");
        let to = dir.path().join("to");
        fs::write(&from, "new").unwrap();
        fs::write(&to, "old").unwrap();
        rename(&from, &to).unwrap();
        assert_eq!((fs::read_to_string(&to).unwrap().as_str(), from.exists()), ("new", false));
        fs::create_dir(&from).unwrap();
        rename(&from, &dir.path().join("folder")).unwrap();
        assert!(dir.path().join("folder").is_dir());
    }

    #[test]
    fn a_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("/etc/passwd", &link).unwrap();
        assert!(rename(&link, &dir.path().join("to")).is_err());
        assert!(fs::symlink_metadata(&link).is_ok());
    }
}
