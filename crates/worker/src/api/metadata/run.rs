//! One run of yt-dlp in its own folder; its output is one line of JSON.

use std::path::PathBuf;

use bytes::Bytes;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{LookError, Question};
use crate::{
    disk::Exhausted,
    jobs::context::JobContext,
    media::removal::remove,
    ytdlp::{End, Kind, Limits, Line, Run, SandboxedRun, YtDlpError},
};

/// The largest answer of yt-dlp: the metadata of one page, in bytes.
const MAX_ANSWER: usize = 8 << 20;

/// The most bytes that a run may fetch: enough for pages, but not for media.
const MAX_BYTES: u64 = 64 << 20;

/// A folder that is removed on drop.
struct Scratch(PathBuf);

/// Runs yt-dlp for a question. Dropping the future ends the run.
pub(super) async fn run(
    context: &JobContext,
    question: &Question,
    stop: &CancellationToken,
) -> Result<Bytes, LookError> {
    let tools = context.readiness.tools().await?;
    context.disks.room().await?;
    let scratch = Scratch::make(context.media.jobs()).await?;
    let args = question.args(&tools);
    let limits = Limits { line: MAX_ANSWER, ..Limits::scratch(context.config.info_timeout) };
    let run = SandboxedRun::yt_dlp(&tools, args, &scratch.0, limits);
    let run = run.online(&context.egress_tokens, Uuid::new_v4(), MAX_BYTES);
    let run = run.start(&context.disks, stop).map_err(|error| {
        tracing::error!(%error, "yt-dlp could not be started");
        LookError::NotRun
    })?;
    answer(run, question).await
}

async fn answer(mut run: Run, question: &Question) -> Result<Bytes, LookError> {
    let mut answer = None;
    let mut reported = None;
    while let Some(line) = run.next().await {
        match line {
            Line::Out(json) => answer = answer.or_else(|| question.read(&json)),
            Line::Err(text) => reported = reported.or_else(|| YtDlpError::of(&text)),
        }
    }
    match (run.end().await, answer) {
        (End::Exited(status), Some(answer)) if status.success() => Ok(answer),
        (end, _) => Err(error(end, reported)),
    }
}

fn error(end: End, reported: Option<YtDlpError>) -> LookError {
    match (end, reported) {
        (End::TimedOut, _) => LookError::TooSlow,
        (End::Exhausted(Exhausted::Disks(reason)), _) => reason.into(),
        (_, Some(YtDlpError { kind: Kind::Other | Kind::Faltering | Kind::Expired, message, .. })) => {
            LookError::Refused(message)
        }
        (_, Some(YtDlpError { kind: Kind::Unreachable | Kind::Forbidden, .. })) => LookError::Unreachable,
        _ => LookError::Unreadable,
    }
}

impl Scratch {
    async fn make(parent: PathBuf) -> Result<Self, LookError> {
        let path = parent.join(format!("look-{}", Uuid::new_v4()));
        let scratch = Self(path.clone());
        let made = spawn_blocking(move || std::fs::create_dir(path)).await;
        match made {
            Ok(Ok(())) => Ok(scratch),
            _ => Err(LookError::NotRun),
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let path = std::mem::take(&mut self.0);
        spawn_blocking(move || {
            if let Err(error) = remove(&path) {
                tracing::warn!(path = %path.display(), %error, "a temporary folder could not be removed");
            }
        });
    }
}
