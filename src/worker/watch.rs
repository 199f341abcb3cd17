//! Looks after the files of a run while it runs: what was written is synced and noted.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::sleep,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{job::Failure, parts::Noting};

/// From one sync to the next; a power cut costs as much.
const INTERVAL: Duration = Duration::from_secs(5);

/// What goes on beside a run; dropped, it ends.
pub(super) struct Watch {
    trouble: JoinHandle<Failure>,
    stop: DropGuard,
}

impl Watch {
    pub(super) fn begin(noting: Noting) -> Self {
        let stop = CancellationToken::new();
        let trouble = tokio::spawn(look_after(noting, stop.clone()));
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
async fn look_after(noting: Noting, stop: CancellationToken) -> Failure {
    let noting = Arc::new(Mutex::new(noting));
    loop {
        let stopped = stop.run_until_cancelled(sleep(INTERVAL)).await.is_none();
        let noting = Arc::clone(&noting);
        let looked = spawn_blocking(move || noting.lock().unwrap_or_else(PoisonError::into_inner).look()).await;
        match looked {
            Ok(Ok(())) if stopped => return Failure::Stopped,
            Ok(Ok(())) => {}
            Ok(Err(error)) => return error.into(),
            Err(lost) => return lost.into(),
        }
    }
}
