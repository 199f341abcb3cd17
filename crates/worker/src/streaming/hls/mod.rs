//! HLS (RFC 8216) for players that cannot play the file itself: the same streams in another container, never re-encoded.
//!
//! The first request has the stream prepared, for itself and for all later ones. The stream is stored beside the file until it has not
//! been used for a while, or the file is removed.

mod folder;
pub mod playlist;
mod remux;
mod runs;

use std::{path::PathBuf, time::Duration};

use axum::http::StatusCode;
use thiserror::Error;
use tokio::{sync::watch, task::spawn_blocking, time::sleep};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    folder::{Making, Prepared, STREAM},
    remux::Ffmpeg,
    runs::{Joined, Preparation, Preparations},
};
use crate::{
    api::refusal::Refusal,
    disk::{Exhausted, NoRoom},
    jobs::job::JobContext,
    media::MediaFolder,
    queue::Queue,
    store::StoreError,
    tasks::task::{Task, TaskId},
    ytdlp::Unready,
};

/// How long a request waits for a stream: less than players do.
const PATIENCE: Duration = Duration::from_secs(15);

/// The streams that are being prepared.
pub(crate) struct Streams {
    runs: Preparations,
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

/// Why there is no stream.
#[derive(Clone, Debug, Error)]
pub(crate) enum RemuxError {
    #[error("MP4 cannot hold its streams, or no player supports them")]
    NotStreamable,
    #[error("ffmpeg was not found on this server")]
    NoFfmpeg,
    #[error(transparent)]
    Unready(#[from] Unready),
    #[error("the disk is full")]
    Full,
    #[error("the disk is read-only")]
    ReadOnly,
    #[error("too many streams are being prepared")]
    Busy,
    #[error("the stream is still being prepared")]
    NotYet,
    #[error("stopped")]
    Stopped,
    #[error("the file no longer exists")]
    Gone,
    #[error("ffmpeg failed")]
    Failed,
    #[error("internal error")]
    Ours,
}

impl Streams {
    /// Cancelling `stop` ends all preparations.
    pub(crate) fn new(stop: CancellationToken) -> Self {
        Self { runs: Preparations::new(stop.clone()), tracker: TaskTracker::new(), stop }
    }

    /// Returns the playlist of a finished download, still unwritten. It refers to [`STREAM`] beside it, with `link` as the query.
    pub(crate) async fn playlist(
        &self,
        queue: &Queue,
        task: &Task,
        link: Option<&str>,
    ) -> Result<PlaylistText, RemuxError> {
        self.ready(queue, task).await?;
        let prepared = Prepared::of(&queue.context().media, task.id);
        let uri = link.map_or_else(|| STREAM.to_owned(), |query| format!("{STREAM}?{query}"));
        blocking(move || {
            let most = prepared.playlist_size(&uri)?;
            Ok(PlaylistText { prepared, uri, most })
        })
        .await
    }

    /// Returns the path of a finished download's stream.
    pub(crate) async fn file(&self, queue: &Queue, task: &Task) -> Result<PathBuf, RemuxError> {
        self.ready(queue, task).await?;
        Ok(Prepared::of(&queue.context().media, task.id).stream())
    }

    /// Stops preparing the stream of a task that is being removed.
    pub(crate) async fn forget(&self, id: TaskId) {
        if let Some(run) = self.runs.find(id) {
            run.end().await;
        }
    }

    /// Waits until no stream is being prepared.
    pub(crate) async fn ended(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }

    async fn ready(&self, queue: &Queue, task: &Task) -> Result<(), RemuxError> {
        let prepared = Prepared::of(&queue.context().media, task.id);
        if blocking(move || Ok(prepared.is_there())).await? {
            return Ok(());
        }
        if self.stop.is_cancelled() {
            return Err(RemuxError::Stopped);
        }
        let mut run = match self.runs.join(task, &self.stop)? {
            Joined::UnderWay(run) => run,
            Joined::New(run, told) => {
                self.tracker.spawn(work(queue.clone(), task.id, run.clone(), told));
                run
            }
        };
        run.outcome(PATIENCE).await
    }
}

impl PlaylistText {
    pub(crate) async fn text(self) -> Result<String, RemuxError> {
        let Self { prepared, uri, .. } = self;
        blocking(move || prepared.playlist(&uri)).await
    }
}

/// Waits for the turn of a preparation, then does it.
async fn work(queue: Queue, id: TaskId, run: Preparation, told: watch::Sender<Option<Result<(), RemuxError>>>) {
    let runs = &queue.context().streams.runs;
    let leaving = runs.leave_later(id);
    let outcome = match runs.place(&run).await {
        Some(place) => tokio::select! {
            made = prepare(queue.context(), id, &run.stop) => made,
            never = runs.hurry(id, &run, &place) => match never {},
        },
        None => Err(RemuxError::Stopped),
    };
    if let Err(error) = &outcome {
        tracing::warn!(task = %id, %error, "a stream was not prepared");
    }
    runs.note(id, &outcome);
    drop(leaving);
    told.send_replace(Some(outcome));
}

async fn prepare(context: &JobContext, id: TaskId, stop: &CancellationToken) -> Result<(), RemuxError> {
    // The task is read only now, when a removal would find and stop this preparation.
    let task = context.store.get(id).await?;
    let film = task.as_ref().and_then(Task::finished).map(|media| context.media.file(id, media));
    let film = film.ok_or(RemuxError::Gone)?;
    let prepared = Prepared::of(&context.media, id);
    if prepared.is_there() {
        return Ok(());
    }
    tracing::info!(task = %id, "a stream is being prepared");
    let tools = context.readiness.tools().await?;
    let program = tools.ffmpeg.clone().ok_or(RemuxError::NoFfmpeg)?;
    context.disks.room().await?;
    let media = context.media.clone();
    let making = blocking(move || Making::begin(&media)).await?;
    let (folder, bytes) = (making.folder(), task.map_or(0, |task| task.filesize));
    let disks = &context.disks;
    let ffmpeg = Ffmpeg { tools: &tools, program: &program, folder: &folder, film: &film, disks, stop };
    let made = match ffmpeg.codecs().await {
        Ok(codecs) => ffmpeg.remux(&codecs, bytes, context.config.job_timeout).await,
        Err(error) => Err(error),
    };
    // The closure also drops, and so removes, the folder of a failed preparation.
    let made = blocking(move || {
        let making = making;
        if made.is_ok() { making.publish(&prepared).map(|()| made) } else { Ok(made) }
    });
    made.await?
}

/// Removes streams that have not been used for long, until `stop` is cancelled.
pub(crate) async fn tidy(queue: &Queue, stop: &CancellationToken) {
    let keep = queue.context().config.hls_keep_for;
    let pause = (keep / 4).clamp(Duration::from_secs(1), Duration::from_mins(10));
    while stop.run_until_cancelled(sleep(pause)).await.is_some() {
        let (media, readers) = (queue.context().media.clone(), queue.context().readers.clone());
        let swept = blocking(move || {
            for id in media.tasks()? {
                let prepared = Prepared::of(&media, id);
                if prepared.idle().is_some_and(|idle| idle > keep)
                    && !readers.any(id)
                    && let Err(error) = prepared.remove(&media)
                {
                    tracing::error!(task = %id, %error, "a prepared stream could not be removed");
                }
            }
            Ok(())
        });
        if let Err(error) = swept.await {
            tracing::error!(%error, "prepared streams could not be scanned");
        }
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

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, RemuxError> {
    let result = spawn_blocking(work).await.map_err(|_| RemuxError::Ours)?;
    result.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => RemuxError::Gone,
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => RemuxError::Full,
        std::io::ErrorKind::ReadOnlyFilesystem => RemuxError::ReadOnly,
        _ => {
            tracing::error!(%error, "the files of a stream could not be accessed");
            RemuxError::Ours
        }
    })
}

impl From<NoRoom> for RemuxError {
    fn from(reason: NoRoom) -> Self {
        match reason {
            NoRoom::Full => Self::Full,
            NoRoom::ReadOnly => Self::ReadOnly,
            NoRoom::Unknown(_) | NoRoom::Lost(_) => Self::Ours,
        }
    }
}

impl From<Exhausted> for RemuxError {
    fn from(reason: Exhausted) -> Self {
        match reason {
            Exhausted::Disks(reason) => reason.into(),
            Exhausted::Share => Self::Failed,
        }
    }
}

impl From<StoreError> for RemuxError {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "the task database failed");
        Self::Ours
    }
}

impl From<RemuxError> for Refusal {
    fn from(error: RemuxError) -> Self {
        match error {
            RemuxError::NotStreamable => Self::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "not_streamable",
                "This file cannot be streamed without re-encoding its video or audio; download it instead",
            ),
            RemuxError::NoFfmpeg => Self::unavailable("ffmpeg_missing", "ffmpeg was not found on this server"),
            RemuxError::Unready(unready) => unready.into(),
            RemuxError::Full => NoRoom::Full.into(),
            RemuxError::ReadOnly => NoRoom::ReadOnly.into(),
            RemuxError::Busy => Self::unavailable("busy", "Too many streams are being prepared; try again later"),
            RemuxError::Stopped => Self::unavailable("busy", "The worker is restarting; try again"),
            RemuxError::NotYet => Self::unavailable("preparing", "The stream is being prepared; try again shortly"),
            RemuxError::Gone => Self::no_such_download(),
            RemuxError::Failed | RemuxError::Ours => Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "remux_failed",
                "The stream could not be prepared on this server",
            ),
        }
    }
}
