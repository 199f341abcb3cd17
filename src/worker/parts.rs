//! How much of an unfinished download is on the disk for certain, so that a power cut costs a few seconds and no content.
//!
//! After a power cut a file system may have the length of a file and not its last pages. While a job runs, its files are therefore
//! synced every few seconds, and what was synced is noted beside the folder that the child may write to. The first run after
//! another boot cuts each file back to what the note vouches for, by length and checksum, and removes all others.

use std::{
    collections::{BTreeMap, HashMap},
    ffi::CString,
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{FileExt, MetadataExt},
    },
    path::{Path, PathBuf},
};

use crc32fast::Hasher;
use rustix::{
    fs::{AtFlags, CWD, Dir, Mode, OFlags, mkdirat, openat, renameat, unlinkat},
    io::Errno,
};
use serde::{Deserialize, Serialize};

use crate::secret_file::{self, SecretError};

/// A folder, and no link to one.
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Never waits, whatever a child has put there.
const FILE: OFlags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

/// Where yt-dlp works, and where what it has left waits for the companion of the next run.
pub(super) const WORKING: &str = "tmp";
const KEPT: &str = "kept";

/// Hidden in a unit with `ProcSubset=pid`; then every start counts as another boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// A download has a few files; what is beyond these begins anew.
pub(super) const MOST: usize = 64;
const PIECE: usize = 1 << 20;
const MAX_NOTE: u64 = 64 << 10;

/// Files that grow at their end only, so that a beginning of one is worth something.
const GROWING: [&str; 2] = [".part", ".part.at"];

/// What a job has of its download before this is finished.
#[derive(Clone, Debug)]
pub(crate) struct Parts {
    /// The child's folder.
    work: PathBuf,
    /// Out of its reach.
    note: PathBuf,
}

/// What was synced, and since which boot.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    boot: String,
    files: BTreeMap<String, Held>,
}

/// The beginning of a file that is on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Held {
    bytes: u64,
    crc32: u32,
}

/// Notes what a run has written for as long as it runs.
pub(crate) struct Noting {
    parts: Parts,
    last: Note,
    /// By inode: yt-dlp gives a file another name when it is whole.
    seen: HashMap<u64, (u64, Hasher)>,
}

impl Parts {
    pub(crate) fn new(job: &Path, work: PathBuf) -> Self {
        Self { work, note: job.join("synced.json") }
    }

    /// Readies the files of an earlier run for the next one: they wait aside, where only the companion takes them up, and are cut
    /// back to what is certain where the machine has started since.
    pub(crate) fn begin(&self) -> io::Result<Noting> {
        let kept = self.set_aside()?;
        let (boot, noted) = (boot_id(), Note::read(&self.note));
        let files = if noted.boot == boot && !boot.is_empty() {
            noted.files
        } else {
            self.empty("out")?;
            cut_back(&kept, &noted.files)?
        };
        let last = Note { boot, files };
        last.write(&self.note)?;
        Ok(Noting { parts: self.clone(), last, seen: HashMap::new() })
    }

    fn set_aside(&self) -> io::Result<OwnedFd> {
        let (working, kept) = (self.folder(WORKING)?, self.folder(KEPT)?);
        for name in names(&working)? {
            if is_fragment(&name) {
                unlinkat(&working, &name, AtFlags::empty())?;
            } else if regular(&working, &name)?.is_some() {
                renameat(&working, &name, &kept, &name)?;
            }
        }
        Ok(kept)
    }

    fn empty(&self, folder: &str) -> io::Result<()> {
        let folder = self.folder(folder)?;
        for name in names(&folder)? {
            if regular(&folder, &name)?.is_some() {
                unlinkat(&folder, &name, AtFlags::empty())?;
            }
        }
        Ok(())
    }

    /// Opens one of the child's folders, and nothing that it has put in the place of one.
    pub(super) fn folder(&self, name: &str) -> io::Result<OwnedFd> {
        let work = openat(CWD, &self.work, FOLDER, Mode::empty())?;
        match mkdirat(&work, name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => Ok(openat(&work, name, FOLDER, Mode::empty())?),
            Err(error) => Err(error.into()),
        }
    }
}

impl Noting {
    /// Syncs what was written since the last look, and notes it.
    pub(crate) fn look(&mut self) -> io::Result<()> {
        let working = self.parts.folder(WORKING)?;
        let (mut files, mut seen) = (BTreeMap::new(), HashMap::new());
        for name in names(&working)? {
            let Ok(text) = name.to_str() else { continue };
            if is_fragment(&name) || files.len() == MOST {
                continue;
            }
            if let Some((file, about)) = regular(&working, &name)? {
                let (bytes, hasher) = self.held(&file, &about)?;
                files.insert(text.to_owned(), Held { bytes, crc32: hasher.clone().finalize() });
                seen.insert(about.ino(), (bytes, hasher));
            }
        }
        self.seen = seen;
        if files != self.last.files {
            self.last.files = files;
            self.last.write(&self.parts.note)?;
        }
        Ok(())
    }

    fn held(&self, file: &File, about: &fs::Metadata) -> io::Result<(u64, Hasher)> {
        let known = self.seen.get(&about.ino()).filter(|(bytes, _)| *bytes <= about.len());
        let (from, mut hasher) = known.cloned().unwrap_or((0, Hasher::new()));
        let bytes = hash(file, from, about.len(), &mut hasher)?;
        file.sync_data()?;
        Ok((bytes, hasher))
    }
}

impl Note {
    /// One that is missing or torn vouches for nothing.
    fn read(path: &Path) -> Self {
        let small = fs::symlink_metadata(path).is_ok_and(|about| about.is_file() && about.len() <= MAX_NOTE);
        let text = if small { fs::read(path).ok() } else { None };
        text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        let text = serde_json::to_vec(self)?;
        secret_file::write(path, &text).map_err(|error| match error {
            SecretError::Io(_, error) => error,
            other => io::Error::other(other),
        })
    }
}

/// Cuts each file to what was noted of it, and removes what was not, or is another now.
fn cut_back(folder: &OwnedFd, noted: &BTreeMap<String, Held>) -> io::Result<BTreeMap<String, Held>> {
    let mut certain = BTreeMap::new();
    for name in names(folder)? {
        let held = name.to_str().ok().and_then(|text| Some((text, *noted.get(text)?)));
        match held {
            Some((text, held)) if cut(folder, &name, text, held)? => {
                certain.insert(text.to_owned(), held);
            }
            _ => drop(unlinkat(folder, &name, AtFlags::empty())),
        }
    }
    Ok(certain)
}

/// False where the file is not what was noted.
fn cut(folder: &OwnedFd, name: &CString, text: &str, held: Held) -> io::Result<bool> {
    let Some((file, about)) = regular(folder, name)? else { return Ok(false) };
    let grows = GROWING.iter().any(|ending| text.ends_with(ending));
    let long_enough = if grows { about.len() >= held.bytes } else { about.len() == held.bytes };
    let mut hasher = Hasher::new();
    if !long_enough || hash(&file, 0, held.bytes, &mut hasher)? != held.bytes || hasher.finalize() != held.crc32 {
        return Ok(false);
    }
    if about.len() > held.bytes {
        let file = File::from(openat(folder, name, FILE | OFlags::WRONLY, Mode::empty())?);
        file.set_len(held.bytes)?;
        file.sync_all()?;
    }
    Ok(true)
}

/// Adds what is between two places of a file; how far it came.
fn hash(file: &File, from: u64, to: u64, hasher: &mut Hasher) -> io::Result<u64> {
    let (mut at, mut piece) = (from, vec![0; PIECE]);
    while at < to {
        let most = usize::try_from(to - at).unwrap_or(PIECE).min(PIECE);
        let read = file.read_at(piece.get_mut(..most).unwrap_or_default(), at)?;
        if read == 0 {
            break;
        }
        hasher.update(piece.get(..read).unwrap_or_default());
        at += read as u64;
    }
    Ok(at)
}

/// A regular file that has no other name; none for what is not, or not any more.
pub(super) fn regular(folder: impl AsFd, name: &CString) -> io::Result<Option<(File, fs::Metadata)>> {
    let file = match openat(folder, name, FILE | OFlags::RDONLY, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT | Errno::LOOP | Errno::NXIO | Errno::ACCESS) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let about = file.metadata()?;
    Ok((about.is_file() && about.nlink() == 1).then_some((file, about)))
}

/// What yt-dlp removes as soon as it is part of a larger file.
pub(super) fn is_fragment(name: &CString) -> bool {
    name.to_bytes().windows(5).any(|part| part == b"-Frag")
}

pub(super) fn names(folder: &OwnedFd) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let name = entry?.file_name().to_owned();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(name);
        }
    }
    Ok(names)
}

fn boot_id() -> String {
    fs::read_to_string(BOOT_ID).map(|id| id.trim().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> (tempfile::TempDir, Parts) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("work/tmp")).unwrap();
        let parts = Parts::new(dir.path(), dir.path().join("work"));
        (dir, parts)
    }

    fn left(dir: &Path) -> BTreeMap<String, String> {
        let files = fs::read_dir(dir.join("work/kept")).unwrap().flatten();
        files.map(|e| (e.file_name().into_string().unwrap(), fs::read_to_string(e.path()).unwrap())).collect()
    }

    /// As if the machine had started since.
    fn reboot(dir: &Path) {
        let path = dir.join("synced.json");
        let note = Note { boot: "another".into(), ..Note::read(&path) };
        note.write(&path).unwrap();
    }

    #[test]
    fn after_another_boot_only_what_was_noted_is_left() {
        let (dir, parts) = job();
        let tmp = dir.path().join("work/tmp");
        let mut noting = parts.begin().unwrap();
        for name in ["a.part", "changed.part", "whole.mp4", "rewritten.mp4", "short.part", "a.part-Frag3"] {
            fs::write(tmp.join(name), "synced").unwrap();
        }
        noting.look().unwrap();
        fs::write(tmp.join("a.part"), "synced, and more").unwrap();
        fs::write(tmp.join("changed.part"), "\0\0\0\0\0\0\0\0\0").unwrap();
        fs::write(tmp.join("rewritten.mp4"), "other!").unwrap();
        fs::write(tmp.join("short.part"), "syn").unwrap();
        fs::write(tmp.join("late.part"), "never noted").unwrap();
        fs::write(dir.path().join("work/out-of-place"), "").unwrap();
        reboot(dir.path());
        parts.begin().unwrap();
        let expected = [("a.part", "synced"), ("whole.mp4", "synced")].map(|(name, text)| (name.into(), text.into()));
        assert_eq!(left(dir.path()), expected.into());
    }

    #[test]
    fn after_a_kill_everything_is_left_but_single_fragments() {
        let (dir, parts) = job();
        let tmp = dir.path().join("work/tmp");
        let mut noting = parts.begin().unwrap();
        fs::write(tmp.join("a.part"), "one").unwrap();
        noting.look().unwrap();
        fs::write(tmp.join("a.part"), "one two").unwrap();
        fs::write(tmp.join("a.part-Frag3"), "x").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", tmp.join("link.part")).unwrap();
        parts.begin().unwrap();
        assert_eq!(left(dir.path()), [("a.part".into(), "one two".into())].into());
    }

    #[test]
    fn a_note_that_is_missing_or_torn_vouches_for_nothing() {
        for note in [None, Some("{\"boot\":\"x\",\"fil"), Some("\0\0\0\0")] {
            let (dir, parts) = job();
            if let Some(note) = note {
                fs::write(dir.path().join("synced.json"), note).unwrap();
            }
            fs::write(dir.path().join("work/tmp/a.part"), "one").unwrap();
            parts.begin().unwrap();
            assert_eq!(left(dir.path()), BTreeMap::new(), "{note:?}");
        }
    }

    #[test]
    fn a_growing_file_is_read_once_and_a_new_one_from_its_beginning() {
        let (dir, parts) = job();
        let path = dir.path().join("work/tmp/a.part");
        let mut noting = parts.begin().unwrap();
        for text in ["one", "one two", "one two three"] {
            // As yt-dlp writes: the same file, longer.
            fs::write(&path, text).unwrap();
            noting.look().unwrap();
            let held = noting.last.files["a.part"];
            assert_eq!(held, Held { bytes: text.len() as u64, crc32: crc32fast::hash(text.as_bytes()) });
        }
        fs::write(&path, "new").unwrap();
        noting.look().unwrap();
        assert_eq!(noting.last.files["a.part"], Held { bytes: 3, crc32: crc32fast::hash(b"new") });
    }

    #[test]
    fn a_folder_that_a_child_has_put_elsewhere_is_not_followed() {
        let (dir, parts) = job();
        let other = dir.path().join("other");
        fs::create_dir(&other).unwrap();
        fs::write(other.join("mine.part"), "mine").unwrap();
        fs::remove_dir(dir.path().join("work/tmp")).unwrap();
        std::os::unix::fs::symlink(&other, dir.path().join("work/tmp")).unwrap();
        assert!(parts.begin().is_err());
        assert!(other.join("mine.part").exists());
    }
}
