//! Watches the files of a run: ends the run early if they are not media, and syncs and notes what was written.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::sleep,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    beginnings::Beginnings,
    failure::Failure,
    parts::{PartialFiles, SyncRecorder},
};

/// The interval between two checks of the first bytes.
const INTERVAL: Duration = Duration::from_millis(500);

/// The number of checks per sync. A power cut costs at most five seconds of download.
const CHECKS_PER_SYNC: u32 = 10;

/// The watch over a run; dropping it ends the watch.
pub(super) struct FileWatch {
    failure: JoinHandle<Failure>,
    stop: DropGuard,
}

struct Files {
    beginnings: Beginnings,
    recorder: SyncRecorder,
}

/// The scope of a check.
#[derive(Clone, Copy)]
enum CheckScope {
    Beginnings,
    Everything,
    /// The run has ended, and its result is checked as a whole elsewhere.
    Final,
}

impl FileWatch {
    pub(super) fn begin(parts: PartialFiles, recorder: SyncRecorder) -> Self {
        let stop = CancellationToken::new();
        let files = Files { beginnings: Beginnings::new(parts), recorder };
        let failure = tokio::spawn(watch_files(files, stop.clone()));
        Self { failure, stop: stop.drop_guard() }
    }

    /// Waits for a reason to end the run.
    pub(super) async fn failure(&mut self) -> Failure {
        match (&mut self.failure).await {
            Ok(failure) => failure,
            Err(lost) => lost.into(),
        }
    }

    /// Syncs and notes what the run has left.
    pub(super) async fn end(self) {
        let Self { failure, stop } = self;
        drop(stop);
        // A failure now is found again by the next run.
        let _ = failure.await;
    }
}

/// Returns on a failure or, once stopped, after a last check.
async fn watch_files(files: Files, stop: CancellationToken) -> Failure {
    let files = Arc::new(Mutex::new(files));
    let mut scopes = (1..CHECKS_PER_SYNC).map(|_| CheckScope::Beginnings).chain([CheckScope::Everything]).cycle();
    loop {
        let stopped = stop.run_until_cancelled(sleep(INTERVAL)).await.is_none();
        let scope = scopes.next().filter(|_| !stopped).unwrap_or(CheckScope::Final);
        let files = Arc::clone(&files);
        let checked = spawn_blocking(move || files.lock().check(scope)).await;
        match checked {
            Ok(Ok(())) if stopped => return Failure::Stopped,
            Ok(Ok(())) => {}
            Ok(Err(failure)) => return failure,
            Err(lost) => return lost.into(),
        }
    }
}

impl Files {
    fn check(&mut self, scope: CheckScope) -> Result<(), Failure> {
        match scope {
            CheckScope::Beginnings => self.beginnings.check(),
            CheckScope::Everything => self.beginnings.check().and_then(|()| Ok(self.recorder.check()?)),
            CheckScope::Final => Ok(self.recorder.end()?),
        }
    }
}
