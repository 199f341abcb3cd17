//! An isolated child process: it inherits nothing, has its own process group, and dies with the worker.

use std::{io, process::ExitStatus, time::Duration};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
    time::timeout,
};

/// How long a child may take to end after SIGTERM, if it has no namespace that its reaper ends at once.
const GRACE: Duration = Duration::from_secs(1);

/// A running child and everything that it started.
pub(crate) struct Group {
    child: Child,
    id: Pid,
    /// Closes when this process ends, which makes the reaper end everything. Taken out of `child`, because waiting for the child would
    /// close it as well.
    lifeline: Option<ChildStdin>,
}

impl Group {
    /// Starts the reaper that `command` describes. Its standard input must be a pipe.
    pub(super) fn spawn(mut command: Command) -> io::Result<Self> {
        let mut child = command.spawn()?;
        let lifeline = child.stdin.take();
        let id = child.id().and_then(|id| Pid::from_raw(id.cast_signed())).ok_or(io::ErrorKind::NotFound)?;
        Ok(Self { child, id, lifeline })
    }

    pub(crate) fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    pub(crate) fn take_stderr(&mut self) -> Option<ChildStderr> {
        self.child.stderr.take()
    }

    /// Waits until the child ends. The reaper ends whatever it left running.
    pub(crate) async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Asks the group to end, then kills it.
    pub(crate) async fn stop(&mut self) {
        self.signal(Signal::TERM);
        if timeout(GRACE, self.child.wait()).await.is_ok() {
            return;
        }
        drop(self.lifeline.take());
        if timeout(GRACE, self.child.wait()).await.is_err() {
            self.signal(Signal::KILL);
            // A killed process does end; its status does not matter.
            let _ = self.child.wait().await;
        }
    }

    /// Sends a signal; a group that has already ended needs none. Its id is not reused as long as a member lives.
    fn signal(&self, signal: Signal) {
        let _ = kill_process_group(self.id, signal);
    }
}
