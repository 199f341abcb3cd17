//! Secrets in files: created with mode 0600, written atomically, and refused if others could have read them.

use std::{
    env,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    path::{Path, PathBuf},
};

use secrecy::{ExposeSecret, SecretString};
use thiserror::Error;

use super::random::random;
use crate::files::durable;

/// The minimum length in bytes of a secret that signs (RFC 7518, section 3.2: at least the size of the hash).
pub const MIN_SECRET_BYTES: usize = 32;

/// Why the file of a secret is not usable; each message says how to fix it.
#[derive(Debug, Error)]
pub enum SecretError {
    /// Other users of this machine can read or write it.
    #[error("{0}: mode {1:04o} gives other users access to the secret; run: chmod 600 {0}")]
    Exposed(PathBuf, u32),
    /// The file is empty.
    #[error("{0}: the file is empty; remove it to create a new secret, or restore the old one")]
    Empty(PathBuf),
    /// The file existed and is now missing.
    #[error(
        "{0}: the file is gone; the secret that it contained stays in force. Restore the file, or restart the gateway to create a new secret"
    )]
    Gone(PathBuf),
    /// The secret is too short.
    #[error("{0}: the secret is too short ({1} bytes); use at least {MIN_SECRET_BYTES} bytes")]
    Short(String, usize),
    /// The file cannot be read or written.
    #[error("{0}: {1}")]
    Io(PathBuf, io::Error),
}

/// Reads the secret in `path`, without surrounding white space; returns None if there is no file.
///
/// The mode of a file below `$CREDENTIALS_DIRECTORY` is not checked: systemd gives the unit's account access through an access control list,
/// whose mask shows as the mode of the group (systemd.exec(5), "Credentials").
///
/// # Errors
/// Fails if others can access the secret, or if it is empty, not text or unreadable.
pub fn read(path: &Path) -> Result<Option<SecretString>, SecretError> {
    let io = |e| SecretError::Io(path.to_owned(), e);
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(io(e)),
    };
    let mode = metadata.mode() & 0o777;
    if mode & 0o077 != 0 && !is_systemd_credential(path) {
        return Err(SecretError::Exposed(path.to_owned(), mode));
    }
    let text = SecretString::from(fs::read_to_string(path).map_err(io)?);
    match text.expose_secret().trim() {
        "" => Err(SecretError::Empty(path.to_owned())),
        trimmed => Ok(Some(SecretString::from(trimmed))),
    }
}

/// Returns when the file at `path` was last written, in Unix seconds, or None if there is no file.
pub fn changed(path: &Path) -> Result<Option<i64>, SecretError> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata.mtime())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(SecretError::Io(path.to_owned(), e)),
    }
}

/// Reads the secret in `path`, or creates one of 256 random bits (64 hexadecimal digits) and stores it there.
pub fn read_or_create(path: &Path) -> Result<SecretString, SecretError> {
    if let Some(secret) = read(path)? {
        return long_enough(secret, &path.display().to_string());
    }
    let secret = SecretString::from(data_encoding::HEXLOWER.encode(&random::<32>()));
    write(path, secret.expose_secret().as_bytes())?;
    Ok(secret)
}

/// Returns a secret of at least [`MIN_SECRET_BYTES`]; `source` names its origin in the error.
pub fn long_enough(secret: SecretString, source: &str) -> Result<SecretString, SecretError> {
    match secret.expose_secret().len() {
        n if n < MIN_SECRET_BYTES => Err(SecretError::Short(source.to_owned(), n)),
        _ => Ok(secret),
    }
}

/// Writes `bytes` to `path` with mode 0600, atomically: a reader sees the old file or the whole new one, even after a power cut.
///
/// A replaced file keeps its owner. If root creates a new one, it belongs to the owner of its folder, so that a command run by root never
/// locks the gateway out.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), SecretError> {
    replace(path, bytes, |folder| {
        Ok(FileAttributes::of_secret(path)?.unwrap_or_else(|| FileAttributes::new(0o600, folder)))
    })
}

/// Writes a file that is not secret in the same way: a new file with mode 0644, an existing one with its current mode.
pub fn write_public(path: &Path, bytes: &[u8]) -> Result<(), SecretError> {
    replace(path, bytes, |folder| Ok(FileAttributes::of(path)?.unwrap_or_else(|| FileAttributes::new(0o644, folder))))
}

/// Writes a secret to hand out, such as a certificate for a phone. It belongs to the account of this process, whoever owns the folder.
pub fn write_export(path: &Path, bytes: &[u8]) -> Result<(), SecretError> {
    replace(path, bytes, |_| Ok(FileAttributes { mode: 0o600, owner: None }))
}

/// Creates a folder with mode 0700, and its parents; corrects the mode of an existing folder.
pub fn create_private_dir(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))
}

/// Creates an empty file with mode 0600 if it does not exist.
pub fn create_private(path: &Path) -> io::Result<()> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path).map(drop)
}

/// Whether the file is in the folder of credentials that systemd created for this unit. A link that leads out of that folder is not.
fn is_systemd_credential(path: &Path) -> bool {
    let folder = env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from).filter(|folder| folder.is_absolute());
    let resolved = folder.and_then(|folder| folder.canonicalize().ok()).zip(path.canonicalize().ok());
    resolved.is_some_and(|(folder, file)| file.starts_with(folder))
}

/// The mode and owner of a file.
#[derive(Clone, Copy)]
struct FileAttributes {
    mode: u32,
    /// User and group; None for those of this process.
    owner: Option<(u32, u32)>,
}

impl FileAttributes {
    /// Returns the mode and owner for a new file in `folder`.
    fn new(mode: u32, folder: &Path) -> Self {
        Self { mode, owner: owner_for_new(folder) }
    }

    /// Returns those of the file at `path`, or None if it does not exist.
    fn of(path: &Path) -> io::Result<Option<Self>> {
        match fs::metadata(path) {
            Ok(old) => Ok(Some(Self { mode: old.mode() & 0o777, owner: Some((old.uid(), old.gid())) })),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Returns the same, with the mode restricted to the owner.
    fn of_secret(path: &Path) -> io::Result<Option<Self>> {
        Ok(Self::of(path)?.map(|old| Self { mode: (old.mode & 0o700) | 0o600, ..old }))
    }

    fn put_on(self, file: &File) -> io::Result<()> {
        let ours = file.metadata()?;
        if let Some((user, group)) = self.owner
            && (user, group) != (ours.uid(), ours.gid())
        {
            match fchown(file, Some(user), Some(group)) {
                // A group that this process does not belong to is no reason to fail.
                Err(e) if user != ours.uid() => return Err(e),
                _ => {}
            }
        }
        file.set_permissions(fs::Permissions::from_mode(self.mode))
    }
}

/// Returns the owner for a new file in `folder`.
fn owner_for_new(folder: &Path) -> Option<(u32, u32)> {
    let folder = rustix::process::geteuid().is_root().then(|| fs::metadata(folder).ok()).flatten()?;
    Some((folder.uid(), folder.gid()))
}

/// Returns the folder of a path, even of a bare file name.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn replace(
    path: &Path,
    bytes: &[u8],
    attributes: impl FnOnce(&Path) -> io::Result<FileAttributes>,
) -> Result<(), SecretError> {
    let folder = folder_of(path);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let suffix = data_encoding::HEXLOWER.encode(&random::<6>());
    let temporary = folder.join(format!(".{name}.{suffix}"));
    let written = attributes(folder).and_then(|attributes| write_new(&temporary, bytes, attributes));
    let replaced = written.and_then(|()| durable::rename(&temporary, path));
    if replaced.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    replaced.map_err(|e| SecretError::Io(path.to_owned(), e))
}

fn write_new(path: &Path, bytes: &[u8], attributes: FileAttributes) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    attributes.put_on(&file)?;
    file.write_all(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn a_secret_is_created_once_and_readable_by_the_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("jwt.key");
        let first = read_or_create(&path).unwrap();
        assert_eq!(first.expose_secret().len(), 64);
        assert_eq!(mode(&path), 0o600);
        assert_eq!(read_or_create(&path).unwrap().expose_secret(), first.expose_secret());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn a_replaced_file_keeps_owner_and_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("server.pem");
        write_public(&path, b"first").unwrap();
        assert_eq!(mode(&path), 0o644);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        write_public(&path, b"second").unwrap();
        assert_eq!((mode(&path), fs::read(&path).unwrap()), (0o640, b"second".to_vec()));
        write(&path, b"a secret").unwrap();
        assert_eq!(mode(&path), 0o600, "a secret is never open to others");
        if rustix::process::geteuid().is_root() {
            let owner = |path: &Path| fs::metadata(path).map(|m| (m.uid(), m.gid())).unwrap();
            std::os::unix::fs::chown(&path, Some(65_534), Some(65_534)).unwrap();
            write(&path, b"another").unwrap();
            assert_eq!(owner(&path), (65_534, 65_534));
            std::os::unix::fs::chown(dir.path(), Some(65_534), Some(65_534)).unwrap();
            for (name, expected) in [("new.key", 65_534), ("export.p12", 0)] {
                let path = dir.path().join(name);
                if expected == 0 { write_export(&path, b"x") } else { write(&path, b"x") }.unwrap();
                assert_eq!(owner(&path).0, expected, "{name}");
            }
        }
    }

    #[test]
    fn exposed_empty_and_short_secrets_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("jwt.key");
        write(&path, b" \n").unwrap();
        assert!(matches!(read_or_create(&path), Err(SecretError::Empty(_))));
        write(&path, b"too short").unwrap();
        assert!(matches!(read_or_create(&path), Err(SecretError::Short(_, 9))));
        write(&path, &[b'x'; 40]).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(read_or_create(&path), Err(SecretError::Exposed(_, 0o640))));
    }
}
