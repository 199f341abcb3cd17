//! Films for players that cannot read their file (HLS, RFC 8216): the same streams in another container, never encoded anew.
//!
//! The first who asks has a film prepared, once for all who ask meanwhile and later; it lies beside its file until nobody has
//! wanted it for a while, or the file goes.

mod folder;
mod playlist;
mod remux;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::http::StatusCode;
use thiserror::Error;
use tokio::{
    sync::{Semaphore, watch},
    task::spawn_blocking,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    folder::{Making, Prepared, STREAM},
    remux::Ffmpeg,
};
use super::{
    disk::{Exhausted, NoRoom, Share},
    job::Workshop,
    media::MediaFolder,
    queue::Queue,
    refusal::Refusal,
    store::StoreError,
    task::{Task, TaskId},
    ytdlp::Unready,
};

/// At a time; each reads and writes a whole film.
const AT_A_TIME: usize = 2;

/// With those that wait for that.
const MAX_RUNS: usize = 16;

/// How long an answer waits for a film: less than players do.
const PATIENCE: Duration = Duration::from_secs(15);

/// What is being prepared.
pub(crate) struct Streams {
    runs: Mutex<HashMap<TaskId, Run>>,
    slots: Semaphore,
    tracker: TaskTracker,
    stop: CancellationToken,
}

/// One film that is being prepared, for as many as wait for it.
#[derive(Clone)]
struct Run {
    outcome: watch::Receiver<Option<Result<(), RemuxError>>>,
    stop: CancellationToken,
}

/// Why there is no stream.
#[derive(Clone, Debug, Error)]
pub(crate) enum RemuxError {
    #[error("its streams have no place in MP4, or nobody plays them")]
    NotStreamable,
    #[error("ffmpeg was not found on this server")]
    NoFfmpeg,
    #[error(transparent)]
    Unready(#[from] Unready),
    #[error("the disk is full")]
    Full,
    #[error("the disk is read-only")]
    ReadOnly,
    #[error("too many are being prepared already")]
    Busy,
    #[error("it is being prepared")]
    NotYet,
    #[error("stopped")]
    Stopped,
    #[error("the film is gone")]
    Gone,
    #[error("ffmpeg has failed")]
    Failed,
}

impl Streams {
    /// Everything ends when `stop` is cancelled.
    pub(crate) fn new(stop: CancellationToken) -> Self {
        Self { runs: Mutex::default(), slots: Semaphore::new(AT_A_TIME), tracker: TaskTracker::new(), stop }
    }

    /// The playlist of a finished film whose stream is at [`STREAM`] beside it, with `link` as its query.
    pub(crate) async fn playlist(&self, queue: &Queue, id: TaskId, link: Option<&str>) -> Result<String, RemuxError> {
        self.ready(queue, id).await?;
        let prepared = Prepared::of(&queue.workshop().media, id);
        let uri = link.map_or_else(|| STREAM.to_owned(), |query| format!("{STREAM}?{query}"));
        blocking(move || prepared.playlist(&uri)).await
    }

    /// The file of a finished film's stream.
    pub(crate) async fn file(&self, queue: &Queue, id: TaskId) -> Result<PathBuf, RemuxError> {
        self.ready(queue, id).await?;
        Ok(Prepared::of(&queue.workshop().media, id).stream())
    }

    /// Ends what is being prepared of a task that goes.
    pub(crate) async fn forget(&self, id: TaskId) {
        let run = self.runs().get(&id).cloned();
        if let Some(mut run) = run {
            run.stop.cancel();
            // It has an outcome, or is gone without.
            drop(run.outcome.wait_for(Option::is_some).await);
        }
    }

    /// Waits until nothing is being prepared any more.
    pub(crate) async fn ended(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }

    async fn ready(&self, queue: &Queue, id: TaskId) -> Result<(), RemuxError> {
        let prepared = Prepared::of(&queue.workshop().media, id);
        if blocking(move || Ok(prepared.is_there())).await? {
            return Ok(());
        }
        let mut run = self.join(queue, id)?;
        let outcome = timeout(PATIENCE, run.outcome.wait_for(Option::is_some)).await;
        match outcome.map_err(|_| RemuxError::NotYet)? {
            Ok(outcome) => outcome.clone().unwrap_or(Err(RemuxError::Failed)),
            Err(_) => Err(RemuxError::Failed),
        }
    }

    /// The run for this film: the one that is under way, or a new one.
    fn join(&self, queue: &Queue, id: TaskId) -> Result<Run, RemuxError> {
        let mut runs = self.runs();
        if let Some(run) = runs.get(&id) {
            return Ok(run.clone());
        }
        if self.stop.is_cancelled() {
            return Err(RemuxError::Stopped);
        }
        if runs.len() >= MAX_RUNS {
            return Err(RemuxError::Busy);
        }
        let (told, outcome) = watch::channel(None);
        let run = Run { outcome, stop: self.stop.child_token() };
        runs.insert(id, run.clone());
        let (queue, stop) = (queue.clone(), run.stop.clone());
        self.tracker.spawn(async move {
            let streams = &queue.workshop().streams;
            let leaving = Leaving { streams, id };
            let outcome = stop.run_until_cancelled(streams.slots.acquire()).await;
            let outcome = match outcome {
                Some(Ok(_slot)) => prepare(queue.workshop(), id, &stop).await,
                _ => Err(RemuxError::Stopped),
            };
            if let Err(error) = &outcome {
                tracing::warn!(task = %id, %error, "a stream was not prepared");
            }
            drop(leaving);
            told.send_replace(Some(outcome));
        });
        Ok(run)
    }

    /// What is behind the lock is whole after a panic, too.
    fn runs(&self) -> MutexGuard<'_, HashMap<TaskId, Run>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A run that is about to end, also where its task was lost.
struct Leaving<'a> {
    streams: &'a Streams,
    id: TaskId,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.streams.runs().remove(&self.id);
    }
}

async fn prepare(workshop: &Workshop, id: TaskId, stop: &CancellationToken) -> Result<(), RemuxError> {
    // Looked at only now that a removal would find this run.
    let task = workshop.store.get(id).await?;
    let film = task.as_ref().and_then(Task::finished).map(|media| workshop.media.file(id, media));
    let film = film.ok_or(RemuxError::Gone)?;
    let prepared = Prepared::of(&workshop.media, id);
    if prepared.is_there() {
        return Ok(());
    }
    tracing::info!(task = %id, "a stream is being prepared");
    let tools = workshop.readiness.tools().await?;
    let program = tools.ffmpeg.clone().ok_or(RemuxError::NoFfmpeg)?;
    workshop.disks.room().await?;
    let media = workshop.media.clone();
    let making = blocking(move || Making::begin(&media)).await?;
    let stop = stop.child_token();
    let (folder, bytes) = (making.folder(), task.map_or(0, |task| task.filesize));
    let room = workshop.disks.watch(stop.clone(), Share { folder: folder.clone(), most: remux::most(bytes) });
    let ffmpeg = Ffmpeg { tools: &tools, program: &program, folder: &folder, film: &film, stop: &stop };
    let made = match ffmpeg.codecs().await {
        Ok(codecs) => ffmpeg.remux(&codecs, bytes, workshop.config.job_timeout).await,
        Err(error) => Err(error),
    };
    let room = room.end();
    // What is left of a run that has failed goes here, too.
    let made = blocking(move || {
        let making = making;
        if made.is_ok() { making.publish(&prepared).map(|()| made) } else { Ok(made) }
    });
    let made = made.await;
    room?;
    made?
}

/// Takes away what nobody has wanted for long, until `stop`.
pub(crate) async fn tidy(queue: &Queue, stop: &CancellationToken) {
    let keep = queue.workshop().config.hls_keep_for;
    let pause = (keep / 4).clamp(Duration::from_secs(1), Duration::from_mins(10));
    while stop.run_until_cancelled(sleep(pause)).await.is_some() {
        let (media, readers) = (queue.workshop().media.clone(), queue.workshop().readers.clone());
        let swept = blocking(move || {
            for id in media.tasks()? {
                let prepared = Prepared::of(&media, id);
                if prepared.idle().is_some_and(|idle| idle > keep) && !readers.any(id) {
                    prepared.remove(&media)?;
                }
            }
            Ok(())
        });
        if let Err(error) = swept.await {
            tracing::error!(%error, "prepared streams could not be looked through");
        }
    }
}

/// How much the prepared stream of a film takes, in bytes.
pub(crate) fn size(media: &MediaFolder, id: TaskId) -> u64 {
    Prepared::of(media, id).size()
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, RemuxError> {
    let result = spawn_blocking(work).await.map_err(|_| RemuxError::Failed)?;
    result.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => RemuxError::Gone,
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => RemuxError::Full,
        std::io::ErrorKind::ReadOnlyFilesystem => RemuxError::ReadOnly,
        _ => {
            tracing::error!(%error, "files of a stream");
            RemuxError::Failed
        }
    })
}

impl From<NoRoom> for RemuxError {
    fn from(reason: NoRoom) -> Self {
        match reason {
            NoRoom::Full => Self::Full,
            NoRoom::ReadOnly => Self::ReadOnly,
            NoRoom::Unknown(_) | NoRoom::Lost(_) => Self::Failed,
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
        Self::Failed
    }
}

impl From<RemuxError> for Refusal {
    fn from(error: RemuxError) -> Self {
        match error {
            RemuxError::NotStreamable => Self::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "not_streamable",
                "This file's picture or sound cannot be streamed without encoding it anew; download the file",
            ),
            RemuxError::NoFfmpeg => Self::unavailable("ffmpeg_missing", "ffmpeg was not found on this server"),
            RemuxError::Unready(unready) => unready.into(),
            RemuxError::Full => NoRoom::Full.into(),
            RemuxError::ReadOnly => NoRoom::ReadOnly.into(),
            RemuxError::Busy | RemuxError::Stopped => {
                Self::unavailable("busy", "Too many streams are being prepared already")
            }
            RemuxError::NotYet => Self::unavailable("preparing", "The stream is being prepared"),
            RemuxError::Gone => Self::no_such_download(),
            RemuxError::Failed => Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "remux_failed",
                "The stream could not be prepared on this server",
            ),
        }
    }
}
