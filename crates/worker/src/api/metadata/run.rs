//! One run of yt-dlp in its own folder; its output is one line of JSON.

use std::path::PathBuf;

use bytes::Bytes;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{LookupError, Question};
use crate::{
    disk::Exhausted,
    jobs::context::JobContext,
    media::removal::remove,
    ytdlp::{End, Kind, Limits, Line, Run, SandboxedRun, YtDlpError},
};

/// The largest answer of yt-dlp: the metadata of one page, in bytes.
const MAX_ANSWER: usize = 8 << 20;

/// The maximum number of bytes that a run may fetch: enough for pages, but not for media.
const MAX_BYTES: u64 = 64 << 20;

/// A folder that is removed on drop.
struct ScratchFolder(PathBuf);

/// Runs yt-dlp for a question. Dropping the future ends the run.
pub(super) async fn run(
    context: &JobContext,
    question: &Question,
    stop: &CancellationToken,
) -> Result<Bytes, LookupError> {
    let tools = context.readiness.tools().await?;
    context.disks.room().await?;
    let scratch = ScratchFolder::create(context.media.jobs()).await?;
    let args = question.args(&tools);
    let limits = Limits { line: MAX_ANSWER, ..Limits::scratch(context.config.info_timeout) };
    let run = SandboxedRun::yt_dlp(&tools, args, &scratch.0, limits);
    let run = run.online(&context.egress_tokens, Uuid::new_v4(), MAX_BYTES);
    let run = run.start(&context.disks, stop).map_err(|error| {
        tracing::error!(%error, "yt-dlp could not be started");
        LookupError::NotRun
    })?;
    answer(run, question).await
}

async fn answer(mut run: Run, question: &Question) -> Result<Bytes, LookupError> {
    let mut answer = None;
    let mut reported = None;
    while let Some(line) = run.next().await {
        match line {
            Line::Out(json) => answer = answer.or_else(|| question.read(&json)),
            Line::Err(text) => reported = reported.or_else(|| YtDlpError::parse(&text)),
        }
    }
    match (run.end().await, answer) {
        (End::Exited(status), Some(answer)) if status.success() => Ok(answer),
        (end, _) => Err(error(end, reported)),
    }
}

fn error(end: End, reported: Option<YtDlpError>) -> LookupError {
    match (end, reported) {
        (End::TimedOut, _) => LookupError::TooSlow,
        (End::Exhausted(Exhausted::Disks(reason)), _) => reason.into(),
        (_, Some(YtDlpError { kind: Kind::Other | Kind::Faltering | Kind::Expired, message, .. })) => {
            LookupError::Refused(message)
        }
        (_, Some(YtDlpError { kind: Kind::Unreachable | Kind::Forbidden, .. })) => LookupError::Unreachable,
        _ => LookupError::Unreadable,
    }
}

impl ScratchFolder {
    async fn create(parent: PathBuf) -> Result<Self, LookupError> {
        let path = parent.join(format!("look-{}", Uuid::new_v4()));
        let scratch = Self(path.clone());
        let created = spawn_blocking(move || std::fs::create_dir(path)).await;
        match created {
            Ok(Ok(())) => Ok(scratch),
            _ => Err(LookupError::NotRun),
        }
    }
}

impl Drop for ScratchFolder {
    fn drop(&mut self) {
        let path = std::mem::take(&mut self.0);
        spawn_blocking(move || {
            if let Err(error) = remove(&path) {
                tracing::warn!(path = %path.display(), %error, "a temporary folder could not be removed");
            }
        });
    }
}
