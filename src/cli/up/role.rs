//! One role under `sallyport up`: the process that serves, its successor, and the processes that are finishing their work.

use std::{
    env,
    ffi::OsString,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use sallyport_core::supervision::shutdown::signalled;
use tokio::{
    process::{Child, Command},
    time::Instant,
};
use tracing::{info, warn};

use super::backoff::Backoff;
use crate::cli::CONFINE;

/// If a role is not ready within this time, its start has failed.
const START_TIMEOUT: Duration = Duration::from_mins(1);

/// Starts the processes of all roles.
pub(super) struct Launcher {
    program: OsString,
    config: PathBuf,
    notices: PathBuf,
}

/// A role and its processes.
pub(super) struct ManagedRole {
    pub(super) name: &'static str,
    /// The listening socket, for a role whose socket `up` holds.
    socket: Option<OwnedFd>,
    serving: Option<Process>,
    starting: Option<Process>,
    leaving: Vec<Process>,
    /// Whether a process of this role has served. From then on, the role is restarted however often it ends.
    has_served: bool,
    backoff: Backoff,
    paused_until: Option<Instant>,
}

/// One child process.
pub(super) struct Process {
    pid: u32,
    child: Child,
    since: Instant,
    /// Whether it has handed its data over to its successor.
    released: bool,
}

/// Which kind of process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// A successor; the process that it was to replace still serves.
    Successor,
    /// The process that served, or the only one that was starting, after it ran for this long.
    Unexpectedly(Duration),
    /// A process that was told to end, or that was replaced.
    AsItShould,
    /// Not a process of this role.
    Unknown,
}

impl Launcher {
    /// Creates a launcher whose processes read the configuration in `config` and report their state to `notices`.
    pub(super) fn new(config: &Path, notices: &Path) -> Result<Self> {
        // By name, because a newer version may have replaced the file of this process.
        let program = env::args_os().next().context("cannot determine the name of this program: argv[0] is missing")?;
        Ok(Self { program, config: config.to_owned(), notices: notices.to_owned() })
    }

    fn start(&self, role: &ManagedRole) -> Result<Process> {
        let input = role.socket.as_ref().map(OwnedFd::try_clone).transpose()?;
        let child = Command::new(&self.program)
            .args([CONFINE, "--parent", &std::process::id().to_string(), "--"])
            .arg(&self.program)
            .arg(role.name)
            .arg("--config")
            .arg(&self.config)
            .env("NOTIFY_SOCKET", &self.notices)
            .stdin(input.map_or_else(Stdio::null, Stdio::from))
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start the {}", role.name))?;
        let pid = child.id().with_context(|| format!("the {} ended immediately", role.name))?;
        Ok(Process { pid, child, since: Instant::now(), released: false })
    }
}

impl ManagedRole {
    /// Creates a role without a process.
    pub(super) fn new(name: &'static str, socket: Option<OwnedFd>) -> Self {
        Self {
            name,
            socket,
            serving: None,
            starting: None,
            leaving: Vec::new(),
            has_served: false,
            backoff: Backoff::default(),
            paused_until: None,
        }
    }

    pub(super) fn is_serving(&self) -> bool {
        self.serving.is_some()
    }

    pub(super) fn is_serving_as(&self, pid: u32) -> bool {
        self.serving.as_ref().is_some_and(|process| process.pid == pid)
    }

    pub(super) fn has_served(&self) -> bool {
        self.has_served
    }

    pub(super) fn is_starting(&self) -> bool {
        self.starting.is_some()
    }

    pub(super) fn has(&self, pid: u32) -> bool {
        self.serving.iter().chain(&self.starting).chain(&self.leaving).any(|process| process.pid == pid)
    }

    pub(super) fn processes(&mut self) -> impl Iterator<Item = &mut Process> {
        self.serving.iter_mut().chain(&mut self.starting).chain(&mut self.leaving)
    }

    /// When the role must be checked again, even if nothing happens until then.
    pub(super) fn due(&self) -> Option<Instant> {
        let deadline = self.starting.as_ref().map(|process| process.since + START_TIMEOUT);
        [self.paused_until, deadline].into_iter().flatten().min()
    }

    /// Kills a process that takes too long to start.
    pub(super) fn give_up_on_the_slow(&mut self) {
        if let Some(slow) = self.starting.as_mut().filter(|process| process.since.elapsed() >= START_TIMEOUT) {
            warn!(pid = slow.pid, "the {} was not ready after {START_TIMEOUT:?}; killing it", self.name);
            let _ = slow.child.start_kill();
            // The report of its end arrives soon; until then, do not kill it again.
            slow.since = Instant::now();
        }
    }

    /// Starts a process if none serves or is starting and the previous one has released its data. If the system is short of memory or processes, a
    /// role that has served is started again later.
    pub(super) fn start_if_missing(&mut self, launcher: &Launcher) -> Result<()> {
        if self.paused_until.is_some_and(|until| Instant::now() < until) {
            return Ok(());
        }
        self.paused_until = None;
        let held = self.socket.is_some() && self.leaving.iter().any(|process| !process.released);
        if self.serving.is_none() && self.starting.is_none() && !held {
            match launcher.start(self) {
                Ok(process) => self.starting = Some(process),
                Err(error) if self.has_served => self.put_off(Duration::ZERO, &format!("{error:#}")),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Starts the successor of the process that serves.
    pub(super) fn start_successor(&mut self, launcher: &Launcher) -> Result<()> {
        if self.starting.is_none() {
            let successor = launcher.start(self)?;
            info!(pid = successor.pid, "starting the new {}", self.name);
            self.starting = Some(successor);
        }
        Ok(())
    }

    /// Asks the process that serves to finish its work and end.
    pub(super) fn retire(&mut self) {
        if let Some(process) = self.serving.take() {
            process.ask_to_end();
            self.leaving.push(process);
        }
    }

    /// Forwards a SIGHUP to the process that serves. A process that is starting reads everything anyway, and may not handle the signal yet.
    pub(super) fn pass_hangup_on(&self) {
        if let Some(process) = &self.serving {
            process.signal(Signal::HUP);
        }
    }

    pub(super) fn note_ready(&mut self, pid: u32) {
        if let Some(ready) = self.starting.take_if(|process| process.pid == pid) {
            self.leaving.extend(self.serving.replace(ready));
            self.has_served = true;
        }
    }

    pub(super) fn note_release(&mut self, pid: u32) {
        if let Some(process) = self.processes().find(|process| process.pid == pid) {
            process.released = true;
        }
    }

    pub(super) fn note_end(&mut self, pid: u32) -> Ended {
        let is_it = |process: &mut Process| process.pid == pid;
        if let Some(process) = self.starting.take_if(is_it) {
            return if self.is_serving() { Ended::Successor } else { Ended::Unexpectedly(process.since.elapsed()) };
        }
        if let Some(process) = self.serving.take_if(is_it) {
            return Ended::Unexpectedly(process.since.elapsed());
        }
        match self.leaving.iter().position(|process| process.pid == pid) {
            Some(place) => {
                self.leaving.swap_remove(place);
                Ended::AsItShould
            }
            None => Ended::Unknown,
        }
    }

    /// Schedules the next start, after a process that ran for `ran`.
    pub(super) fn put_off(&mut self, ran: Duration, why: &str) {
        let wait = self.backoff.after(ran);
        warn!("{why}; restarting the {} in {wait:?}", self.name);
        self.paused_until = Some(Instant::now() + wait);
    }

    /// Asks all of its processes to end, and waits. A second Ctrl-C or the processes' own drain limit ends the wait.
    pub(super) async fn end(mut self) {
        self.processes().for_each(|process| process.ask_to_end());
        let all_ended = async {
            for process in self.processes() {
                let _ = process.child.wait().await;
            }
        };
        tokio::select! {
            () = all_ended => {}
            // Dropping the processes kills them.
            () = signalled() => {}
        }
    }
}

impl Process {
    /// Waits for the process to end.
    pub(super) async fn ended(&mut self) -> io::Result<(u32, ExitStatus)> {
        Ok((self.pid, self.child.wait().await?))
    }

    fn ask_to_end(&self) {
        self.signal(Signal::TERM);
    }

    fn signal(&self, signal: Signal) {
        // Only a child that was not waited for has an ID, so no other process can have the ID.
        if let Some(pid) = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
            let _ = kill_process(pid, signal);
        }
    }
}
