//! Syncs and notes what a run writes while it runs.

use std::{
    cell::OnceCell,
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    time::{Duration, Instant},
};

use crc32fast::Hasher;
use tokio_util::sync::CancellationToken;

use super::{
    KEPT, MAX_TRACKED, PartialFiles, WORKING,
    files::{hash, is_fragment, names, regular},
    note::{Note, SyncedPrefix},
};

/// How long the last check may keep reading after the job was stopped.
pub(super) const LAST_READ: Duration = Duration::from_secs(1);

/// Syncs and notes what a run writes while it runs.
pub(crate) struct SyncRecorder {
    pub(super) parts: PartialFiles,
    pub(super) last: Note,
    /// By inode, because yt-dlp renames a file when it is complete.
    pub(super) seen: HashMap<u64, (u64, Hasher)>,
    pub(super) deadline: ReadDeadline,
}

/// Decides how long files are read: until the job is stopped, and for [`LAST_READ`] after that.
pub(super) struct ReadDeadline {
    pub(super) stop: CancellationToken,
    /// When the stop was first noticed.
    pub(super) stopped: OnceCell<Instant>,
}

impl SyncRecorder {
    /// Continues from the `last` note. Files are read until `stop` is cancelled, and a little longer.
    pub(super) fn new(parts: PartialFiles, last: Note, stop: CancellationToken) -> Self {
        Self { parts, last, seen: HashMap::new(), deadline: ReadDeadline { stop, stopped: OnceCell::new() } }
    }

    /// Checks a last time, after the run has ended and nothing writes to the finished file any more.
    pub(crate) fn end(&mut self) -> io::Result<()> {
        self.check()?;
        let finished = self.parts.sync_finished()?;
        if finished != self.last.finished {
            self.last.finished = finished;
            self.last.write(&self.parts.note)?;
        }
        Ok(())
    }

    /// Syncs and notes what was written since the last call.
    pub(crate) fn check(&mut self) -> io::Result<()> {
        let working = self.parts.folder(WORKING)?;
        let mut files = BTreeMap::new();
        let mut seen = HashMap::new();
        for name in names(&working)? {
            let Ok(text) = name.to_str() else { continue };
            if is_fragment(&name) || files.len() == MAX_TRACKED {
                continue;
            }
            if let Some((file, about)) = regular(&working, &name)? {
                if let Some((bytes, hasher)) = self.sync_prefix(&file, &about)? {
                    files.insert(text.to_owned(), SyncedPrefix { bytes, crc32: hasher.clone().finalize() });
                    seen.insert(about.ino(), (bytes, hasher));
                } else if let Some(prefix) = self.last.files.get(text) {
                    // It was not read to its end, but the part noted before may still match.
                    files.insert(text.to_owned(), *prefix);
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
    fn keep_waiting(&self, files: &mut BTreeMap<String, SyncedPrefix>) -> io::Result<()> {
        let kept = self.parts.folder(KEPT)?;
        for name in names(&kept)? {
            let Ok(text) = name.to_str() else { continue };
            if let Some(prefix) =
                self.last.files.get(text).filter(|_| !files.contains_key(text) && files.len() < MAX_TRACKED)
            {
                files.insert(text.to_owned(), *prefix);
            }
        }
        Ok(())
    }

    /// Hashes and syncs a file. Returns `None` if the job was stopped in the meantime.
    fn sync_prefix(&self, file: &File, about: &fs::Metadata) -> io::Result<Option<(u64, Hasher)>> {
        let known = self.seen.get(&about.ino()).filter(|(bytes, _)| *bytes <= about.len());
        let (from, mut hasher) = known.cloned().unwrap_or((0, Hasher::new()));
        let Some(bytes) = hash(file, from, about.len(), &mut hasher, || self.deadline.may_continue())? else {
            return Ok(None);
        };
        file.sync_data()?;
        Ok(Some((bytes, hasher)))
    }
}

impl ReadDeadline {
    fn may_continue(&self) -> bool {
        !self.stop.is_cancelled() || self.stopped.get_or_init(Instant::now).elapsed() < LAST_READ
    }
}
