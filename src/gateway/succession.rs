//! Succession: a gateway that starts takes the sockets of the one that runs on the same data folder, and that one drains.
//! At no moment is there nobody to take a connection.

use std::{
    env, io,
    io::{BufRead, BufReader, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::Path,
    process::Command,
    sync::Mutex,
    time::Duration,
};

use sd_notify::NotifyState;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use tracing::{error, info};

use super::control::{self, HANDOVER};
use crate::{edge::handover, stop::stopped};

const READY: &str = "ready";
/// A successor that is not ready by then is not waited for any longer.
const START_TIMEOUT: Duration = Duration::from_mins(1);
/// What a question over the control socket may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The gateway that runs already, seen from its successor. It serves on until it is released.
#[derive(Debug)]
pub struct Predecessor(UnixStream);

/// What a gateway leaves to its successor.
#[derive(Debug)]
pub(super) struct Estate {
    sockets: Vec<OwnedFd>,
    retired: watch::Sender<bool>,
    successor: Mutex<Option<u32>>,
}

/// Asks the gateway of this data folder, where one runs, for its sockets.
pub fn predecessor(data_dir: &Path) -> io::Result<Option<(Predecessor, Vec<OwnedFd>)>> {
    let mut stream = match UnixStream::connect(control::socket_path(data_dir)) {
        Ok(stream) => stream,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => return Ok(None),
        Err(e) => return Err(e),
    };
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("{HANDOVER}\n").as_bytes())?;
    let sockets = handover::receive(&stream)?;
    Ok(Some((Predecessor(stream), sockets)))
}

impl Predecessor {
    /// Lets it go, now that its successor accepts connections.
    pub(super) fn release(mut self) -> io::Result<()> {
        self.0.write_all(format!("{READY}\n").as_bytes())
    }
}

impl Estate {
    pub(super) fn new(sockets: Vec<OwnedFd>) -> Self {
        Self { sockets, retired: watch::Sender::new(false), successor: Mutex::default() }
    }

    /// Hands the sockets to who asks over the control socket, and retires once it is ready. Where it never is, nothing
    /// has changed.
    pub(super) fn hand_over(&self, stream: UnixStream) -> io::Result<()> {
        let sockets: Vec<_> = self.sockets.iter().map(AsFd::as_fd).collect();
        handover::pass(&stream, &sockets)?;
        stream.set_read_timeout(Some(START_TIMEOUT))?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        if line.trim() != READY {
            return Err(io::Error::other("the successor gave up"));
        }
        info!("a successor has taken over");
        if let Some(pid) = *self.successor.lock().unwrap_or_else(std::sync::PoisonError::into_inner) {
            // Only who is the service's main process can say who is the next.
            let _ = sd_notify::notify(&[NotifyState::MainPid(pid)]);
        }
        self.retired.send_replace(true);
        Ok(())
    }

    /// Ends once a successor has taken over.
    pub(super) async fn retired(&self) {
        stopped(&mut self.retired.subscribe()).await;
    }

    /// Starts a successor at each SIGUSR2, from the program's file as it is then.
    pub(super) async fn watch(&self, config: &Path) {
        let Ok(mut asked) = signal(SignalKind::user_defined2()) else { return };
        while asked.recv().await.is_some() {
            match start_successor(config) {
                Ok(pid) => {
                    info!(pid, "a successor is started");
                    *self.successor.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(pid);
                }
                Err(error) => error!(%error, "no successor can be started"),
            }
        }
    }
}

/// By the name that this process was started with: its own file may have been replaced, which is what this is for.
fn start_successor(config: &Path) -> io::Result<u32> {
    let program = env::args_os().next().ok_or_else(|| io::Error::other("this program has no name"))?;
    let mut child = Command::new(program).arg("gateway").arg("--config").arg(config).spawn()?;
    let pid = child.id();
    std::thread::Builder::new().name("successor".into()).stack_size(64 << 10).spawn(move || {
        if let Ok(status) = child.wait() {
            error!(%status, "the successor has ended");
        }
    })?;
    Ok(pid)
}
