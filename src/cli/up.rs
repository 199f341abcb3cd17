//! `sallyport up`: worker and gateway under one process, which all end together.

use std::{
    env,
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use tokio::{
    net::{TcpStream, UnixStream},
    process::{Child, Command},
    runtime::Builder,
    time::{Instant, sleep, timeout},
};
use tracing::{info, warn};

use crate::{
    config::{self, Config, Upstream},
    observe, policy,
    stop::signalled,
};

/// The worker answers within this time or the start has failed.
const WORKER_START: Duration = Duration::from_secs(30);
/// A role that ends so often within [`RESTART_WINDOW`] is not started again.
const MAX_RESTARTS: usize = 5;
const RESTART_WINDOW: Duration = Duration::from_mins(1);

/// Runs both roles until a signal.
pub(super) fn run(path: &Path) -> Result<()> {
    let config = config::load(path)?;
    policy::compile(&config)?;
    observe::tracing::start(&config.log_level);
    // One thread: what is started here is killed by the kernel when the thread that started it ends.
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(supervise(path, &config))
}

async fn supervise(path: &Path, config: &Config) -> Result<()> {
    let mut roles = Vec::new();
    if config.apps.iter().any(|app| app.upstream == config.worker.listen) {
        roles.push(Role::start("worker", path)?);
    }
    let stop = signalled();
    tokio::pin!(stop);
    tokio::select! {
        started = wait_for_worker(&mut roles, config) => started?,
        () = &mut stop => return stop_all(roles).await,
    }
    roles.push(Role::start("gateway", path)?);
    info!(url = %config.public_url, "started");
    loop {
        tokio::select! {
            () = &mut stop => return stop_all(roles).await,
            ended = any_ended(&mut roles) => {
                if let Err(error) = ended {
                    stop_all(roles).await?;
                    return Err(error);
                }
            }
        }
    }
}

/// One child process, started again when it ends by itself.
struct Role {
    name: &'static str,
    config: std::path::PathBuf,
    child: Child,
    starts: Vec<Instant>,
}

impl Role {
    fn start(name: &'static str, config: &Path) -> Result<Self> {
        let child = spawn(name, config)?;
        Ok(Self { name, config: config.to_owned(), child, starts: vec![Instant::now()] })
    }

    async fn restart(&mut self, status: ExitStatus) -> Result<()> {
        self.starts.retain(|start| start.elapsed() < RESTART_WINDOW);
        if self.starts.len() > MAX_RESTARTS {
            bail!("the {} ended {} times within a minute, at last with {status}", self.name, self.starts.len());
        }
        warn!(%status, "the {} ended; it is started again", self.name);
        sleep(Duration::from_millis(500)).await;
        self.child = spawn(self.name, &self.config)?;
        self.starts.push(Instant::now());
        Ok(())
    }

    /// Asks it to stop; a second Ctrl-C, or its own drain limit, ends the waiting.
    async fn stop(mut self) -> Result<()> {
        if let Some(pid) = self.child.id().and_then(|id| rustix::process::Pid::from_raw(id.cast_signed())) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        tokio::select! {
            _ = self.child.wait() => {}
            () = signalled() => self.child.kill().await?,
        }
        Ok(())
    }
}

fn spawn(role: &'static str, config: &Path) -> Result<Child> {
    let program = env::current_exe().context("this program's own file cannot be found")?;
    let parent = std::process::id().to_string();
    Command::new(&program)
        .args([super::CONFINE, "--parent", &parent, "--"])
        .arg(&program)
        .arg(role)
        .arg("--config")
        .arg(config)
        .stdin(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("the {role} cannot be started"))
}

async fn any_ended(roles: &mut [Role]) -> Result<()> {
    let waits = roles.iter_mut().map(|role| {
        Box::pin(async move {
            let status = role.child.wait().await?;
            role.restart(status).await
        })
    });
    futures_util::future::select_all(waits).await.0
}

async fn stop_all(roles: Vec<Role>) -> Result<()> {
    // The gateway was started last and stops first, so that what it still forwards finds its worker.
    for role in roles.into_iter().rev() {
        role.stop().await?;
    }
    Ok(())
}

async fn wait_for_worker(roles: &mut [Role], config: &Config) -> Result<()> {
    let Some(worker) = roles.first_mut() else { return Ok(()) };
    let answers = timeout(WORKER_START, until_answering(&config.worker.listen));
    tokio::select! {
        answers = answers => answers.context("the worker does not answer"),
        status = worker.child.wait() => bail!("the worker ended at its start with {}", status?),
    }
}

async fn until_answering(listen: &Upstream) {
    loop {
        let answers = match listen {
            Upstream::Tcp(address) => TcpStream::connect(address).await.is_ok(),
            Upstream::Unix(path) => UnixStream::connect(path).await.is_ok(),
        };
        if answers {
            return;
        }
        sleep(Duration::from_millis(50)).await;
    }
}
