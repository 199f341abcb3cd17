//! What a child has reported so far, and the outcome that follows from it.

use std::path::PathBuf;

use super::failure::Failure;
use crate::{
    tasks::{id::TaskId, premiere::Premiere, task::Task},
    ytdlp::{End, Line, Tracks, YtDlpError, for_the_log},
};

/// How many error lines of one run are logged, and how many characters of each.
const LOGGED: usize = 5;
const LOGGED_CHARS: usize = 500;

/// What a child has reported so far.
#[derive(Default)]
pub(super) struct ChildOutput {
    pub(super) described: bool,
    pub(super) tracks: Tracks,
    pub(super) premiere: Option<Premiere>,
    logged: usize,
    pub(super) reported: Option<PathBuf>,
    error: Option<YtDlpError>,
}

impl ChildOutput {
    /// Keeps the first error and logs the first few error lines.
    pub(super) fn record(&mut self, id: TaskId, line: &Line) {
        let Line::Err(text) = line else { return };
        if self.error.is_none() {
            self.error = YtDlpError::parse(text);
        }
        if text.starts_with("ERROR:") && self.logged < LOGGED {
            self.logged += 1;
            tracing::warn!(task = %id, text = for_the_log(text, LOGGED_CHARS), "yt-dlp");
        }
    }

    /// Returns the reported file, or why there is none.
    pub(super) fn judge(mut self, end: End, task: &Task) -> Result<PathBuf, Failure> {
        match (&end, self.reported.take(), self.premiere) {
            (End::Exited(_), Some(path), _) => Ok(path),
            (End::Exited(_), None, Some(begins @ Premiere::Begins(_))) => Err(Failure::Awaited(begins)),
            // A live source is refused, unless it was still announced at an earlier attempt.
            (End::Exited(_), None, Some(Premiere::Live)) if task.announced => Err(Failure::Awaited(Premiere::Live)),
            _ => self.require_success(end).and(Err(Failure::NotTaken)),
        }
    }

    /// Fails unless the child exited successfully and yt-dlp reported no error.
    pub(super) fn require_success(self, end: End) -> Result<(), Failure> {
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
