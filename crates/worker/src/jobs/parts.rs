//! Tracks how much of an unfinished download is safely on disk, so that a power cut costs a few seconds of download but never corrupts
//! content.
//!
//! After a power cut, a file system may have kept the length of a file but not its last pages. While a job runs, its files are therefore
//! synced every few seconds, and the synced length and checksum are noted next to the folder that the child can write to. After a reboot,
//! the first run truncates each file to its noted length, if the checksum matches, and removes all others. A finished file is complete
//! and synced when it is noted, so its length is sufficient.

use std::{
    cell::OnceCell,
    collections::{BTreeMap, HashMap},
    env,
    ffi::CString,
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{FileExt, MetadataExt},
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crc32fast::Hasher;
use rustix::{
    fs::{AtFlags, CWD, Dir, Mode, OFlags, fsync, mkdirat, openat, renameat, unlinkat},
    io::Errno,
};
use sallyport_core::secrets::secret_file::{self, SecretError};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

/// Flags that open a folder, but never a symbolic link to one.
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Flags that open a file without ever blocking, whatever a child has put there.
const FILE: OFlags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

/// The folders for partial files, for those that wait for the companion of the next run, and for the finished file.
pub(crate) const WORKING: &str = "tmp";
const KEPT: &str = "kept";
const OUT: &str = "out";

/// Identifies the boot. A unit with `ProcSubset=pid` hides the file and sets the variable instead.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const BOOT_ID_OF_UNIT: &str = "UNIT_BOOT_ID";

/// How long the last check may keep reading after the job was stopped.
const LAST_READ: Duration = Duration::from_secs(1);

/// The most files that are tracked. A download has only a few; any beyond the limit are downloaded again.
pub(crate) const MOST: usize = 64;
const PIECE: usize = 1 << 20;
const MAX_NOTE: u64 = 64 << 10;

/// Files that only grow at their end, so that a truncated one is still useful.
const GROWING: [&str; 2] = [".part", ".part.at"];

/// The partial files of a job.
#[derive(Clone, Debug)]
pub(crate) struct Parts {
    /// The folder that the child can write to.
    work: PathBuf,
    /// The note, which the child cannot reach.
    note: PathBuf,
}

/// The synced files, and the boot in which they were written.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    boot: String,
    files: BTreeMap<String, Held>,
    /// The finished files and their lengths in bytes.
    #[serde(default)]
    finished: BTreeMap<String, u64>,
}

/// The part of a file, from its beginning, that is safely on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Held {
    bytes: u64,
    crc32: u32,
}

/// Syncs and notes what a run writes while it runs.
pub(crate) struct Noting {
    parts: Parts,
    last: Note,
    /// By inode, because yt-dlp renames a file when it is complete.
    seen: HashMap<u64, (u64, Hasher)>,
    reading: Reading,
}

/// Decides how long files are read: until the job is stopped, and for [`LAST_READ`] after that.
struct Reading {
    stop: CancellationToken,
    /// When the stop was first noticed.
    stopped: OnceCell<Instant>,
}

impl Parts {
    /// Returns the parts in `work`, whose note is at `note`.
    pub(crate) fn new(work: PathBuf, note: PathBuf) -> Self {
        Self { work, note }
    }

    /// Prepares the files of an earlier run for the next one: sets them aside, where only the companion picks them up, and truncates them
    /// to what is safely on disk if the machine has rebooted since. Returns `None` if `stop` is cancelled before that is done.
    pub(crate) fn begin(&self, stop: &CancellationToken) -> io::Result<Option<Noting>> {
        let kept = self.set_aside()?;
        let (boot, noted) = (boot_id(), Note::read(&self.note));
        let last = if noted.boot == boot && !boot.is_empty() {
            noted
        } else {
            let finished = self.keep_finished(&noted.finished)?;
            let Some(files) = cut_back(&kept, &noted.files, || !stop.is_cancelled())? else { return Ok(None) };
            Note { boot, files, finished }
        };
        last.write(&self.note)?;
        let reading = Reading { stop: stop.clone(), stopped: OnceCell::new() };
        Ok(Some(Noting { parts: self.clone(), last, seen: HashMap::new(), reading }))
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

    /// Removes the finished files that do not match their note, and returns the others.
    fn keep_finished(&self, noted: &BTreeMap<String, u64>) -> io::Result<BTreeMap<String, u64>> {
        let (out, mut finished) = (self.folder(OUT)?, BTreeMap::new());
        for name in names(&out)? {
            let Some((_, about)) = regular(&out, &name)? else { continue };
            if let Ok(text) = name.to_str()
                && noted.get(text) == Some(&about.len())
            {
                finished.insert(text.to_owned(), about.len());
            } else {
                unlinkat(&out, &name, AtFlags::empty())?;
            }
        }
        Ok(finished)
    }

    /// Syncs the finished files and returns their lengths.
    fn sync_finished(&self) -> io::Result<BTreeMap<String, u64>> {
        let (out, mut finished) = (self.folder(OUT)?, BTreeMap::new());
        for name in names(&out)?.iter().take(MOST) {
            if let (Ok(text), Some((file, about))) = (name.to_str(), regular(&out, name)?) {
                file.sync_all()?;
                finished.insert(text.to_owned(), about.len());
            }
        }
        fsync(&out)?;
        Ok(finished)
    }

    /// Opens one of the child's folders. Fails if the child has replaced it with something else.
    pub(crate) fn folder(&self, name: &str) -> io::Result<OwnedFd> {
        let work = openat(CWD, &self.work, FOLDER, Mode::empty())?;
        match mkdirat(&work, name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => Ok(openat(&work, name, FOLDER, Mode::empty())?),
            Err(error) => Err(error.into()),
        }
    }
}

impl Noting {
    /// Checks a last time, after the run has ended and nothing writes to the finished file any more.
    pub(crate) fn end(&mut self) -> io::Result<()> {
        self.look()?;
        let finished = self.parts.sync_finished()?;
        if finished != self.last.finished {
            self.last.finished = finished;
            self.last.write(&self.parts.note)?;
        }
        Ok(())
    }

    /// Syncs and notes what was written since the last call.
    pub(crate) fn look(&mut self) -> io::Result<()> {
        let working = self.parts.folder(WORKING)?;
        let (mut files, mut seen) = (BTreeMap::new(), HashMap::new());
        for name in names(&working)? {
            let Ok(text) = name.to_str() else { continue };
            if is_fragment(&name) || files.len() == MOST {
                continue;
            }
            if let Some((file, about)) = regular(&working, &name)? {
                if let Some((bytes, hasher)) = self.held(&file, &about)? {
                    files.insert(text.to_owned(), Held { bytes, crc32: hasher.clone().finalize() });
                    seen.insert(about.ino(), (bytes, hasher));
                } else if let Some(held) = self.last.files.get(text) {
                    // It was not read to its end, but the part noted before may still match.
                    files.insert(text.to_owned(), *held);
                }
            }
        }
        self.keep_waiting(&mut files)?;
        self.seen = seen;
        if files != self.last.files {
            self.last.files = files;
            self.last.write(&self.parts.note)?;
        }
        Ok(())
    }

    /// Keeps the notes of files that the companion has not picked up yet, because a run may end before it does.
    fn keep_waiting(&self, files: &mut BTreeMap<String, Held>) -> io::Result<()> {
        let kept = self.parts.folder(KEPT)?;
        for name in names(&kept)? {
            let Ok(text) = name.to_str() else { continue };
            if let Some(held) = self.last.files.get(text).filter(|_| !files.contains_key(text) && files.len() < MOST) {
                files.insert(text.to_owned(), *held);
            }
        }
        Ok(())
    }

    /// Hashes and syncs a file. Returns `None` if the job was stopped in the meantime.
    fn held(&self, file: &File, about: &fs::Metadata) -> io::Result<Option<(u64, Hasher)>> {
        let known = self.seen.get(&about.ino()).filter(|(bytes, _)| *bytes <= about.len());
        let (from, mut hasher) = known.cloned().unwrap_or((0, Hasher::new()));
        let Some(bytes) = hash(file, from, about.len(), &mut hasher, || self.reading.goes_on())? else {
            return Ok(None);
        };
        file.sync_data()?;
        Ok(Some((bytes, hasher)))
    }
}

impl Reading {
    fn goes_on(&self) -> bool {
        !self.stop.is_cancelled() || self.stopped.get_or_init(Instant::now).elapsed() < LAST_READ
    }
}

impl Note {
    /// Reads the note. A missing or damaged one counts as empty.
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

/// Truncates each file to its noted length, and removes files that were not noted or do not match. Returns `None` if stopped.
fn cut_back(
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

/// The result of comparing a file with its note.
enum Checked {
    Holds,
    Another,
    /// The check was stopped before it finished.
    Stopped,
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

/// Adds the bytes from `from` to `to` of a file to `hasher`. Returns the position reached, or `None` if stopped.
fn hash(file: &File, from: u64, to: u64, hasher: &mut Hasher, goes_on: impl Fn() -> bool) -> io::Result<Option<u64>> {
    let (mut at, mut piece) = (from, vec![0; PIECE]);
    while at < to {
        if !goes_on() {
            return Ok(None);
        }
        let most = usize::try_from(to - at).unwrap_or(PIECE).min(PIECE);
        let read = file.read_at(piece.get_mut(..most).unwrap_or_default(), at)?;
        if read == 0 {
            break;
        }
        hasher.update(piece.get(..read).unwrap_or_default());
        at += read as u64;
    }
    Ok(Some(at))
}

/// Opens a regular file that has no other name. Returns `None` for anything else, and if it no longer exists.
pub(crate) fn regular(folder: impl AsFd, name: &CString) -> io::Result<Option<(File, fs::Metadata)>> {
    let file = match openat(folder, name, FILE | OFlags::RDONLY, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT | Errno::LOOP | Errno::NXIO | Errno::ACCESS) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let about = file.metadata()?;
    Ok((about.is_file() && about.nlink() == 1).then_some((file, about)))
}

/// Returns true for a fragment, which yt-dlp removes once it is part of a larger file.
pub(crate) fn is_fragment(name: &CString) -> bool {
    name.to_bytes().windows(5).any(|part| part == b"-Frag")
}

pub(crate) fn names(folder: &OwnedFd) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let name = entry?.file_name().to_owned();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(name);
        }
    }
    Ok(names)
}

/// Returns the id of this boot. It is empty if neither the kernel nor the unit provides one; every start then counts as another boot.
fn boot_id() -> String {
    let id = fs::read_to_string(BOOT_ID).ok().or_else(|| env::var(BOOT_ID_OF_UNIT).ok());
    id.map(|id| id.trim().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> (tempfile::TempDir, Parts) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("work/tmp")).unwrap();
        let parts = Parts::new(dir.path().join("work"), dir.path().join("synced.json"));
        (dir, parts)
    }

    fn begin(parts: &Parts) -> Noting {
        parts.begin(&CancellationToken::new()).unwrap().unwrap()
    }

    fn left(dir: &Path) -> BTreeMap<String, String> {
        let files = fs::read_dir(dir.join("work/kept")).unwrap().flatten();
        files.map(|e| (e.file_name().into_string().unwrap(), fs::read_to_string(e.path()).unwrap())).collect()
    }

    /// Simulates a reboot.
    fn reboot(dir: &Path) {
        let path = dir.join("synced.json");
        let note = Note { boot: "another".into(), ..Note::read(&path) };
        note.write(&path).unwrap();
    }

    #[test]
    fn after_a_reboot_only_noted_content_is_left() {
        let (dir, parts) = job();
        let tmp = dir.path().join("work/tmp");
        let mut noting = begin(&parts);
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
        begin(&parts);
        let expected = [("a.part", "synced"), ("whole.mp4", "synced")].map(|(name, text)| (name.into(), text.into()));
        assert_eq!(left(dir.path()), expected.into());
    }

    #[test]
    fn after_a_kill_everything_is_left_except_single_fragments() {
        let (dir, parts) = job();
        let tmp = dir.path().join("work/tmp");
        let mut noting = begin(&parts);
        fs::write(tmp.join("a.part"), "one").unwrap();
        noting.look().unwrap();
        fs::write(tmp.join("a.part"), "one two").unwrap();
        fs::write(tmp.join("a.part-Frag3"), "x").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", tmp.join("link.part")).unwrap();
        begin(&parts);
        assert_eq!(left(dir.path()), [("a.part".into(), "one two".into())].into());
    }

    #[test]
    fn files_that_the_companion_has_not_picked_up_stay_noted() {
        let (dir, parts) = job();
        fs::write(dir.path().join("work/tmp/a.part"), "one").unwrap();
        begin(&parts).look().unwrap();
        let mut noting = begin(&parts);
        assert_eq!(left(dir.path()).len(), 0, "it was never noted");
        fs::write(dir.path().join("work/tmp/a.part"), "one").unwrap();
        noting.look().unwrap();
        // This run ends before yt-dlp has loaded the companion.
        let mut noting = begin(&parts);
        noting.end().unwrap();
        reboot(dir.path());
        begin(&parts);
        assert_eq!(left(dir.path()), [("a.part".into(), "one".into())].into());
    }

    #[test]
    fn a_finished_file_survives_a_reboot_if_it_was_synced_at_the_end_of_its_run() {
        let (dir, parts) = job();
        let out = dir.path().join("work/out");
        let mut noting = begin(&parts);
        for name in ["media.mp4", "longer.mp4"] {
            fs::write(out.join(name), "whole").unwrap();
        }
        noting.end().unwrap();
        fs::write(out.join("longer.mp4"), "whole, and more").unwrap();
        fs::write(out.join("late.mp4"), "whole").unwrap();
        for _ in 0..2 {
            reboot(dir.path());
            begin(&parts);
        }
        let names: Vec<_> = fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["media.mp4"]);
    }

    #[test]
    fn a_job_that_is_stopped_reads_no_further_and_loses_nothing() {
        let (dir, parts) = job();
        let path = dir.path().join("work/tmp/a.part");
        let mut noting = begin(&parts);
        fs::write(&path, "one").unwrap();
        noting.look().unwrap();
        let noted = noting.last.files["a.part"];
        fs::write(&path, "one two").unwrap();
        noting.reading.stop.cancel();
        noting.reading.stopped = Instant::now().checked_sub(LAST_READ).unwrap().into();
        noting.end().unwrap();
        assert_eq!(Note::read(&parts.note).files["a.part"], noted, "as noted before");
        reboot(dir.path());
        let stopped = CancellationToken::new();
        stopped.cancel();
        assert!(parts.begin(&stopped).unwrap().is_none());
        assert_eq!(left(dir.path()), [("a.part".into(), "one two".into())].into());
        begin(&parts);
        assert_eq!(left(dir.path()), [("a.part".into(), "one".into())].into());
    }

    #[test]
    fn the_last_bytes_are_noted_even_though_the_job_is_stopped() {
        let (dir, parts) = job();
        let mut noting = begin(&parts);
        fs::write(dir.path().join("work/tmp/a.part"), "one").unwrap();
        noting.reading.stop.cancel();
        noting.end().unwrap();
        assert_eq!(noting.last.files["a.part"].bytes, 3);
    }

    #[test]
    fn the_unit_provides_the_boot_id_where_the_kernels_is_hidden() {
        let unit = include_str!("../../../../systemd/sallyport-worker.service");
        assert!(unit.contains(&format!("\nEnvironment={BOOT_ID_OF_UNIT}=%b\n")) && unit.contains("\nProcSubset=pid\n"));
    }

    #[test]
    fn a_missing_or_damaged_note_counts_as_empty() {
        for note in [None, Some("{\"boot\":\"x\",\"fil"), Some("\0\0\0\0")] {
            let (dir, parts) = job();
            if let Some(note) = note {
                fs::write(dir.path().join("synced.json"), note).unwrap();
            }
            fs::write(dir.path().join("work/tmp/a.part"), "one").unwrap();
            begin(&parts);
            assert_eq!(left(dir.path()), BTreeMap::new(), "{note:?}");
        }
    }

    #[test]
    fn a_growing_file_is_read_once_and_a_new_one_from_its_beginning() {
        let (dir, parts) = job();
        let path = dir.path().join("work/tmp/a.part");
        let mut noting = begin(&parts);
        for text in ["one", "one two", "one two three"] {
            // As yt-dlp does: the same file grows.
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
    fn a_folder_that_a_child_has_replaced_by_a_link_is_not_followed() {
        let (dir, parts) = job();
        let other = dir.path().join("other");
        fs::create_dir(&other).unwrap();
        fs::write(other.join("mine.part"), "mine").unwrap();
        fs::remove_dir(dir.path().join("work/tmp")).unwrap();
        std::os::unix::fs::symlink(&other, dir.path().join("work/tmp")).unwrap();
        assert!(parts.begin(&CancellationToken::new()).is_err());
        assert!(other.join("mine.part").exists());
    }
}
