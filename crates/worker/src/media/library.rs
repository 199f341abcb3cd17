//! Sets which system accounts can read finished files: only the worker's own, or also the group of the media folder, such as that of a
//! media server.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::Path,
};

use sallyport_core::config::LibraryAccess;

/// The mode bits that let a group list the media folder and enter the folders in it.
const LIST_AND_ENTER: u32 = 0o050;

/// Masks the permission bits of a mode.
const MODE: u32 = 0o7777;

/// Sets the mode and group of a finished folder and the files in it according to `access`. Subfolders, such as prepared streams, remain
/// accessible to the owner only.
pub(crate) fn open(access: LibraryAccess, library: &Path, folder: &Path) -> io::Result<()> {
    let (of_folder, of_file) = match access {
        LibraryAccess::Owner => (0o700, 0o600),
        LibraryAccess::Group => (0o750, 0o640),
    };
    let group = match access {
        LibraryAccess::Owner => None,
        LibraryAccess::Group => Some(fs::metadata(library)?.gid()),
    };
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            grant(&entry.path(), group, of_file)?;
        }
    }
    grant(folder, group, of_folder)
}

/// Gives the group access to the media folder if `access` says so. All other permissions stay as the administrator set them.
pub(crate) fn open_top(access: LibraryAccess, library: &Path) -> io::Result<()> {
    let mode = fs::metadata(library)?.mode() & MODE;
    match access {
        LibraryAccess::Group if mode & LIST_AND_ENTER != LIST_AND_ENTER => {
            fs::set_permissions(library, Permissions::from_mode(mode | LIST_AND_ENTER))
        }
        LibraryAccess::Owner | LibraryAccess::Group => Ok(()),
    }
}

fn grant(path: &Path, group: Option<u32>, mode: u32) -> io::Result<()> {
    let about = fs::symlink_metadata(path)?;
    if let Some(group) = group.filter(|group| *group != about.gid()) {
        chown(path, None, Some(group))?;
    }
    // chown may have cleared mode bits.
    if fs::symlink_metadata(path)?.mode() & MODE == mode {
        return Ok(());
    }
    fs::set_permissions(path, Permissions::from_mode(mode))
}
