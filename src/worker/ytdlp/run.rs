//! One run of a child: its lines as they come, and how it ended.

use std::{io, process::ExitStatus, time::Duration};

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

use super::child::{Confined, Group};
use crate::worker::{
    disk::{Disks, Exhausted, Share},
    sandbox::is_kept,
};

/// Lines that nobody has taken yet, together at most: in number, and in bytes.
const MAX_WAITING: usize = 64;
const MAX_WAITING_BYTES: usize = 8 << 20;

/// A line of output.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    Out(String),
    Err(String),
}

/// What a run may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds<'a> {
    /// What is left alone of these ends the run when it is touched.
    pub(crate) disks: &'a Disks,
    /// Of all files in its folder together, in bytes.
    pub(crate) most: u64,
    /// A longer line, in bytes, ends the reading.
    pub(crate) line: usize,
    pub(crate) time: Duration,
}

/// How a run ended.
#[derive(Debug)]
pub(crate) enum End {
    /// By itself, or by somebody else's signal.
    Exited(ExitStatus),
    /// Because the token was cancelled.
    Stopped,
    /// Because its time was up.
    TimedOut,
    /// Because its room was.
    Exhausted(Exhausted),
    /// The system lost it, or its keeper does not know what is left of it.
    Lost,
}

impl End {
    fn of(keeper: ExitStatus) -> Self {
        if is_kept(keeper) {
            return Self::Exited(keeper);
        }
        tracing::error!(%keeper, "it is not known what a child has left, so it counts as lost");
        Self::Lost
    }
}

/// A run under way; dropped, it stops.
pub(crate) struct Run {
    lines: Receiver<Line>,
    end: JoinHandle<End>,
    stop: DropGuard,
}

impl Run {
    /// Starts the child; it runs until it ends, `stop` is cancelled or one of its bounds is reached.
    pub(crate) fn start(confined: Confined<'_>, bounds: Bounds<'_>, stop: &CancellationToken) -> io::Result<Self> {
        let Bounds { disks, most, line, time } = bounds;
        let (stop, disks, share) =
            (stop.child_token(), disks.clone(), Share { folder: confined.folder.to_owned(), most });
        let mut group = Group::spawn(confined)?;
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
        Ok(Self { lines, end, stop: stop.drop_guard() })
    }

    /// The next line; none when the child and everything that it started are gone.
    pub(crate) async fn next(&mut self) -> Option<Line> {
        self.lines.recv().await
    }

    /// Ends it, and everything that it started.
    pub(crate) async fn stop(self) {
        let Self { lines, end, stop } = self;
        drop((lines, stop));
        // It ended in one way or another.
        drop(end.await);
    }

    /// How it ended.
    pub(crate) async fn end(self) -> End {
        let Self { lines, end, stop: _still_running } = self;
        drop(lines);
        end.await.unwrap_or(End::Lost)
    }
}

/// A line that is too long or no text ends the reading, and so, by a broken pipe, the child.
async fn forward(stream: impl AsyncRead + Unpin, max_line: usize, kind: fn(String) -> Line, to: Sender<Line>) {
    let mut lines = FramedRead::new(stream, LinesCodec::new_with_max_length(max_line));
    while let Some(Ok(line)) = lines.next().await {
        if to.send(kind(line)).await.is_err() {
            return;
        }
    }
}

/// `early` is done when the child is to end before it does by itself.
async fn supervise(mut group: Group, early: impl Future<Output = End>) -> End {
    let end = tokio::select! {
        status = group.wait() => return status.map_or(End::Lost, End::of),
        end = early => end,
    };
    group.stop().await;
    end
}
