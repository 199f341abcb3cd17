//! An isolated child process: it inherits nothing, has its own process group, and dies with the worker.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use super::tools::Tools;
use crate::sandbox::Allowance;

/// How long a child may take to end after SIGTERM, if it has no namespace that its reaper ends at once.
const GRACE: Duration = Duration::from_secs(1);

/// The running program, even after an upgrade has replaced its file.
const OURSELVES: &str = "/proc/self/exe";

/// The proxy variables of yt-dlp and of the ffmpeg that it starts.
const PROXIES: [&str; 2] = ["http_proxy", "https_proxy"];

/// What to run, and where.
pub(crate) struct Confined<'a> {
    pub(crate) tools: &'a Tools,
    pub(crate) program: &'a Path,
    pub(crate) args: Vec<OsString>,
    /// The working folder, home and folder for temporary files; the only one that the child can write to.
    pub(crate) folder: &'a Path,
    /// What the child may read besides its programs.
    pub(crate) reads: &'a [PathBuf],
    pub(crate) allowance: Allowance,
    /// The egress guard's URL, with an egress token; None for a child that needs no network.
    pub(crate) proxy: Option<String>,
}

/// A running child and everything that it started.
pub(crate) struct Group {
    child: Child,
    id: Pid,
    /// Closes when this process ends, which makes the reaper end everything. Taken out of `child`, because waiting for the child would
    /// close it as well.
    lifeline: Option<ChildStdin>,
}

impl Confined<'_> {
    /// The command of the reaper, which runs the program in its confinement.
    fn command(self) -> Command {
        let mut command = Command::new(OURSELVES);
        // The proxy goes into the environment, which other users of the machine cannot read, unlike arguments. The environment is
        // otherwise cleared, so no variable exempts a host from the proxy.
        let proxies = self.proxy.iter().flat_map(|url| PROXIES.map(|name| (name, url)));
        let readable = self.tools.readable.iter().chain(self.reads);
        command
            .args(self.tools.sandbox.arguments(self.folder, readable, self.allowance))
            .arg(self.program)
            .args(self.args)
            .env_clear()
            .envs(proxies)
            .env("PATH", &self.tools.path)
            .env("HOME", self.folder)
            .env("TMPDIR", self.folder)
            .env("XDG_CONFIG_HOME", self.folder.join("none"))
            .env("LANG", "C.UTF-8")
            .current_dir(self.folder)
            // Held open and never written to: when it closes, the reaper knows that this process has ended.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        command
    }
}

impl Group {
    pub(crate) fn spawn(confined: Confined<'_>) -> io::Result<Self> {
        let mut child = confined.command().spawn()?;
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
            drop(self.child.wait().await);
        }
    }

    /// Sends a signal; a group that has already ended needs none. Its id is not reused as long as a member lives.
    fn signal(&self, signal: Signal) {
        kill_process_group(self.id, signal).ok();
    }
}
