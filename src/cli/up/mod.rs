//! `sallyport up`: worker and gateway under one process, which all end together, and which follow each other without a gap.

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
use tokio::{
    runtime::Builder,
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, sleep_until},
};
use tracing::{info, warn};

use self::{
    notices::Notices,
    role::{Ended, Launcher, Role},
};
use super::{
    preflight::{self, Depth, Patience, Roles},
    trust::page_url,
};
use crate::{
    config::{self, Config, Upstream},
    edge::sockets::Sockets,
    gateway::control,
    observe,
    policy::{self, Site},
    secret_file,
    stop::signalled,
    supervision::{Tenure, Word},
};

/// Children of an `up` that was killed a moment ago may still hold ports.
const PORTS_PATIENCE: Patience = Patience(Duration::from_secs(3));

/// Runs both roles until a signal.
pub(super) fn run(path: &Path) -> Result<()> {
    let Ok((config, site)) = understood(path) else { bail!(refusal(path)) };
    if secret_file::create_private_dir(&config.data_dir).is_err() {
        bail!(refusal(path));
    }
    observe::tracing::start(&config.log.level);
    let _tenure = Tenure::take(&config.data_dir, || control::running(&config.data_dir))?;
    // By now nobody else runs here, so whoever has our ports is in the way.
    let found = preflight::inspect(path, Depth::Start(PORTS_PATIENCE), Roles::Both);
    if !found.faults.is_empty() {
        bail!(not_started(&found.faults));
    }
    found.warnings.iter().for_each(|warning| warn!("{warning}"));
    // One thread: what is started here is killed by the kernel when the thread that started it ends.
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(supervise(path, &config, &site))
}

fn understood(path: &Path) -> Result<(Config, Site), config::Diagnostics> {
    let config = config::load(path)?;
    let site = policy::compile(&config)?;
    Ok((config, site))
}

/// Everything that is in the way of a start, where something is.
fn refusal(path: &Path) -> String {
    not_started(&preflight::inspect(path, Depth::Start(Patience(Duration::ZERO)), Roles::Both).faults)
}

fn not_started(faults: &[String]) -> String {
    format!("not started; mend this first:\n{}", faults.join("\n"))
}

async fn supervise(path: &Path, config: &Config, site: &Site) -> Result<()> {
    let mut household = Household::new(path, config, site)?;
    let ended = tokio::select! {
        () = signalled() => Ok(()),
        failed = household.run() => failed.map(|never| match never {}),
    };
    household.end().await;
    ended
}

/// All that runs under this process.
struct Household {
    url: String,
    /// How to trust the certificate, where that takes something.
    trust_page: Option<String>,
    launcher: Launcher,
    notices: Notices,
    /// Asks for successors of all roles.
    renew: Signal,
    /// Asks all roles to read anew what they can.
    hangup: Signal,
    terminal: Terminal,
    worker: Option<Role>,
    gateway: Role,
    progress: Progress,
}

/// What is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// Not every role has served yet; one that fails ends all.
    Starting,
    /// Nothing.
    Serving,
    /// A gateway starts that is to take over; the worker is next.
    Renewing,
}

/// Whether this was started in a terminal. When that is closed, its end is told by SIGHUP as well.
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

enum Happening {
    Told(u32, Word),
    Ended(u32, ExitStatus),
    RenewalWanted,
    HungUp,
    /// Something has waited long enough.
    Due,
}

impl Household {
    fn new(path: &Path, config: &Config, site: &Site) -> Result<Self> {
        let notices = Notices::listen(&config.data_dir)?;
        let launcher = Launcher::new(path, notices.path())?;
        let worker = if site.needs_worker(&config.worker.listen) {
            // Held here, so that who comes between two workers waits and is not refused.
            Some(Role::new("worker", Some(listen(&config.worker.listen)?)))
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
            gateway: Role::new("gateway", None),
            progress: Progress::Starting,
        })
    }

    /// Starts what is missing, again and again. A role that has served once is started for as long as it takes, so that one that
    /// fails takes no other with it.
    async fn run(&mut self) -> Result<Infallible> {
        loop {
            self.start_what_is_missing()?;
            match self.next().await? {
                Happening::Told(pid, word) => self.hear(pid, word)?,
                Happening::Ended(pid, status) => self.note_end(pid, status)?,
                Happening::RenewalWanted => self.renew(),
                Happening::HungUp if self.terminal.is_lost() => bail!("the terminal is gone"),
                Happening::HungUp => self.roles().for_each(|role| role.pass_hangup_on()),
                Happening::Due => {}
            }
        }
    }

    async fn next(&mut self) -> Result<Happening> {
        let due = self.roles().filter_map(|role| role.due()).min();
        let Self { notices, renew, hangup, worker, gateway, .. } = self;
        tokio::select! {
            biased;
            // Before its end, what somebody has said.
            told = notices.next() => told.map(|(pid, word)| Happening::Told(pid, word)),
            _ = renew.recv() => Ok(Happening::RenewalWanted),
            _ = hangup.recv() => Ok(Happening::HungUp),
            ended = any_end(worker.iter_mut().chain([gateway])) => ended.map(|(pid, status)| Happening::Ended(pid, status)),
            () = wait_until(due) => Ok(Happening::Due),
        }
    }

    fn start_what_is_missing(&mut self) -> Result<()> {
        for role in self.roles() {
            role.give_up_on_the_slow();
        }
        if let Some(worker) = &mut self.worker {
            worker.start_if_missing(&self.launcher)?;
        }
        // The ports open once the worker has answered. From then on each role is on its own.
        if self.worker.as_ref().is_none_or(Role::has_served) {
            self.gateway.start_if_missing(&self.launcher)?;
        }
        Ok(())
    }

    fn hear(&mut self, pid: u32, word: Word) -> Result<()> {
        match word {
            Word::Ready => self.note_ready(pid),
            Word::Released => self.roles().for_each(|role| role.note_release(pid)),
            Word::WantsSuccessor if self.gateway.has(pid) => self.renew(),
            Word::SucceededBy(heir) if self.gateway.has(pid) && !self.gateway.has(heir) => {
                bail!(
                    "process {heir} has taken over the gateway's ports, and was not started by this `sallyport up`, which ends"
                )
            }
            Word::WantsSuccessor | Word::SucceededBy(_) => {}
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
                    info!(%url, "how to trust the certificate, for devices of this network");
                }
                Word::Ready.tell();
            }
            Progress::Renewing if self.gateway.is_serving_as(pid) => {
                self.progress = Progress::Serving;
                info!("the next gateway serves");
                if let Some(worker) = &mut self.worker {
                    worker.retire();
                }
            }
            _ => {}
        }
    }

    /// Has the next gateway take over, and once it serves, the next worker.
    fn renew(&mut self) {
        if self.progress == Progress::Serving {
            match self.gateway.start_successor(&self.launcher) {
                Ok(()) => self.progress = Progress::Renewing,
                Err(error) => warn!("{error:#}; nothing has changed"),
            }
        }
    }

    fn note_end(&mut self, pid: u32, status: ExitStatus) -> Result<()> {
        for role in self.roles() {
            match role.note_end(pid) {
                Ended::Successor => {
                    warn!(%status, "the next {} ended before it served; nothing has changed", role.name);
                }
                Ended::Unexpectedly(ran) if role.has_served() => {
                    let why = format!("the {} ended with {status}", role.name);
                    role.put_off(ran, &why);
                }
                Ended::Unexpectedly(_) => bail!("the {} ended at its start with {status}", role.name),
                Ended::AsItShould | Ended::Unknown => {}
            }
        }
        if self.progress == Progress::Renewing && !self.gateway.is_starting() {
            self.progress = Progress::Serving;
        }
        Ok(())
    }

    fn roles(&mut self) -> impl Iterator<Item = &mut Role> {
        self.worker.iter_mut().chain([&mut self.gateway])
    }

    /// The gateway first, so that what it still forwards finds its worker.
    async fn end(self) {
        self.gateway.end().await;
        if let Some(worker) = self.worker {
            worker.end().await;
        }
    }
}

async fn any_end(roles: impl Iterator<Item = &mut Role>) -> Result<(u32, ExitStatus)> {
    let waits: Vec<_> = roles.flat_map(Role::processes).map(|process| Box::pin(process.ended())).collect();
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
