//! Truncates files to what is safely on disk, after the machine has rebooted.

use std::{collections::BTreeMap, ffi::CString, fs::File, io, os::fd::OwnedFd};

use crc32fast::Hasher;
use rustix::fs::{AtFlags, Mode, OFlags, openat, unlinkat};

use super::{
    files::{FILE, hash, names, regular},
    note::Held,
};

/// Files that only grow at their end, so that a truncated one is still useful.
const GROWING: [&str; 2] = [".part", ".part.at"];

/// The result of comparing a file with its note.
enum Checked {
    Holds,
    Another,
    /// The check was stopped before it finished.
    Stopped,
}

/// Truncates each file to its noted length, and removes files that were not noted or do not match. Returns `None` if stopped.
pub(super) fn cut_back(
    folder: &OwnedFd,
    noted: &BTreeMap<String, Held>,
    goes_on: impl Fn() -> bool,
) -> io::Result<Option<BTreeMap<String, Held>>> {
    let mut certain = BTreeMap::new();
    for name in names(folder)? {
        let held = name.to_str().ok().and_then(|text| Some((text, *noted.get(text)?)));
        let checked = match held {
            Some((text, held)) => cut(folder, &name, text, held, &goes_on)?,
            None => Checked::Another,
        };
        match (checked, held) {
            (Checked::Stopped, _) => return Ok(None),
            (Checked::Holds, Some((text, held))) => {
                certain.insert(text.to_owned(), held);
            }
            (Checked::Holds | Checked::Another, _) => drop(unlinkat(folder, &name, AtFlags::empty())),
        }
    }
    Ok(Some(certain))
}

fn cut(folder: &OwnedFd, name: &CString, text: &str, held: Held, goes_on: impl Fn() -> bool) -> io::Result<Checked> {
    let Some((file, about)) = regular(folder, name)? else { return Ok(Checked::Another) };
    let grows = GROWING.iter().any(|ending| text.ends_with(ending));
    let long_enough = if grows { about.len() >= held.bytes } else { about.len() == held.bytes };
    let mut hasher = Hasher::new();
    if !long_enough {
        return Ok(Checked::Another);
    }
    let Some(read) = hash(&file, 0, held.bytes, &mut hasher, goes_on)? else { return Ok(Checked::Stopped) };
    if read != held.bytes || hasher.finalize() != held.crc32 {
        return Ok(Checked::Another);
    }
    if about.len() > held.bytes {
        let file = File::from(openat(folder, name, FILE | OFlags::WRONLY, Mode::empty())?);
        file.set_len(held.bytes)?;
        file.sync_all()?;
    }
    Ok(Checked::Holds)
}
