//! `sallyport up`: runs worker and gateway under one process, ends them together and replaces them without a gap.

mod backoff;
mod notices;
mod role;

use std::{
    convert::Infallible,
    future::pending,
    io::{self, IsTerminal},
    path::Path,
    process::ExitStatus,
    time::Duration,
};

use anyhow::{Result, bail};
use futures_util::future::select_all;
use sallyport_core::{
    config::{self, Config, Upstream},
    secrets::secret_file,
    sockets::inherited::Sockets,
    supervision::{InstanceLock, Notification, shutdown::signalled},
};
use sallyport_gateway::{
    lifecycle::control,
    observe,
    policy::{self, Site},
};
use tokio::{
    runtime::Builder,
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, sleep_until},
};
use tracing::{info, warn};

use self::{
    notices::Notices,
    role::{Ended, Launcher, ManagedRole},
};
use super::{
    preflight::{self, Depth, PortWait, Roles},
    trust::page_url,
};

/// The children of an `up` that was killed a moment ago may still hold ports.
const PORT_WAIT: PortWait = PortWait(Duration::from_secs(3));

/// Runs both roles until a signal to stop.
pub(super) fn run(path: &Path) -> Result<()> {
    let Ok((config, site)) = understood(path) else { bail!(refusal(path)) };
    if secret_file::create_private_dir(&config.data_dir).is_err() {
        bail!(refusal(path));
    }
    observe::tracing::start(&config.log.level);
    let _tenure = InstanceLock::take(&config.data_dir, || control::running(&config.data_dir))?;
    // From here on no other process runs this instance, so any process that holds its ports is in the way.
    let found = preflight::inspect(path, Depth::Start(PORT_WAIT), Roles::Both);
    if !found.faults.is_empty() {
        bail!(not_started(&found.faults));
    }
    found.warnings.iter().for_each(|warning| warn!("{warning}"));
    // One thread: the kernel kills the children started here when the thread that started them ends.
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(supervise(path, &config, &site))
}

fn understood(path: &Path) -> Result<(Config, Site), config::Diagnostics> {
    let config = config::load(path)?;
    let site = policy::compile(&config)?;
    Ok((config, site))
}

/// Describes everything that prevents a start.
fn refusal(path: &Path) -> String {
    not_started(&preflight::inspect(path, Depth::Start(PortWait(Duration::ZERO)), Roles::Both).faults)
}

fn not_started(faults: &[String]) -> String {
    format!("not started; fix this first:\n{}", faults.join("\n"))
}

async fn supervise(path: &Path, config: &Config, site: &Site) -> Result<()> {
    let mut supervisor = RoleSupervisor::new(path, config, site)?;
    let ended = tokio::select! {
        () = signalled() => Ok(()),
        failed = supervisor.run() => failed.map(|never| match never {}),
    };
    supervisor.end().await;
    ended
}

/// All processes under this `up`.
struct RoleSupervisor {
    url: String,
    /// Where devices learn how to trust the certificate, if they have to.
    trust_page: Option<String>,
    launcher: Launcher,
    notices: Notices,
    /// Requests successors of all roles.
    renew: Signal,
    /// Requests that all roles reload what they can.
    hangup: Signal,
    terminal: Terminal,
    worker: Option<ManagedRole>,
    gateway: ManagedRole,
    progress: Progress,
}

/// The transition that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// Not every role has served yet; if one fails, all end.
    Starting,
    /// No transition is under way.
    Serving,
    /// A new gateway is starting and will take over; the worker is next.
    Renewing,
}

/// Whether `up` was started in a terminal. Closing the terminal also sends SIGHUP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Terminal {
    Ours,
    None,
}

impl Terminal {
    fn at_start() -> Self {
        if io::stderr().is_terminal() { Self::Ours } else { Self::None }
    }

    fn is_lost(self) -> bool {
        self == Self::Ours && !io::stderr().is_terminal()
    }
}

enum Event {
    Notified(u32, Notification),
    Ended(u32, ExitStatus),
    RenewalWanted,
    HungUp,
    /// A deadline has passed.
    Due,
}

impl RoleSupervisor {
    fn new(path: &Path, config: &Config, site: &Site) -> Result<Self> {
        let notices = Notices::listen(&config.data_dir)?;
        let launcher = Launcher::new(path, notices.path())?;
        let worker = if site.needs_worker(&config.worker.listen) {
            // The socket is held here so that clients that connect between two workers wait instead of being refused.
            Some(ManagedRole::new("worker", Some(listen(&config.worker.listen)?)))
        } else {
            None
        };
        Ok(Self {
            url: config.public_url.to_string(),
            trust_page: page_url(config),
            launcher,
            notices,
            renew: signal(SignalKind::user_defined2())?,
            hangup: signal(SignalKind::hangup())?,
            terminal: Terminal::at_start(),
            worker,
            gateway: ManagedRole::new("gateway", None),
            progress: Progress::Starting,
        })
    }

    /// Keeps starting what is missing. A role that has served once is restarted indefinitely, so that its failure does not end the other.
    async fn run(&mut self) -> Result<Infallible> {
        loop {
            self.start_what_is_missing()?;
            match self.next().await? {
                Event::Notified(pid, notification) => self.hear(pid, notification)?,
                Event::Ended(pid, status) => self.note_end(pid, status)?,
                Event::RenewalWanted => self.renew(),
                Event::HungUp if self.terminal.is_lost() => bail!("the terminal was closed"),
                Event::HungUp => self.roles().for_each(|role| role.pass_hangup_on()),
                Event::Due => {}
            }
        }
    }

    async fn next(&mut self) -> Result<Event> {
        let due = self.roles().filter_map(|role| role.due()).min();
        let Self { notices, renew, hangup, worker, gateway, .. } = self;
        tokio::select! {
            biased;
            // What a process reported comes before its end.
            notified = notices.next() => notified.map(|(pid, notification)| Event::Notified(pid, notification)),
            _ = renew.recv() => Ok(Event::RenewalWanted),
            _ = hangup.recv() => Ok(Event::HungUp),
            ended = any_end(worker.iter_mut().chain([gateway])) => ended.map(|(pid, status)| Event::Ended(pid, status)),
            () = wait_until(due) => Ok(Event::Due),
        }
    }

    fn start_what_is_missing(&mut self) -> Result<()> {
        for role in self.roles() {
            role.give_up_on_the_slow();
        }
        if let Some(worker) = &mut self.worker {
            worker.start_if_missing(&self.launcher)?;
        }
        // The ports open once the worker has answered. From then on, the roles are independent.
        if self.worker.as_ref().is_none_or(ManagedRole::has_served) {
            self.gateway.start_if_missing(&self.launcher)?;
        }
        Ok(())
    }

    fn hear(&mut self, pid: u32, notification: Notification) -> Result<()> {
        match notification {
            Notification::Ready => self.note_ready(pid),
            Notification::Released => self.roles().for_each(|role| role.note_release(pid)),
            Notification::WantsSuccessor if self.gateway.has(pid) => self.renew(),
            Notification::SucceededBy(heir) if self.gateway.has(pid) && !self.gateway.has(heir) => {
                bail!(
                    "process {heir}, which this `sallyport up` did not start, has taken over the gateway's ports; shutting down"
                )
            }
            Notification::WantsSuccessor | Notification::SucceededBy(_) => {}
        }
        Ok(())
    }

    fn note_ready(&mut self, pid: u32) {
        self.roles().for_each(|role| role.note_ready(pid));
        let all_have_served = self.roles().all(|role| role.has_served());
        match self.progress {
            Progress::Starting if all_have_served => {
                self.progress = Progress::Serving;
                info!(url = %self.url, "started");
                if let Some(url) = &self.trust_page {
                    info!(%url, "open this page on other devices to trust the certificate");
                }
                Notification::Ready.tell();
            }
            Progress::Renewing if self.gateway.is_serving_as(pid) => {
                self.progress = Progress::Serving;
                info!("the new gateway is serving");
                if let Some(worker) = &mut self.worker {
                    worker.retire();
                }
            }
            _ => {}
        }
    }

    /// Starts a new gateway to take over; once it serves, a new worker follows.
    fn renew(&mut self) {
        if self.progress == Progress::Serving {
            match self.gateway.start_successor(&self.launcher) {
                Ok(()) => self.progress = Progress::Renewing,
                Err(error) => warn!("{error:#}; the running gateway keeps serving"),
            }
        }
    }

    fn note_end(&mut self, pid: u32, status: ExitStatus) -> Result<()> {
        for role in self.roles() {
            match role.note_end(pid) {
                Ended::Successor => {
                    warn!(%status, "the new {} exited before it was ready; the old one keeps serving", role.name);
                }
                Ended::Unexpectedly(ran) if role.has_served() => {
                    let why = format!("the {} exited ({status})", role.name);
                    role.put_off(ran, &why);
                }
                Ended::Unexpectedly(_) => bail!("the {} exited during startup ({status})", role.name),
                Ended::AsItShould | Ended::Unknown => {}
            }
        }
        if self.progress == Progress::Renewing && !self.gateway.is_starting() {
            self.progress = Progress::Serving;
        }
        Ok(())
    }

    fn roles(&mut self) -> impl Iterator<Item = &mut ManagedRole> {
        self.worker.iter_mut().chain([&mut self.gateway])
    }

    /// Ends the gateway first, so that the requests that it still forwards reach the worker.
    async fn end(self) {
        self.gateway.end().await;
        if let Some(worker) = self.worker {
            worker.end().await;
        }
    }
}

async fn any_end(roles: impl Iterator<Item = &mut ManagedRole>) -> Result<(u32, ExitStatus)> {
    let waits: Vec<_> = roles.flat_map(ManagedRole::processes).map(|process| Box::pin(process.ended())).collect();
    if waits.is_empty() {
        return pending().await;
    }
    Ok(select_all(waits).await.0?)
}

async fn wait_until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => pending().await,
    }
}

fn listen(at: &Upstream) -> Result<std::os::fd::OwnedFd> {
    let mut sockets = Sockets::default();
    Ok(match at {
        Upstream::Tcp(address) => sockets.tcp(*address)?.into_std()?.into(),
        Upstream::Unix(path) => sockets.unix(path)?.into_std()?.into(),
    })
}
