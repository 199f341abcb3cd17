//! HLS (RFC 8216) for players that cannot play the file itself: the same streams in another container, never re-encoded.
//!
//! The first request has the stream prepared, for itself and for all later ones. The stream is stored beside the file until it has not
//! been used for a while, or the file is removed.

mod error;
mod folder;
pub mod playlist;
mod prepare;
mod remux;
mod runs;

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) use self::{error::RemuxError, prepare::Remuxer};
use self::{
    error::blocking,
    folder::{Prepared, STREAM},
    runs::{JoinedRun, Preparation, Preparations},
};
use crate::{
    media::MediaFolder,
    tasks::{id::TaskId, task::Task},
};

/// How long a request waits for a stream: less than players do.
const MAX_WAIT: Duration = Duration::from_secs(15);

/// The prepared streams, and those that are being prepared. Clones share them.
#[derive(Clone)]
pub(crate) struct Streams(Arc<Inner>);

struct Inner {
    runs: Preparations,
    remuxer: Remuxer,
    tracker: TaskTracker,
    stop: CancellationToken,
}

/// A playlist that is ready to be written.
pub(crate) struct PlaylistText {
    prepared: Prepared,
    uri: String,
    /// An upper bound for its size, in bytes.
    pub(crate) most: usize,
}

impl Streams {
    /// Cancelling `stop` ends all preparations.
    pub(crate) fn new(remuxer: Remuxer, stop: CancellationToken) -> Self {
        let runs = Preparations::new(stop.clone());
        Self(Arc::new(Inner { runs, remuxer, tracker: TaskTracker::new(), stop }))
    }

    /// Returns the playlist of a finished download, still unwritten. It refers to [`STREAM`] beside it, with `link` as the query.
    pub(crate) async fn playlist(&self, task: &Task, link: Option<&str>) -> Result<PlaylistText, RemuxError> {
        self.ready(task).await?;
        let prepared = self.prepared(task.id);
        let uri = link.map_or_else(|| STREAM.to_owned(), |query| format!("{STREAM}?{query}"));
        blocking(move || {
            let most = prepared.playlist_size(&uri)?;
            Ok(PlaylistText { prepared, uri, most })
        })
        .await
    }

    /// Returns the path of a finished download's stream.
    pub(crate) async fn file(&self, task: &Task) -> Result<PathBuf, RemuxError> {
        self.ready(task).await?;
        Ok(self.prepared(task.id).stream())
    }

    /// Stops preparing the stream of a task that is being removed.
    pub(crate) async fn forget(&self, id: TaskId) {
        if let Some(run) = self.0.runs.find(id) {
            run.end().await;
        }
    }

    /// Removes the streams that have not been used for longer than `keep`, except those that are being read.
    pub(crate) async fn remove_idle(&self, keep: Duration) -> Result<(), RemuxError> {
        let media = self.0.remuxer.media.clone();
        blocking(move || {
            for id in media.tasks()? {
                let prepared = Prepared::of(&media, id);
                if prepared.idle().is_some_and(|idle| idle > keep)
                    && !media.is_being_read(id)
                    && let Err(error) = prepared.remove(&media)
                {
                    tracing::error!(task = %id, %error, "a prepared stream could not be removed");
                }
            }
            Ok(())
        })
        .await
    }

    /// Waits until no stream is being prepared.
    pub(crate) async fn ended(&self) {
        self.0.tracker.close();
        self.0.tracker.wait().await;
    }

    async fn ready(&self, task: &Task) -> Result<(), RemuxError> {
        let prepared = self.prepared(task.id);
        if blocking(move || Ok(prepared.is_there())).await? {
            return Ok(());
        }
        if self.0.stop.is_cancelled() {
            return Err(RemuxError::Stopped);
        }
        let mut run = match self.0.runs.join(task, &self.0.stop)? {
            JoinedRun::Existing(run) => run,
            JoinedRun::New(run, outcome_sender) => {
                self.0.tracker.spawn(self.clone().work(task.id, run.clone(), outcome_sender));
                run
            }
        };
        run.outcome(MAX_WAIT).await
    }

    /// Waits for the turn of a preparation, then does it.
    async fn work(self, id: TaskId, run: Preparation, outcome_sender: watch::Sender<Option<Result<(), RemuxError>>>) {
        let Inner { runs, remuxer, .. } = &*self.0;
        let guard = runs.remove_on_drop(id);
        let outcome = match runs.slot(&run).await {
            Some(slot) => tokio::select! {
                made = remuxer.prepare(id, &run.stop) => made,
                never = runs.stop_if_too_slow(id, &run, &slot) => match never {},
            },
            None => Err(RemuxError::Stopped),
        };
        if let Err(error) = &outcome {
            tracing::warn!(task = %id, %error, "a stream was not prepared");
        }
        runs.note(id, &outcome);
        drop(guard);
        outcome_sender.send_replace(Some(outcome));
    }

    fn prepared(&self, id: TaskId) -> Prepared {
        Prepared::of(&self.0.remuxer.media, id)
    }
}

impl PlaylistText {
    pub(crate) async fn text(self) -> Result<String, RemuxError> {
        let Self { prepared, uri, .. } = self;
        blocking(move || prepared.playlist(&uri)).await
    }
}

/// Returns the size of a task's prepared stream, in bytes.
pub(crate) fn size(media: &MediaFolder, id: TaskId) -> u64 {
    Prepared::of(media, id).size()
}

/// Removes the prepared stream of a task. Failures are logged.
pub(crate) async fn remove(media: &MediaFolder, id: TaskId) {
    let media = media.clone();
    if let Err(error) = blocking(move || Prepared::of(&media, id).remove(&media)).await {
        tracing::error!(task = %id, %error, "a prepared stream could not be removed");
    }
}
