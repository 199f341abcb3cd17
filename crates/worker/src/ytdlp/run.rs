//! One run of a child: its output line by line, and how it ended.

use std::{path::Path, process::ExitStatus};

use futures_util::StreamExt;
use tokio::{
    io::AsyncRead,
    sync::mpsc::{Receiver, Sender, channel},
    task::JoinHandle,
    time::sleep,
};
use tokio_util::{
    codec::{FramedRead, LinesCodec},
    sync::{CancellationToken, DropGuard},
};

use super::{child::Group, limits::Limits};
use crate::{
    disk::{DiskAllowance, Disks, Exhausted},
    sandbox::is_kept,
};

/// The maximum number of unread lines, and of their bytes.
const MAX_WAITING: usize = 64;
const MAX_WAITING_BYTES: usize = 8 << 20;

/// A line of output.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    Out(String),
    Err(String),
}

/// How a run ended.
#[derive(Debug)]
pub(crate) enum End {
    /// The child exited, or a signal from elsewhere ended it.
    Exited(ExitStatus),
    /// The token was cancelled.
    Stopped,
    /// The time limit was reached.
    TimedOut,
    /// The disk space or the size limit was exhausted.
    Exhausted(Exhausted),
    /// The child's status is unknown, or its reaper cannot tell whether it left processes behind.
    Lost,
}

impl End {
    fn of(reaper: ExitStatus) -> Self {
        if is_kept(reaper) {
            return Self::Exited(reaper);
        }
        tracing::error!(%reaper, "cannot tell which processes a child left behind; treating its run as failed");
        Self::Lost
    }
}

/// A running child. Dropping it stops the run.
pub(crate) struct Run {
    lines: Receiver<Line>,
    end: JoinHandle<End>,
    stop: DropGuard,
}

impl Run {
    /// Watches a child that was started in `folder`. It runs until it exits, `stop` is cancelled, or it reaches one of its limits or the
    /// reserve of `disks`.
    pub(super) fn begin(
        mut group: Group,
        folder: &Path,
        limits: Limits,
        disks: &Disks,
        stop: &CancellationToken,
    ) -> Self {
        let Limits { folder: most, line, time, .. } = limits;
        let share = DiskAllowance { folder: folder.to_owned(), most };
        let stop = stop.child_token();
        let disks = disks.clone();
        let (sender, lines) = channel((MAX_WAITING_BYTES / line.max(1)).clamp(1, MAX_WAITING));
        if let Some(stdout) = group.take_stdout() {
            tokio::spawn(forward(stdout, line, Line::Out, sender.clone()));
        }
        if let Some(stderr) = group.take_stderr() {
            tokio::spawn(forward(stderr, line, Line::Err, sender));
        }
        let stopped = stop.clone();
        let early = async move {
            tokio::select! {
                () = stopped.cancelled() => End::Stopped,
                () = sleep(time) => End::TimedOut,
                reason = disks.exhausted(share) => End::Exhausted(reason),
            }
        };
        let end = tokio::spawn(supervise(group, early));
        Self { lines, end, stop: stop.drop_guard() }
    }

    /// Returns the next line; none once the child and all processes that it started have ended.
    pub(crate) async fn next(&mut self) -> Option<Line> {
        self.lines.recv().await
    }

    /// Ends the child and all processes that it started.
    pub(crate) async fn stop(self) {
        let Self { lines, end, stop } = self;
        drop((lines, stop));
        // How it ended does not matter.
        let _ = end.await;
    }

    /// Waits for the end of the run.
    pub(crate) async fn end(self) -> End {
        let Self { lines, end, stop: _still_running } = self;
        drop(lines);
        end.await.unwrap_or(End::Lost)
    }
}

/// Forwards lines. A line that is too long or not UTF-8 ends the reading, and thereby the child, by a broken pipe.
async fn forward(stream: impl AsyncRead + Unpin, max_line: usize, kind: fn(String) -> Line, to: Sender<Line>) {
    let mut lines = FramedRead::new(stream, LinesCodec::new_with_max_length(max_line));
    while let Some(Ok(line)) = lines.next().await {
        if to.send(kind(line)).await.is_err() {
            return;
        }
    }
}

/// Waits for the child. `early` completes if the child has to be stopped before it exits.
async fn supervise(mut group: Group, early: impl Future<Output = End>) -> End {
    let end = tokio::select! {
        status = group.wait() => return status.map_or(End::Lost, End::of),
        end = early => end,
    };
    group.stop().await;
    end
}
