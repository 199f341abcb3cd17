//! Notices a job that neither says a word nor writes a byte.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep},
};

/// A job's folders are few and not deep.
const MAX_DEPTH: u8 = 3;

/// The silence of one job.
pub(crate) struct Quiet {
    longest: Duration,
    folder: PathBuf,
    heard: Instant,
}

impl Quiet {
    pub(crate) fn new(longest: Duration, folder: &Path) -> Self {
        Self { longest, folder: folder.to_owned(), heard: Instant::now() }
    }

    /// A line came.
    pub(crate) fn heard(&mut self) {
        self.heard = Instant::now();
    }

    /// Waits until no line has come and no byte was written for too long. ffmpeg works without a word.
    pub(crate) async fn stalled(&self) {
        let mut silence = self.heard.elapsed();
        while silence < self.longest {
            sleep(self.longest.saturating_sub(silence)).await;
            let folder = self.folder.clone();
            let written = spawn_blocking(move || last_write(&folder, MAX_DEPTH)).await.ok().flatten();
            silence = written.map_or(Duration::MAX, |ago| ago.min(self.heard.elapsed()));
        }
    }
}

/// How long ago; none where nothing was written, or the clock was set back since.
fn last_write(folder: &Path, depth: u8) -> Option<Duration> {
    let entries = fs::read_dir(folder).ok()?.flatten();
    let writes = entries.filter_map(|entry| {
        let about = entry.metadata().ok()?;
        if about.is_dir() && depth > 0 {
            last_write(&entry.path(), depth - 1)
        } else {
            about.modified().ok()?.elapsed().ok()
        }
    });
    writes.min()
}
