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

/// A line of output.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    Out(String),
    Err(String),
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
    /// The system lost it.
    Lost,
}

/// A run under way; dropped, it stops.
pub(crate) struct Run {
    lines: Receiver<Line>,
    end: JoinHandle<End>,
    stop: DropGuard,
}

impl Run {
    /// Starts the child; it runs until it ends, `stop` is cancelled or `time` is over.
    pub(crate) fn start(
        confined: Confined<'_>,
        max_line: usize,
        stop: &CancellationToken,
        time: Duration,
    ) -> io::Result<Self> {
        let stop = stop.child_token();
        let mut group = Group::spawn(confined)?;
        let (sender, lines) = channel(64);
        if let Some(stdout) = group.take_stdout() {
            tokio::spawn(forward(stdout, max_line, Line::Out, sender.clone()));
        }
        if let Some(stderr) = group.take_stderr() {
            tokio::spawn(forward(stderr, max_line, Line::Err, sender));
        }
        let end = tokio::spawn(supervise(group, stop.clone(), time));
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

async fn supervise(mut group: Group, stop: CancellationToken, time: Duration) -> End {
    let end = tokio::select! {
        status = group.wait() => return status.map_or(End::Lost, End::Exited),
        () = stop.cancelled() => End::Stopped,
        () = sleep(time) => End::TimedOut,
    };
    group.stop().await;
    end
}
