//! Checks whether this account can create the folders and write to them.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Access, access},
    process::geteuid,
};
use sallyport_core::{
    config::{Key, TlsMode},
    names::account,
};
use sallyport_gateway::policy::Site;

use super::{Inspection, key};

impl Inspection<'_> {
    pub(super) fn folders(&mut self, site: Option<&Site>) {
        let config = self.config;
        let mut folders: Vec<(Vec<Key>, PathBuf)> = vec![(vec![Key::table("data_dir")], config.data_dir.clone())];
        if self.roles.have_gateway() {
            folders.extend(config.log.access.parent().map(|folder| (key("log", "access"), folder.to_owned())));
        }
        if let TlsMode::LocalCa { dir, .. } | TlsMode::Acme { dir, .. } = &config.tls.mode
            && self.roles.have_gateway()
        {
            folders.push((vec![Key::table("tls")], dir.clone()));
        }
        if self.roles.have_worker() && site.is_some_and(|site| site.needs_worker(&config.worker.listen)) {
            folders.push((key("worker", "media_dir"), config.worker.media_dir.clone()));
        }
        let mut said: Vec<PathBuf> = Vec::new();
        for (key, folder) in folders {
            if let Err((place, what)) = usable(&folder)
                && !said.contains(&place)
            {
                self.fault(key, what);
                said.push(place);
            }
        }
        self.contents();
    }

    /// Looks for files in the data folder that another account left there, such as root by running a command.
    fn contents(&mut self) {
        let folder = &self.config.data_dir;
        let secrets = fs::read_dir(self.config.secrets_dir()).into_iter().flatten().flatten();
        let entries = fs::read_dir(folder).into_iter().flatten().flatten().chain(secrets);
        let closed = entries.map(|entry| entry.path()).find(|path| access(path, Access::READ_OK).is_err());
        if let Some(path) = closed {
            let owner = owner_of(&path);
            let us = account::name_of(geteuid().as_raw());
            let place = path.display();
            let what = format!(
                "{place} belongs to {owner}, and this runs as {us}; run this as {owner}, or hand the file over as root: chown {us} {place}"
            );
            self.fault(vec![Key::table("data_dir")], what);
        }
        let owner = fs::metadata(folder).map(|about| about.uid()).unwrap_or_default();
        if geteuid().is_root() && owner != 0 {
            let owner = account::name_of(owner);
            let what = format!(
                "{} belongs to {owner}, and this runs as root; start it as {owner}; otherwise {owner} cannot read the files that root creates there",
                folder.display()
            );
            self.warn(vec![Key::table("data_dir")], what);
        }
    }
}

/// Whether this account can create a folder and write to it; otherwise returns the path that is in the way, and the reason.
fn usable(folder: &Path) -> Result<(), (PathBuf, String)> {
    // A missing folder is created in the closest ancestor that exists.
    let place = folder.ancestors().find(|place| place.symlink_metadata().is_ok()).unwrap_or(Path::new("/"));
    let fault = |what: String| Err((place.to_owned(), what));
    match fs::metadata(place) {
        Ok(about) if !about.is_dir() => {
            return fault(format!("{} is not a folder; move it away or choose another path", place.display()));
        }
        Ok(_) => {}
        Err(error) => return fault(format!("{}: {}", place.display(), sallyport_core::files::os_error::words(&error))),
    }
    match access(place, Access::WRITE_OK | Access::EXEC_OK).map_err(io::Error::from) {
        Ok(()) => Ok(()),
        Err(error) => {
            let to_make = if place == folder { String::new() } else { format!("cannot create {}: ", folder.display()) };
            fault(format!("{to_make}{}", closed(place, &error)))
        }
    }
}

fn closed(place: &Path, error: &io::Error) -> String {
    let shown = place.display();
    match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => {
            format!("{shown} is on a read-only file system; remount it writable or choose another path")
        }
        io::ErrorKind::PermissionDenied => {
            let owner = owner_of(place);
            let us = account::name_of(geteuid().as_raw());
            format!(
                "{shown} belongs to {owner}, and {us} (the account of this process) may not write to it; run this as {owner}, or hand the folder over: chown {us} {shown}"
            )
        }
        _ => format!("{shown}: {}", sallyport_core::files::os_error::words(error)),
    }
}

fn owner_of(path: &Path) -> String {
    path.symlink_metadata().map_or_else(|_| "another account".to_owned(), |about| account::name_of(about.uid()))
}
