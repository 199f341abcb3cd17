//! Runs one download, from its claim to the finished file or to the reason for its failure.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sallyport_core::{addresses::lookup::Lookups, config::WorkerConfig};
use thiserror::Error;
use tokio::{
    sync::Mutex,
    task::{JoinError, spawn_blocking},
};

use super::{
    egress_tokens::EgressTokens, registry::Running, stall_watchdog::StallWatchdog, subtitles, thumbnail, watch::Watch,
};
use crate::{
    disk::{Disks, Exhausted, NoRoom},
    media::{AcceptError, Finished, JobFolder, MediaFolder, digest::Digest, read_leases::ReadLeases},
    queue::{playlist::Part, premiere::Awaited},
    sandbox::Allowance,
    store::{Store, StoreError},
    streaming::hls::Streams,
    tasks::{
        events::{Events, TaskEvent},
        owner::Owner,
        source::{ResolveError, SourceError, SourceUrl},
        task::{Status, Task, TaskId},
    },
    ytdlp::{
        Bounds, Confined, DownloadLimits, End, Event, Kind, Line, Readiness, Run, Sought, Tools, Tracks, Unready,
        YtDlpError, download, for_the_log,
    },
};

/// What web pages and manifests may add to the traffic of a download, in bytes.
pub(crate) const ABOUT: u64 = 256 << 20;

/// The separate video and audio, the merged file, and that file remuxed into another container: each may be as large as one file.
const FILES: u64 = 3;

/// Disk space for files that the programs keep while they run, in bytes.
const MARGIN: u64 = 16 << 20;

/// How many error lines of one run are logged, and how many characters of each.
const LOGGED: usize = 5;
const LOGGED_CHARS: usize = 500;

/// The longest line that is read from a child, in bytes. No line that the worker asks for is longer.
pub(crate) const MAX_LINE: usize = 64 << 10;

/// What every job needs: the configuration, the store and the services they share.
pub(crate) struct JobContext {
    pub(crate) config: WorkerConfig,
    pub(crate) store: Store,
    pub(crate) media: MediaFolder,
    pub(crate) disks: Disks,
    pub(crate) readers: ReadLeases,
    pub(crate) readiness: Readiness,
    pub(crate) lookups: Lookups<Owner>,
    pub(crate) egress_tokens: EgressTokens,
    pub(crate) events: Events,
    pub(crate) streams: Streams,
    /// Held from reading a task until its event is published, so that the last event shows the newest state.
    pub(crate) telling: Mutex<()>,
    /// Held while a file is replaced by a link to an identical one.
    pub(crate) sharing: Mutex<()>,
}

/// The result of a successful job.
pub(crate) enum JobResult {
    File(Finished, Digest),
    /// The playlist became this many tasks, one per video.
    List(usize),
}

/// The reason why a job has no result.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    /// It was cancelled, removed or gave way, or the worker is stopping.
    #[error("stopped")]
    Stopped,
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    #[error(transparent)]
    Unready(#[from] Unready),
    #[error("{}", .0.message)]
    YtDlp(YtDlpError),
    #[error("the source is larger than the limit, longer than four hours, or live")]
    NotTaken,
    #[error("{}", .0.message())]
    Awaited(Awaited),
    #[error("the announced start is too far in the future")]
    TooLongAwaited,
    #[error("the playlist has changed since it was read; request it again")]
    ListChanged,
    #[error("the playlist has more than {0} videos; set playlist_limit to download only the first ones")]
    TooLong(u16),
    #[error("the playlist has no videos")]
    EmptyList,
    #[error("the playlist has more videos than there is room for in the queue")]
    NoRoomToWait,
    #[error("the downloader was stopped before it finished")]
    Killed,
    #[error("the download took too long")]
    TimedOut,
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    #[error("the download exceeds the disk space that a download may use")]
    TooMuch,
    #[error("the download stalled")]
    Stalled,
    #[error(transparent)]
    Refused(AcceptError),
    #[error("cannot access the job's files: {0}")]
    Io(io::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("a background thread failed: {0}")]
    Lost(#[from] JoinError),
}

/// What a child has reported so far.
#[derive(Default)]
pub(crate) struct ChildOutput {
    described: bool,
    tracks: Tracks,
    awaited: Option<Awaited>,
    logged: usize,
    reported: Option<PathBuf>,
    error: Option<YtDlpError>,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoRoom(NoRoom::Full),
            io::ErrorKind::ReadOnlyFilesystem => Self::NoRoom(NoRoom::ReadOnly),
            _ => Self::Io(error),
        }
    }
}

impl From<Exhausted> for Failure {
    fn from(reason: Exhausted) -> Self {
        match reason {
            Exhausted::Disks(reason) => Self::NoRoom(reason),
            Exhausted::Share => Self::TooMuch,
        }
    }
}

impl From<AcceptError> for Failure {
    fn from(error: AcceptError) -> Self {
        match error {
            AcceptError::Io(error) => error.into(),
            AcceptError::Stopped => Self::Stopped,
            AcceptError::NoRoom(reason) => Self::NoRoom(reason),
            refused => Self::Refused(refused),
        }
    }
}

impl Failure {
    /// Returns true if a later retry may succeed.
    pub(crate) fn passes(&self) -> bool {
        match self {
            Self::Stalled | Self::Resolve(ResolveError::Unresolved) => true,
            Self::YtDlp(error) => error.kind.passes(),
            _ => false,
        }
    }

    /// Returns how long the site asks clients to wait.
    pub(crate) fn wait(&self) -> Option<Duration> {
        match self {
            Self::YtDlp(error) => error.wait,
            _ => None,
        }
    }

    /// Returns the message that the task's owner sees.
    pub(crate) fn message(&self) -> String {
        match self {
            Self::Io(_) | Self::Store(_) | Self::Lost(_) | Self::NoRoom(NoRoom::Unknown(_) | NoRoom::Lost(_)) => {
                "the download failed on this server".to_owned()
            }
            failure => failure.to_string(),
        }
    }
}

impl JobContext {
    /// Downloads what `task` names, or expands a playlist into tasks. Resumes an interrupted run.
    pub(crate) async fn run(&self, task: &Task, running: &Running) -> Result<JobResult, Failure> {
        if let Part::List(extent, _) = task.part
            && let Some(films) = self.expand(task, extent, running).await?
        {
            return Ok(JobResult::List(films));
        }
        let finished = self.file(task, running).await?;
        let (path, stop) = (self.media.file(task.id, finished.media), running.stop.clone());
        let digest = spawn_blocking(move || Digest::of(&path, || stop.is_cancelled())).await??;
        Ok(JobResult::File(finished, digest.ok_or(Failure::Stopped)?))
    }

    async fn file(&self, task: &Task, running: &Running) -> Result<Finished, Failure> {
        let job = self.media.job(task.id);
        if let Some(finished) = self.finished(task.id).await? {
            self.processing(task.id).await?;
            discard(job).await;
            return Ok(finished);
        }
        let tools = self.readiness.tools().await?;
        if self.accepted(&job).await?.is_some() {
            self.processing(task.id).await?;
        } else {
            self.fetch(task, &job, &tools, running).await?;
        }
        self.finish(task, &job, &tools, running).await
    }

    async fn finished(&self, id: TaskId) -> Result<Option<Finished>, Failure> {
        let media = self.media.clone();
        Ok(spawn_blocking(move || media.finished(id)).await??)
    }

    pub(crate) async fn accepted(&self, job: &JobFolder) -> Result<Option<Finished>, Failure> {
        let job = job.clone();
        let accepted = spawn_blocking(move || {
            job.create()?;
            job.accepted()
        });
        Ok(accepted.await??)
    }

    /// Runs yt-dlp and accepts the file that it reports.
    async fn fetch(&self, task: &Task, job: &JobFolder, tools: &Tools, running: &Running) -> Result<(), Failure> {
        let source = self.source(task, running).await?;
        self.disks.room().await?;
        let limits = DownloadLimits { max_filesize: self.largest(task) };
        let film = Sought { source: &source, item: task.part.item() };
        let args = download(tools, film, task.quality, task.output, job, limits);
        let reported = match self.attempt(task, job, tools, args.clone(), running).await {
            // Media URLs expire after a while; the page has new ones.
            Err(Failure::YtDlp(error)) if error.kind == Kind::Expired => {
                self.attempt(task, job, tools, args, running).await?
            }
            other => other?,
        };
        self.processing(task.id).await?;
        let (job, leftovers, stop, disks) =
            (job.clone(), tools.sandbox.leftovers(), running.stop.clone(), self.disks.clone());
        let accepted = spawn_blocking(move || {
            job.accept(&reported, leftovers, || {
                if stop.is_cancelled() { Err(AcceptError::Stopped) } else { Ok(disks.judge()?) }
            })
        });
        accepted.await??;
        Ok(())
    }

    /// Runs yt-dlp once, which continues where the previous run ended. Returns the file that it reports.
    async fn attempt(
        &self,
        task: &Task,
        job: &JobFolder,
        tools: &Tools,
        args: Vec<OsString>,
        running: &Running,
    ) -> Result<PathBuf, Failure> {
        let (work, parts, stop) = (job.work(), job.parts(), running.stop.clone());
        let begun = parts.clone();
        let noting = spawn_blocking(move || begun.begin(&stop)).await??;
        let watch = Watch::begin(parts, noting.ok_or(Failure::Stopped)?);
        self.listen(task, self.confined(tools, task, &work, args), watch, running).await
    }

    /// Returns the source of a task, validated and resolved again.
    pub(crate) async fn source(&self, task: &Task, running: &Running) -> Result<SourceUrl, Failure> {
        let source = SourceUrl::parse(&task.url, &self.config.allow_private)?;
        let resolving = source.resolve(&self.lookups, &task.owner);
        running.stop.run_until_cancelled(resolving).await.ok_or(Failure::Stopped)??;
        Ok(source)
    }

    async fn processing(&self, id: TaskId) -> Result<(), StoreError> {
        if self.store.processing(id).await? {
            self.tell(id).await;
        }
        Ok(())
    }

    /// Publishes the current state of a task to subscribers.
    pub(crate) async fn tell(&self, id: TaskId) {
        let _telling = self.telling.lock().await;
        match self.store.get(id).await {
            Ok(Some(task)) if task.status != Status::Removing => {
                self.events.publish(task.owner.clone(), TaskEvent::Task(Arc::new(task)));
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(task = %id, %error, "event of a task not published"),
        }
    }

    /// Returns the largest file that this task may have, in bytes.
    fn largest(&self, task: &Task) -> u64 {
        task.max_filesize.unwrap_or(u64::MAX).min(self.config.max_filesize)
    }

    fn confined<'a>(&self, tools: &'a Tools, task: &Task, folder: &'a Path, args: Vec<OsString>) -> Confined<'a> {
        let (largest, time) = (self.largest(task), self.config.job_timeout);
        let allowance = Allowance { file: largest, cpu: time.as_secs() };
        // Video and audio separately, each of which may restart once.
        let bytes = largest.saturating_mul(4).saturating_add(ABOUT);
        let proxy = Some(self.egress_tokens.proxy(&tools.sandbox, task.id.into(), time, bytes));
        Confined { tools, program: &tools.yt_dlp, args, folder, reads: &[], allowance, proxy }
    }

    /// Follows the child until it exits. The path that it reports is the only sign of success.
    async fn listen(
        &self,
        task: &Task,
        child: Confined<'_>,
        mut watch: Watch,
        running: &Running,
    ) -> Result<PathBuf, Failure> {
        let most = self.largest(task).saturating_mul(FILES).saturating_add(MARGIN);
        let bounds = Bounds { disks: &self.disks, most, line: MAX_LINE, time: self.config.job_timeout };
        let (mut said, mut quiet) =
            (ChildOutput::default(), StallWatchdog::new(self.config.stall_timeout, child.folder));
        let mut run = Run::start(child, bounds, &running.stop)?;
        loop {
            let line = tokio::select! {
                line = run.next() => line,
                () = quiet.stalled() => {
                    run.stop().await;
                    watch.end().await;
                    return Err(Failure::Stalled);
                }
                failure = watch.trouble() => {
                    run.stop().await;
                    return Err(failure);
                }
            };
            let Some(line) = line else { break };
            quiet.heard();
            self.heed(task, &line, &mut said, running).await?;
        }
        let end = run.end().await;
        watch.end().await;
        said.judge(end, task)
    }

    async fn heed(&self, task: &Task, line: &Line, said: &mut ChildOutput, running: &Running) -> Result<(), Failure> {
        said.hear(task.id, line);
        match Event::of(line) {
            Some(Event::Announced(at)) => said.awaited = Some(Awaited::at(at)),
            Some(Event::Live) => said.awaited = Some(Awaited::Live),
            Some(Event::Described(_)) if said.described => {}
            Some(Event::Described(about)) => {
                if task.part.item().is_some() && !task.title.is_empty() && task.title != about.stored_title() {
                    return Err(Failure::ListChanged);
                }
                said.described = true;
                self.store.describe(task.id, about).await?;
                self.tell(task.id).await;
            }
            Some(Event::Tracks(tracks)) => said.tracks = tracks,
            Some(Event::Progress(progress)) => {
                let shown = running.advance(said.tracks.overall(progress));
                self.events.publish(task.owner.clone(), TaskEvent::Progress(task.id, shown));
            }
            Some(Event::Processing) => self.processing(task.id).await?,
            Some(Event::Reported(path)) => said.reported = Some(path),
            None => tracing::debug!(task = %task.id, ?line, "yt-dlp"),
        }
        Ok(())
    }

    /// Adds a thumbnail and subtitles, then moves everything into place.
    async fn finish(
        &self,
        task: &Task,
        job: &JobFolder,
        tools: &Tools,
        running: &Running,
    ) -> Result<Finished, Failure> {
        let accepted = self.accepted(job).await?.ok_or(Failure::Killed)?;
        thumbnail::make(self, tools, job, &job.file(accepted.media), &running.stop).await;
        let source = SourceUrl::parse(&task.url, &self.config.allow_private)?;
        let film = Sought { source: &source, item: task.part.item() };
        subtitles::fetch(self, tools, job, film, &task.wanted, &running.stop).await?;
        if running.stop.is_cancelled() {
            return Err(Failure::Stopped);
        }
        let (media, id) = (self.media.clone(), task.id);
        let published = spawn_blocking(move || {
            media.publish(id)?;
            media.finished(id)
        });
        let finished = published.await??.ok_or(Failure::Killed)?;
        discard(job.clone()).await;
        Ok(finished)
    }
}

/// Removes a folder that is no longer needed. Best effort: whatever remains is found again at the next startup.
pub(crate) async fn discard(job: JobFolder) {
    if let Ok(Err(error)) = spawn_blocking(move || job.discard()).await {
        tracing::warn!(%error, "cannot remove the folder of a job");
    }
}

impl ChildOutput {
    /// Keeps the first error and logs the first few error lines.
    pub(crate) fn hear(&mut self, id: TaskId, line: &Line) {
        let Line::Err(text) = line else { return };
        if self.error.is_none() {
            self.error = YtDlpError::of(text);
        }
        if text.starts_with("ERROR:") && self.logged < LOGGED {
            self.logged += 1;
            tracing::warn!(task = %id, text = for_the_log(text, LOGGED_CHARS), "yt-dlp");
        }
    }

    fn judge(mut self, end: End, task: &Task) -> Result<PathBuf, Failure> {
        match (&end, self.reported.take(), self.awaited) {
            (End::Exited(_), Some(path), _) => Ok(path),
            (End::Exited(_), None, Some(begins @ Awaited::Begins(_))) => Err(Failure::Awaited(begins)),
            // A live source is refused, unless it was still announced at an earlier attempt.
            (End::Exited(_), None, Some(Awaited::Live)) if task.announced => Err(Failure::Awaited(Awaited::Live)),
            _ => self.ended_well(end).and(Err(Failure::NotTaken)),
        }
    }

    /// Fails unless the child exited successfully and yt-dlp reported no error.
    pub(crate) fn ended_well(self, end: End) -> Result<(), Failure> {
        match (end, self.error) {
            (End::Stopped, _) => Err(Failure::Stopped),
            (End::TimedOut, _) => Err(Failure::TimedOut),
            (End::Exhausted(reason), _) => Err(reason.into()),
            (_, Some(error)) => Err(Failure::YtDlp(error)),
            (End::Exited(status), None) if status.success() => Ok(()),
            _ => Err(Failure::Killed),
        }
    }
}
