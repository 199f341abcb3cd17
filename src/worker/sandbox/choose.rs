//! Which sandbox can be had here, found out by having one.

use std::{env, io, net::UdpSocket, path::Path, process::Stdio, time::Duration};

use thiserror::Error;
use tokio::{net::TcpListener, process::Command, time::timeout};

use super::{Allowance, Sandbox, Strictness, WayOut};
use crate::{config::Config, edge::sockets::bind_unix, egress::Door};

const PROBE_TIMEOUT: Duration = Duration::from_secs(20);
const PROBE: Allowance = Allowance { file: 1 << 20, cpu: 20 };
/// An address that nobody has (RFC 5737).
const NOBODY: &str = "192.0.2.1:9";

/// Why no sandbox can be had.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum SandboxError {
    /// The trial has failed.
    #[error("{0}")]
    Trial(String),
    /// The guard is a process of its own, so nothing here may get out past it.
    #[error(
        "this process can reach the network; with egress.listen its unit needs IPAddressDeny=any and IPAddressAllow=localhost"
    )]
    Open,
    /// The guard cannot listen.
    #[error("the egress guard's socket: {0}")]
    Door(String),
}

impl Sandbox {
    /// The strictest one; what is less is taken only where the configuration allows it. The door is where the egress guard has to
    /// listen, unless it is a process of its own.
    pub(crate) async fn choose(config: &Config) -> Result<(Self, Option<Door>), SandboxError> {
        let partial = config.worker.partial_sandbox;
        let chosen = match config.egress.listen {
            Some(guard) => Self::within_unit(guard.port()).await.map(|sandbox| (sandbox, None)),
            None => Self::within_namespace(&config.data_dir.join("egress.sock")).await,
        };
        match (chosen, config.egress.listen) {
            (Err(error), guard) if partial => {
                tracing::warn!(%error, "downloads run in a weaker sandbox, as [insecure] partial_sandbox allows");
                match guard {
                    Some(guard) => Ok((Self::partial(guard.port()), None)),
                    None => Self::partial_with_guard().await,
                }
            }
            (chosen, _) => chosen,
        }
    }

    /// The sandbox that a worker would have, tried without its socket; None where only a unit's process could try it.
    pub(crate) async fn tried(config: &Config) -> Option<Result<Self, SandboxError>> {
        if config.egress.listen.is_some() {
            return None;
        }
        let (socket, folder) = (config.data_dir.join("egress.sock"), env::temp_dir());
        let sandbox = Self { way_out: WayOut::Namespace(socket), strictness: Strictness::Whole };
        Some(sandbox.try_out(&folder).await.map(|()| sandbox))
    }

    async fn within_namespace(socket: &Path) -> Result<(Self, Option<Door>), SandboxError> {
        let sandbox = Self { way_out: WayOut::Namespace(socket.to_owned()), strictness: Strictness::Whole };
        sandbox.try_out(socket.parent().unwrap_or(Path::new("/"))).await?;
        let listener = bind_unix(socket).map_err(|e| SandboxError::Door(e.to_string()))?;
        Ok((sandbox, Some(Door::Unix(listener))))
    }

    async fn within_unit(port: u16) -> Result<Self, SandboxError> {
        if !outside_is_closed() {
            return Err(SandboxError::Open);
        }
        let sandbox = Self { way_out: WayOut::Loopback(port), strictness: Strictness::Whole };
        sandbox.try_out(&env::temp_dir()).await?;
        Ok(sandbox)
    }

    fn partial(port: u16) -> Self {
        Self { way_out: WayOut::Loopback(port), strictness: Strictness::Partial }
    }

    async fn partial_with_guard() -> Result<(Self, Option<Door>), SandboxError> {
        let door = |e: io::Error| SandboxError::Door(e.to_string());
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(door)?;
        let port = listener.local_addr().map_err(door)?.port();
        Ok((Self::partial(port), Some(Door::Tcp(listener))))
    }

    /// Runs this program in the sandbox, which does nothing there but tell its version.
    async fn try_out(&self, folder: &Path) -> Result<(), SandboxError> {
        let failed = |e: io::Error| SandboxError::Trial(e.to_string());
        let ourselves = env::current_exe().map_err(failed)?;
        let mut command = Command::new(&ourselves);
        command.args(self.arguments(folder, [&ourselves], PROBE)).arg(&ourselves).arg("--version");
        // The pipe ends when we do, as it does for every keeper.
        command.env_clear().stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.process_group(0).spawn().map_err(failed)?;
        let lifeline = child.stdin.take();
        let output = timeout(PROBE_TIMEOUT, child.wait_with_output()).await;
        drop(lifeline);
        let output = output.map_err(|_| SandboxError::Trial("it takes too long".to_owned()))?.map_err(failed)?;
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.trim().trim_start_matches("sallyport: ").to_owned();
        if output.status.success() { Ok(()) } else { Err(SandboxError::Trial(said)) }
    }
}

/// True where a control group keeps packets in: the kernel then refuses to send one.
fn outside_is_closed() -> bool {
    let sent = UdpSocket::bind("0.0.0.0:0").and_then(|socket| socket.send_to(b"", NOBODY));
    sent.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}
