//! `sallyport up`: worker and gateway under one process, which all end together.

use std::{
    env,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use tokio::{
    net::UnixDatagram,
    process::{Child, Command},
    runtime::Builder,
    time::{Instant, sleep, timeout},
};
use tracing::{info, warn};

use crate::{
    config::{self, Config},
    observe,
    policy::{self, Site},
    secret_file,
    stop::signalled,
};

/// A role is ready within this time or the start has failed.
const START_TIMEOUT: Duration = Duration::from_mins(1);
const RESTART_PAUSE: Duration = Duration::from_millis(500);
/// A role that ends so often within [`RESTART_WINDOW`] is not started again.
const MAX_RESTARTS: usize = 5;
const RESTART_WINDOW: Duration = Duration::from_mins(1);

/// Runs both roles until a signal.
pub(super) fn run(path: &Path) -> Result<()> {
    let config = config::load(path)?;
    let site = policy::compile(&config)?;
    secret_file::create_private_dir(&config.data_dir)?;
    observe::tracing::start(&config.log.level);
    // One thread: what is started here is killed by the kernel when the thread that started it ends.
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(supervise(path, &config, &site))
}

async fn supervise(path: &Path, config: &Config, site: &Site) -> Result<()> {
    let readiness = Readiness::listen(&config.data_dir)?;
    let mut roles = Vec::new();
    let stop = signalled();
    tokio::pin!(stop);
    let wanted = if site.needs_worker(&config.worker.listen) { &["worker", "gateway"][..] } else { &["gateway"] };
    for name in wanted {
        let mut role = Role::start(name, path, &readiness)?;
        tokio::select! {
            started = role.ready(&readiness) => started?,
            () = &mut stop => {
                roles.push(role);
                return stop_all(roles).await;
            }
        }
        roles.push(role);
    }
    info!(url = %config.public_url, "started");
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    tokio::select! {
        () = &mut stop => {}
        failed = keep_running(&mut roles, &readiness) => {
            stop_all(roles).await?;
            return failed;
        }
    }
    stop_all(roles).await
}

/// Where the roles say that they are ready, as they would to systemd.
struct Readiness {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Readiness {
    fn listen(data_dir: &Path) -> Result<Self> {
        let path = data_dir.join("ready.sock");
        let _ = std::fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).with_context(|| format!("{} cannot be made", path.display()))?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self { socket, path })
    }

    async fn heard(&self) -> Result<()> {
        let mut message = [0; 256];
        loop {
            let length = self.socket.recv(&mut message).await?;
            if message.get(..length).is_some_and(|m| m.split(|b| *b == b'\n').any(|line| line == b"READY=1")) {
                return Ok(());
            }
        }
    }
}

impl Readiness {
    /// Takes what nobody waits for out of the socket, which holds only so much.
    fn forget(&self) {
        let mut message = [0; 256];
        while self.socket.try_recv(&mut message).is_ok() {}
    }
}

impl Drop for Readiness {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// One child process, started again when it ends by itself.
struct Role {
    name: &'static str,
    config: PathBuf,
    child: Child,
    starts: Vec<Instant>,
}

impl Role {
    fn start(name: &'static str, config: &Path, readiness: &Readiness) -> Result<Self> {
        let child = spawn(name, config, &readiness.path)?;
        Ok(Self { name, config: config.to_owned(), child, starts: vec![Instant::now()] })
    }

    /// Waits until it serves.
    async fn ready(&mut self, readiness: &Readiness) -> Result<()> {
        tokio::select! {
            ready = timeout(START_TIMEOUT, readiness.heard()) => match ready {
                Ok(heard) => heard,
                Err(_) => bail!("the {} is not ready after {START_TIMEOUT:?}", self.name),
            },
            status = self.child.wait() => bail!("the {} ended at its start with {}", self.name, status?),
        }
    }

    async fn restart(&mut self, status: ExitStatus, readiness: &Readiness) -> Result<()> {
        self.starts.retain(|start| start.elapsed() < RESTART_WINDOW);
        if self.starts.len() > MAX_RESTARTS {
            bail!("the {} ended {} times within a minute, at last with {status}", self.name, self.starts.len());
        }
        warn!(%status, "the {} ended; it is started again", self.name);
        sleep(RESTART_PAUSE).await;
        readiness.forget();
        self.child = spawn(self.name, &self.config, &readiness.path)?;
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

fn spawn(role: &'static str, config: &Path, readiness: &Path) -> Result<Child> {
    let program = env::current_exe().context("this program's own file cannot be found")?;
    let parent = std::process::id().to_string();
    Command::new(&program)
        .args([super::CONFINE, "--parent", &parent, "--"])
        .arg(&program)
        .arg(role)
        .arg("--config")
        .arg(config)
        .env("NOTIFY_SOCKET", readiness)
        .stdin(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("the {role} cannot be started"))
}

/// Starts roles again as they end; returns only when one ends too often.
async fn keep_running(roles: &mut [Role], readiness: &Readiness) -> Result<()> {
    loop {
        let waits = roles.iter_mut().map(|role| Box::pin(role.child.wait()));
        let (status, ended, _) = futures_util::future::select_all(waits).await;
        if let Some(role) = roles.get_mut(ended) {
            role.restart(status?, readiness).await?;
        }
    }
}

async fn stop_all(roles: Vec<Role>) -> Result<()> {
    // The gateway was started last and stops first, so that what it still forwards finds its worker.
    for role in roles.into_iter().rev() {
        role.stop().await?;
    }
    Ok(())
}
