//! Truncates files to what is safely on disk, after the machine has rebooted.

use std::{collections::BTreeMap, ffi::CString, fs::File, io, os::fd::OwnedFd};

use crc32fast::Hasher;
use rustix::fs::{AtFlags, Mode, OFlags, openat, unlinkat};

use super::{
    files::{FILE, hash, names, regular},
    note::SyncedPrefix,
};

/// Files that only grow at their end, so that a truncated one is still useful.
const GROWING: [&str; 2] = [".part", ".part.at"];

/// The result of comparing a file with its note.
enum PrefixCheck {
    Matches,
    Differs,
    /// The check was stopped before it finished.
    Stopped,
}

/// Truncates each file to its noted length, and removes files that were not noted or do not match. Returns `None` if stopped.
pub(super) fn cut_back(
    folder: &OwnedFd,
    noted: &BTreeMap<String, SyncedPrefix>,
    may_continue: impl Fn() -> bool,
) -> io::Result<Option<BTreeMap<String, SyncedPrefix>>> {
    let mut certain = BTreeMap::new();
    for name in names(folder)? {
        let prefix = name.to_str().ok().and_then(|text| Some((text, *noted.get(text)?)));
        let checked = match prefix {
            Some((text, prefix)) => cut(folder, &name, text, prefix, &may_continue)?,
            None => PrefixCheck::Differs,
        };
        match (checked, prefix) {
            (PrefixCheck::Stopped, _) => return Ok(None),
            (PrefixCheck::Matches, Some((text, prefix))) => {
                certain.insert(text.to_owned(), prefix);
            }
            (PrefixCheck::Matches | PrefixCheck::Differs, _) => drop(unlinkat(folder, &name, AtFlags::empty())),
        }
    }
    Ok(Some(certain))
}

fn cut(
    folder: &OwnedFd,
    name: &CString,
    text: &str,
    prefix: SyncedPrefix,
    may_continue: impl Fn() -> bool,
) -> io::Result<PrefixCheck> {
    let Some((file, about)) = regular(folder, name)? else { return Ok(PrefixCheck::Differs) };
    let grows = GROWING.iter().any(|ending| text.ends_with(ending));
    let long_enough = if grows { about.len() >= prefix.bytes } else { about.len() == prefix.bytes };
    let mut hasher = Hasher::new();
    if !long_enough {
        return Ok(PrefixCheck::Differs);
    }
    let Some(read) = hash(&file, 0, prefix.bytes, &mut hasher, may_continue)? else { return Ok(PrefixCheck::Stopped) };
    if read != prefix.bytes || hasher.finalize() != prefix.crc32 {
        return Ok(PrefixCheck::Differs);
    }
    if about.len() > prefix.bytes {
        let file = File::from(openat(folder, name, FILE | OFlags::WRONLY, Mode::empty())?);
        file.set_len(prefix.bytes)?;
        file.sync_all()?;
    }
    Ok(PrefixCheck::Matches)
}
