//! Runs one download, from its claim to the finished file or to the reason for its failure.

use std::{ffi::OsString, path::PathBuf};

use tokio::task::spawn_blocking;

use super::{
    context::JobContext, failure::Failure, parts::PartialFiles, registry::Running, subtitles::SubtitlesFetch,
    thumbnail, watch::FileWatch,
};
use crate::{
    media::{AcceptError, JobFolder},
    store::StoreError,
    tasks::{digest::Digest, finished::Finished, playlist::PlaylistRole, source::SourceUrl, task::Task},
    ytdlp::{DownloadLimits, Kind, Tools, VideoRef, download},
};

/// One run of a task.
pub(crate) struct Job<'a> {
    pub(super) context: &'a JobContext,
    pub(super) task: &'a Task,
    pub(super) running: &'a Running,
    pub(super) folder: JobFolder,
}

/// The result of a successful job.
pub(crate) enum JobResult {
    File(Finished, Digest),
    /// The playlist became this many tasks, one per video.
    List(usize),
}

impl<'a> Job<'a> {
    pub(crate) fn new(context: &'a JobContext, task: &'a Task, running: &'a Running) -> Self {
        Self { context, task, running, folder: context.media.job(task.id) }
    }

    /// Downloads what the task names, or expands a playlist into tasks. Resumes an interrupted run.
    pub(crate) async fn run(&self) -> Result<JobResult, Failure> {
        if let PlaylistRole::List(extent, _) = self.task.playlist_role
            && let Some(videos) = self.expand(extent).await?
        {
            return Ok(JobResult::List(videos));
        }
        let finished = self.file().await?;
        let path = self.context.media.file(self.task.id, finished.media);
        let stop = self.running.stop.clone();
        let digest = spawn_blocking(move || Digest::of_file(&path, || stop.is_cancelled())).await??;
        Ok(JobResult::File(finished, digest.ok_or(Failure::Stopped)?))
    }

    async fn file(&self) -> Result<Finished, Failure> {
        if let Some(finished) = self.finished().await? {
            self.processing().await?;
            self.discard().await;
            return Ok(finished);
        }
        let tools = self.context.readiness.tools().await?;
        if self.accepted().await?.is_some() {
            self.processing().await?;
        } else {
            self.fetch(&tools).await?;
        }
        self.finish(&tools).await
    }

    async fn finished(&self) -> Result<Option<Finished>, Failure> {
        let media = self.context.media.clone();
        let id = self.task.id;
        Ok(spawn_blocking(move || media.finished(id)).await??)
    }

    /// Creates the job's folder, and returns what an earlier run has already accepted in it.
    pub(super) async fn accepted(&self) -> Result<Option<Finished>, Failure> {
        let folder = self.folder.clone();
        let accepted = spawn_blocking(move || {
            folder.create()?;
            folder.accepted()
        });
        Ok(accepted.await??)
    }

    /// Runs yt-dlp and accepts the file that it reports.
    async fn fetch(&self, tools: &Tools) -> Result<(), Failure> {
        let source = self.source().await?;
        self.context.disks.room().await?;
        let limits = DownloadLimits { max_filesize: self.largest() };
        let video = VideoRef { source: &source, item: self.task.playlist_role.item() };
        let args = download(tools, video, self.task.quality, self.task.output, &self.folder, limits);
        let reported = match self.attempt(tools, args.clone()).await {
            // Media URLs expire after a while; the page has new ones.
            Err(Failure::YtDlp(error)) if error.kind == Kind::Expired => self.attempt(tools, args).await?,
            other => other?,
        };
        self.processing().await?;
        self.accept(reported, tools).await
    }

    /// Runs yt-dlp once, which continues where the previous run ended. Returns the file that it reports.
    async fn attempt(&self, tools: &Tools, args: Vec<OsString>) -> Result<PathBuf, Failure> {
        let parts = PartialFiles::new(self.folder.work(), self.folder.note());
        let begun = parts.clone();
        let stop = self.running.stop.clone();
        let recorder = spawn_blocking(move || begun.begin(&stop)).await??;
        let watch = FileWatch::begin(parts, recorder.ok_or(Failure::Stopped)?);
        self.listen(tools, args, watch).await
    }

    async fn accept(&self, reported: PathBuf, tools: &Tools) -> Result<(), Failure> {
        let folder = self.folder.clone();
        let leftovers = tools.sandbox.leftovers();
        let stop = self.running.stop.clone();
        let disks = self.context.disks.clone();
        let accepted = spawn_blocking(move || {
            folder.accept(&reported, leftovers, || {
                if stop.is_cancelled() { Err(AcceptError::Stopped) } else { Ok(disks.judge()?) }
            })
        });
        accepted.await??;
        Ok(())
    }

    /// Returns the source of the task, validated and resolved again.
    pub(super) async fn source(&self) -> Result<SourceUrl, Failure> {
        let source = SourceUrl::parse(&self.task.url, &self.context.config.allow_private)?;
        let resolving = source.resolve(&self.context.lookups, &self.task.owner);
        self.running.stop.run_until_cancelled(resolving).await.ok_or(Failure::Stopped)??;
        Ok(source)
    }

    pub(super) async fn processing(&self) -> Result<(), StoreError> {
        if self.context.store.processing(self.task.id).await? {
            self.context.announcer.changed(self.task.id).await;
        }
        Ok(())
    }

    /// Returns the largest file that this task may have, in bytes.
    pub(super) fn largest(&self) -> u64 {
        self.task.max_filesize.unwrap_or(u64::MAX).min(self.context.config.max_filesize)
    }

    /// Adds a thumbnail and subtitles, then moves everything into place.
    async fn finish(&self, tools: &Tools) -> Result<Finished, Failure> {
        let accepted = self.accepted().await?.ok_or(Failure::Killed)?;
        let stop = &self.running.stop;
        thumbnail::make(&self.context.disks, tools, &self.folder, &self.folder.file(accepted.media), stop).await;
        let source = SourceUrl::parse(&self.task.url, &self.context.config.allow_private)?;
        let video = VideoRef { source: &source, item: self.task.playlist_role.item() };
        let subtitles = SubtitlesFetch { tools, job: &self.folder, video, wanted: &self.task.wanted, stop };
        subtitles.run(&self.context.disks, &self.context.egress_tokens).await?;
        if stop.is_cancelled() {
            return Err(Failure::Stopped);
        }
        let media = self.context.media.clone();
        let id = self.task.id;
        let published = spawn_blocking(move || {
            media.publish(id)?;
            media.finished(id)
        });
        let finished = published.await??.ok_or(Failure::Killed)?;
        self.discard().await;
        Ok(finished)
    }

    /// Removes the job's folder once it is no longer needed. Best effort: whatever remains is found again at the next startup.
    pub(super) async fn discard(&self) {
        let folder = self.folder.clone();
        if let Ok(Err(error)) = spawn_blocking(move || folder.discard()).await {
            tracing::warn!(%error, "cannot remove the folder of a job");
        }
    }
}
