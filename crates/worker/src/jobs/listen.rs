//! One run of yt-dlp for a job: what it prints is stored and published, until it exits or has to be ended.

use std::{ffi::OsString, path::PathBuf};

use super::{child_output::ChildOutput, failure::Failure, job::Job, stall_watchdog::StallWatchdog, watch::FileWatch};
use crate::{
    store::stored_title,
    tasks::{description::Description, premiere::Premiere},
    ytdlp::{Event, Limits, Line, SandboxedRun, Tools},
};

/// What web pages and manifests may add to the traffic of a download, in bytes.
pub(super) const PAGES: u64 = 256 << 20;

/// The separate video and audio, the merged file, and that file remuxed into another container: each may be as large as one file.
const FILES: u64 = 3;

/// Disk space for files that the programs keep while they run, in bytes.
const MARGIN: u64 = 16 << 20;

/// The longest line that is read from a child, in bytes. No line that the worker asks for is longer.
pub(super) const MAX_LINE: usize = 64 << 10;

impl Job<'_> {
    /// Follows yt-dlp until it exits. The path that it reports is the only sign of success.
    pub(super) async fn listen(
        &self,
        tools: &Tools,
        args: Vec<OsString>,
        mut watch: FileWatch,
    ) -> Result<PathBuf, Failure> {
        let folder = self.folder.work();
        let mut output = ChildOutput::default();
        let mut watchdog = StallWatchdog::new(self.context.config.stall_timeout, &folder);
        // Video and audio separately, each of which may restart once.
        let traffic = self.largest().saturating_mul(4).saturating_add(PAGES);
        let run = SandboxedRun::yt_dlp(tools, args, &folder, self.limits());
        let run = run.online(&self.context.egress_tokens, self.task.id.into(), traffic);
        let mut run = run.start(&self.context.disks, &self.running.stop)?;
        loop {
            let line = tokio::select! {
                line = run.next() => line,
                () = watchdog.stalled() => {
                    run.stop().await;
                    watch.end().await;
                    return Err(Failure::Stalled);
                }
                failure = watch.failure() => {
                    run.stop().await;
                    return Err(failure);
                }
            };
            let Some(line) = line else { break };
            watchdog.record_activity();
            self.handle_line(&line, &mut output).await?;
        }
        let end = run.end().await;
        watch.end().await;
        output.judge(end, self.task)
    }

    fn limits(&self) -> Limits {
        let file = self.largest();
        let folder = file.saturating_mul(FILES).saturating_add(MARGIN);
        let time = self.context.config.job_timeout;
        Limits { file, folder, line: MAX_LINE, time, cpu: time }
    }

    async fn handle_line(&self, line: &Line, output: &mut ChildOutput) -> Result<(), Failure> {
        output.record(self.task.id, line);
        match Event::parse(line) {
            Some(Event::Announced(at)) => output.premiere = Some(Premiere::at(at)),
            Some(Event::Live) => output.premiere = Some(Premiere::Live),
            Some(Event::Described(_)) if output.described => {}
            Some(Event::Described(about)) => {
                output.described = true;
                self.describe(about).await?;
            }
            Some(Event::Tracks(tracks)) => output.tracks = tracks,
            Some(Event::Progress(progress)) => {
                let shown = self.running.advance(output.tracks.advance(progress));
                self.context.announcer.progressed(self.task, shown);
            }
            Some(Event::Processing) => self.processing().await?,
            Some(Event::Reported(path)) => output.reported = Some(path),
            None => tracing::debug!(task = %self.task.id, ?line, "yt-dlp"),
        }
        Ok(())
    }

    /// Stores what the source reports about itself. Fails if that is another video than the one which the playlist had at this position.
    async fn describe(&self, about: Description) -> Result<(), Failure> {
        let title = &self.task.title;
        if self.task.playlist_role.item().is_some() && !title.is_empty() && title != stored_title(&about.title) {
            return Err(Failure::ListChanged);
        }
        self.context.store.describe(self.task.id, about).await?;
        self.context.announcer.changed(self.task.id).await;
        Ok(())
    }
}
