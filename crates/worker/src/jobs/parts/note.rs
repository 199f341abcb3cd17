//! The note of what is safely on disk, which the child cannot reach.

use std::{collections::BTreeMap, env, fs, io, path::Path};

use sallyport_core::secrets::secret_file::{self, SecretError};
use serde::{Deserialize, Serialize};

/// Identifies the boot. A unit with `ProcSubset=pid` hides the file and sets the variable instead.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
pub(super) const BOOT_ID_OF_UNIT: &str = "UNIT_BOOT_ID";

/// In bytes.
const MAX_NOTE: u64 = 64 << 10;

/// The synced files, and the boot in which they were written.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    pub(super) boot: String,
    pub(super) files: BTreeMap<String, SyncedPrefix>,
    /// The finished files and their lengths in bytes.
    #[serde(default)]
    pub(super) finished: BTreeMap<String, u64>,
}

/// The part of a file, from its beginning, that is safely on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SyncedPrefix {
    pub(super) bytes: u64,
    pub(super) crc32: u32,
}

impl Note {
    /// Reads the note. A missing or damaged one counts as empty.
    pub(super) fn read(path: &Path) -> Self {
        let small = fs::symlink_metadata(path).is_ok_and(|about| about.is_file() && about.len() <= MAX_NOTE);
        let text = if small { fs::read(path).ok() } else { None };
        text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }

    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        let text = serde_json::to_vec(self)?;
        secret_file::write(path, &text).map_err(|error| match error {
            SecretError::Io(_, error) => error,
            other => io::Error::other(other),
        })
    }
}

/// Returns the id of this boot. It is empty if neither the kernel nor the unit provides one; every start then counts as another boot.
pub(super) fn boot_id() -> String {
    let id = fs::read_to_string(BOOT_ID).ok().or_else(|| env::var(BOOT_ID_OF_UNIT).ok());
    id.map(|id| id.trim().to_owned()).unwrap_or_default()
}
