//! Notices a job that neither says a word nor writes a byte.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep},
};

use super::written::Written;

/// How often it is looked within the longest silence.
const LOOKS: u32 = 8;

/// The silence of one job, by a clock that nobody sets.
pub(crate) struct Quiet {
    longest: Duration,
    folder: PathBuf,
    heard: Instant,
    written: Option<Written>,
}

impl Quiet {
    pub(crate) fn new(longest: Duration, folder: &Path) -> Self {
        Self { longest, folder: folder.to_owned(), heard: Instant::now(), written: None }
    }

    /// A line came.
    pub(crate) fn heard(&mut self) {
        self.heard = Instant::now();
    }

    /// Waits until no line has come and nothing was written for too long. ffmpeg works without a word.
    pub(crate) async fn stalled(&mut self) {
        while self.heard.elapsed() < self.longest {
            sleep(self.longest / LOOKS).await;
            let folder = self.folder.clone();
            let written = spawn_blocking(move || Written::in_folder(&folder).ok()).await.ok().flatten();
            if written != self.written {
                self.written = written;
                self.heard();
            }
        }
    }
}
