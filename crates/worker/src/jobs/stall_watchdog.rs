//! Detects a stalled job, which neither prints a line nor writes a byte.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep},
};

use crate::disk::usage::DiskUsage;

/// How many times the files are checked within the longest allowed silence.
const LOOKS: u32 = 8;

/// The stall detector of one job, on a monotonic clock.
pub(super) struct StallWatchdog {
    longest: Duration,
    folder: PathBuf,
    heard: Instant,
    written: Option<DiskUsage>,
}

impl StallWatchdog {
    pub(super) fn new(longest: Duration, folder: &Path) -> Self {
        Self { longest, folder: folder.to_owned(), heard: Instant::now(), written: None }
    }

    /// Notes that the child printed a line.
    pub(super) fn heard(&mut self) {
        self.heard = Instant::now();
    }

    /// Waits until nothing has been printed or written for too long. Files count because ffmpeg prints nothing while it works.
    pub(super) async fn stalled(&mut self) {
        while self.heard.elapsed() < self.longest {
            sleep(self.longest / LOOKS).await;
            let folder = self.folder.clone();
            let written = spawn_blocking(move || DiskUsage::in_folder(&folder).ok()).await.ok().flatten();
            if written != self.written {
                self.written = written;
                self.heard();
            }
        }
    }
}
