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
const CHECKS: u32 = 8;

/// The stall detector of one job, on a monotonic clock.
pub(super) struct StallWatchdog {
    longest: Duration,
    folder: PathBuf,
    last_activity: Instant,
    last_usage: Option<DiskUsage>,
}

impl StallWatchdog {
    pub(super) fn new(longest: Duration, folder: &Path) -> Self {
        Self { longest, folder: folder.to_owned(), last_activity: Instant::now(), last_usage: None }
    }

    /// Notes that the child printed a line.
    pub(super) fn record_activity(&mut self) {
        self.last_activity = Instant::now();
    }

    /// Waits until nothing has been printed or written for too long. Files count because ffmpeg prints nothing while it works.
    pub(super) async fn stalled(&mut self) {
        while self.last_activity.elapsed() < self.longest {
            sleep(self.longest / CHECKS).await;
            let folder = self.folder.clone();
            let usage = spawn_blocking(move || DiskUsage::in_folder(&folder).ok()).await.ok().flatten();
            if usage != self.last_usage {
                self.last_usage = usage;
                self.record_activity();
            }
        }
    }
}
