//! Which accounts may read finished files: the worker's own, or the group of the media folder as well, such as a media server's.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::Path,
};

use crate::config::LibraryAccess;

/// Lets a group list the media folder and enter the folders in it.
const LIST_AND_ENTER: u32 = 0o050;

/// The bits of a mode.
const MODE: u32 = 0o7777;

/// Gives a finished folder and the files in it the mode and group that `access` means. Folders in it, such as prepared streams, stay
/// the owner's.
pub(super) fn open(access: LibraryAccess, library: &Path, folder: &Path) -> io::Result<()> {
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

/// Lets the group into the media folder. Who else may enter is for whoever made the folder to say.
pub(super) fn open_top(access: LibraryAccess, library: &Path) -> io::Result<()> {
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
    // A change of group may have cleared bits.
    if fs::symlink_metadata(path)?.mode() & MODE == mode {
        return Ok(());
    }
    fs::set_permissions(path, Permissions::from_mode(mode))
}
