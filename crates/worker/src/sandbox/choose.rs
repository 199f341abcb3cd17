//! Finds out which sandbox this system supports, by starting one.

use std::{env, io, path::Path, process::Stdio, time::Duration};

use sallyport_core::{config::Config, sockets::inherited::bind_unix};
use thiserror::Error;
use tokio::{net::TcpListener, process::Command, time::timeout};

use super::{Allowance, EgressPath, Sandbox, Strictness, outside};
use crate::egress::EgressListener;

const PROBE_TIMEOUT: Duration = Duration::from_secs(20);
const PROBE: Allowance = Allowance { file: 1 << 20, cpu: 20 };

/// Why no sandbox can be started.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum SandboxError {
    /// The trial run failed.
    #[error("{0}")]
    Trial(String),
    /// The guard is a separate process, so this one must not be able to bypass it.
    #[error(
        "this process can send packets past the egress guard; with egress.listen its unit needs IPAddressDeny=any and \
         IPAddressAllow=localhost"
    )]
    Open,
    /// The guard cannot listen.
    #[error("the egress guard cannot listen on its socket: {0}")]
    Door(String),
}

/// How to determine the sandbox of the next child.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// The result found at startup, which is valid until the worker ends.
    Settled(Result<Sandbox, SandboxError>),
    /// The worker and the guard run in separate units. The restrictions on the worker's packets can change while it runs, so every
    /// check tries them again.
    Unit {
        /// The guard's loopback port.
        port: u16,
        /// The least strictness that the configuration accepts.
        least: Strictness,
    },
}

impl Source {
    /// Also returns the listener for the egress guard, unless the guard is a separate process.
    pub(crate) async fn new(config: &Config) -> (Self, Option<EgressListener>) {
        let least = if config.worker.partial_sandbox { Strictness::Partial } else { Strictness::Whole };
        if let Some(guard) = config.egress.listen {
            return (Self::Unit { port: guard.port(), least }, None);
        }
        match Sandbox::with_guard(&config.data_dir.join("egress.sock"), least).await {
            Ok((sandbox, door)) => (Self::Settled(Ok(sandbox)), Some(door)),
            Err(error) => (Self::Settled(Err(error)), None),
        }
    }

    /// Returns the strictest sandbox that works. A partial one is used only if the configuration allows it.
    pub(crate) async fn sandbox(&self) -> Result<Sandbox, SandboxError> {
        match self {
            Self::Settled(found) => found.clone(),
            Self::Unit { port, least } => match (Sandbox::within_unit(*port).await, least) {
                (Err(error), Strictness::Partial) => {
                    warn_of_partial(&error);
                    Ok(Sandbox::partial(*port))
                }
                (found, _) => found,
            },
        }
    }
}

impl Sandbox {
    /// Tries the sandbox that a worker would use, without its socket. Returns none if only a process in the worker's unit could try it.
    pub(crate) async fn tried(config: &Config) -> Option<Result<Self, SandboxError>> {
        if config.egress.listen.is_some() {
            return None;
        }
        let socket = config.data_dir.join("egress.sock");
        let folder = env::temp_dir();
        let sandbox = Self { egress_path: EgressPath::Namespace(socket), strictness: Strictness::Whole };
        Some(sandbox.try_out(&folder).await.map(|()| sandbox))
    }

    async fn with_guard(socket: &Path, least: Strictness) -> Result<(Self, EgressListener), SandboxError> {
        match (Self::within_namespace(socket).await, least) {
            (Err(error), Strictness::Partial) => {
                warn_of_partial(&error);
                Self::partial_with_guard().await
            }
            (found, _) => found,
        }
    }

    async fn within_namespace(socket: &Path) -> Result<(Self, EgressListener), SandboxError> {
        let sandbox = Self { egress_path: EgressPath::Namespace(socket.to_owned()), strictness: Strictness::Whole };
        sandbox.try_out(socket.parent().unwrap_or(Path::new("/"))).await?;
        let listener = bind_unix(socket).map_err(|e| SandboxError::Door(e.to_string()))?;
        Ok((sandbox, EgressListener::Unix(listener)))
    }

    async fn within_unit(port: u16) -> Result<Self, SandboxError> {
        if outside::probe().await == outside::Outside::Open {
            return Err(SandboxError::Open);
        }
        let sandbox = Self { egress_path: EgressPath::Loopback(port), strictness: Strictness::Whole };
        sandbox.try_out(&env::temp_dir()).await?;
        Ok(sandbox)
    }

    fn partial(port: u16) -> Self {
        Self { egress_path: EgressPath::Loopback(port), strictness: Strictness::Partial }
    }

    async fn partial_with_guard() -> Result<(Self, EgressListener), SandboxError> {
        let door = |e: io::Error| SandboxError::Door(e.to_string());
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(door)?;
        let port = listener.local_addr().map_err(door)?.port();
        Ok((Self::partial(port), EgressListener::Tcp(listener)))
    }

    /// Runs this program with `--version` in the sandbox.
    async fn try_out(&self, folder: &Path) -> Result<(), SandboxError> {
        let failed = |e: io::Error| SandboxError::Trial(e.to_string());
        let ourselves = env::current_exe().map_err(failed)?;
        let mut command = Command::new(&ourselves);
        command.args(self.arguments(folder, [&ourselves], PROBE)).arg(&ourselves).arg("--version");
        // As for every reaper, the pipe closes when this process ends.
        command.env_clear().stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.process_group(0).spawn().map_err(failed)?;
        let lifeline = child.stdin.take();
        let output = timeout(PROBE_TIMEOUT, child.wait_with_output()).await;
        drop(lifeline);
        let output =
            output.map_err(|_| SandboxError::Trial("the trial run took too long".to_owned()))?.map_err(failed)?;
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.trim().trim_start_matches("sallyport: ").to_owned();
        if output.status.success() { Ok(()) } else { Err(SandboxError::Trial(said)) }
    }
}

fn warn_of_partial(error: &SandboxError) {
    tracing::warn!(%error, "downloads run in a weaker sandbox, because [insecure] partial_sandbox allows it");
}
