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
    parts::{Noting, Parts},
};

/// The interval between two checks of the first bytes.
const INTERVAL: Duration = Duration::from_millis(500);

/// The number of checks per sync. A power cut costs at most five seconds of download.
const LOOKS_PER_SYNC: u32 = 10;

/// The watch over a run; dropping it ends the watch.
pub(super) struct Watch {
    trouble: JoinHandle<Failure>,
    stop: DropGuard,
}

struct Files {
    beginnings: Beginnings,
    noting: Noting,
}

/// The scope of a check.
#[derive(Clone, Copy)]
enum Look {
    Beginnings,
    Everything,
    /// The run has ended, and its result is checked as a whole elsewhere.
    WhatIsLeft,
}

impl Watch {
    pub(super) fn begin(parts: Parts, noting: Noting) -> Self {
        let stop = CancellationToken::new();
        let files = Files { beginnings: Beginnings::new(parts), noting };
        let trouble = tokio::spawn(look_after(files, stop.clone()));
        Self { trouble, stop: stop.drop_guard() }
    }

    /// Waits for a reason to end the run.
    pub(super) async fn trouble(&mut self) -> Failure {
        match (&mut self.trouble).await {
            Ok(failure) => failure,
            Err(lost) => lost.into(),
        }
    }

    /// Syncs and notes what the run has left.
    pub(super) async fn end(self) {
        let Self { trouble, stop } = self;
        drop(stop);
        // A failure now is found again by the next run.
        let _ = trouble.await;
    }
}

/// Returns on a failure or, once stopped, after a last check.
async fn look_after(files: Files, stop: CancellationToken) -> Failure {
    let files = Arc::new(Mutex::new(files));
    let mut looks = (1..LOOKS_PER_SYNC).map(|_| Look::Beginnings).chain([Look::Everything]).cycle();
    loop {
        let stopped = stop.run_until_cancelled(sleep(INTERVAL)).await.is_none();
        let look = looks.next().filter(|_| !stopped).unwrap_or(Look::WhatIsLeft);
        let files = Arc::clone(&files);
        let looked = spawn_blocking(move || files.lock().look(look)).await;
        match looked {
            Ok(Ok(())) if stopped => return Failure::Stopped,
            Ok(Ok(())) => {}
            Ok(Err(failure)) => return failure,
            Err(lost) => return lost.into(),
        }
    }
}

impl Files {
    fn look(&mut self, look: Look) -> Result<(), Failure> {
        match look {
            Look::Beginnings => self.beginnings.look(),
            Look::Everything => self.beginnings.look().and_then(|()| Ok(self.noting.look()?)),
            Look::WhatIsLeft => Ok(self.noting.end()?),
        }
    }
}
