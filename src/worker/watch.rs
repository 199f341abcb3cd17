//! Looks after the files of a run while it runs: what is no media ends it early, and what was written is synced and noted.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::sleep,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    beginnings::Beginnings,
    job::Failure,
    parts::{Noting, Parts},
};

/// From one look at beginnings to the next.
const INTERVAL: Duration = Duration::from_millis(500);

/// From one sync to the next, in looks; a power cut costs what came in five seconds.
const LOOKS_PER_SYNC: u32 = 10;

/// What goes on beside a run; dropped, it ends.
pub(super) struct Watch {
    trouble: JoinHandle<Failure>,
    stop: DropGuard,
}

struct Files {
    beginnings: Beginnings,
    noting: Noting,
}

/// What a look is at.
#[derive(Clone, Copy)]
enum Look {
    Beginnings,
    Everything,
    /// The run has ended, and its result is judged as a whole.
    WhatIsLeft,
}

impl Watch {
    pub(super) fn begin(parts: Parts, noting: Noting) -> Self {
        let stop = CancellationToken::new();
        let files = Files { beginnings: Beginnings::new(parts), noting };
        let trouble = tokio::spawn(look_after(files, stop.clone()));
        Self { trouble, stop: stop.drop_guard() }
    }

    /// Why the run must end.
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
        // What is wrong now, the next run finds out.
        drop(trouble.await);
    }
}

/// Ends with a failure, or, once it is stopped, after a last look.
async fn look_after(files: Files, stop: CancellationToken) -> Failure {
    let files = Arc::new(Mutex::new(files));
    let mut looks = (1..LOOKS_PER_SYNC).map(|_| Look::Beginnings).chain([Look::Everything]).cycle();
    loop {
        let stopped = stop.run_until_cancelled(sleep(INTERVAL)).await.is_none();
        let look = looks.next().filter(|_| !stopped).unwrap_or(Look::WhatIsLeft);
        let files = Arc::clone(&files);
        let looked = spawn_blocking(move || files.lock().unwrap_or_else(PoisonError::into_inner).look(look)).await;
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
