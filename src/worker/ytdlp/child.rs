//! A child process that keeps to itself: nothing inherited, a process group of its own, dead when the worker is.

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
use crate::worker::sandbox::Allowance;

/// How long a child may take to end by itself, where it has no namespace that its keeper ends at once.
const GRACE: Duration = Duration::from_secs(1);

/// This very program, also after its file was replaced by an upgrade.
const OURSELVES: &str = "/proc/self/exe";

/// What yt-dlp, and the ffmpeg that it starts, look for.
const PROXIES: [&str; 2] = ["http_proxy", "https_proxy"];

/// What to run, and where.
pub(crate) struct Confined<'a> {
    pub(crate) tools: &'a Tools,
    pub(crate) program: &'a Path,
    pub(crate) args: Vec<OsString>,
    /// Working folder, home and place of temporary files; nothing else can be written to.
    pub(crate) folder: &'a Path,
    /// What it may read beside its programs.
    pub(crate) reads: &'a [PathBuf],
    pub(crate) allowance: Allowance,
    /// The egress guard's URL, with a pass; None for what has no business outside.
    pub(crate) proxy: Option<String>,
}

/// A running child and everything that it started.
pub(crate) struct Group {
    child: Child,
    id: Pid,
    /// Closed when we are gone; waiting for the child would close it, too, if it were left in there. Its end has the keeper end
    /// everything.
    lifeline: Option<ChildStdin>,
}

impl Confined<'_> {
    /// The helper that stays and keeps the program, which runs confined.
    fn command(self) -> Command {
        let mut command = Command::new(OURSELVES);
        // In the environment, which other users cannot read, and not among the arguments, which they can. No variable exempts
        // any host, since there is no other.
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
            // Held and never written to: its end tells the keeper that this process is gone.
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

    /// Waits until the child ends by itself; what it left running is ended by the keeper.
    pub(crate) async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Asks the group to end, and ends it.
    pub(crate) async fn stop(&mut self) {
        self.signal(Signal::TERM);
        if timeout(GRACE, self.child.wait()).await.is_ok() {
            return;
        }
        drop(self.lifeline.take());
        if timeout(GRACE, self.child.wait()).await.is_err() {
            self.signal(Signal::KILL);
            // A killed process ends; the result says nothing more.
            drop(self.child.wait().await);
        }
    }

    /// A group that is gone already needs no signal. Its id stays taken for as long as one member lives.
    fn signal(&self, signal: Signal) {
        kill_process_group(self.id, signal).ok();
    }
}
