//! Hot restart: a new gateway takes over the sockets of the one that runs on the same data folder, which then drains. At every moment one of
//! them accepts connections.

use std::{
    io,
    io::{BufRead, BufReader, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use parking_lot::{Mutex, MutexGuard};
use sallyport_core::{
    sockets::{
        fd_passing::{self, HandoverError},
        inherited::{NotASocket, Sockets},
    },
    supervision::{InstanceLockError, Notification, Supervisor, detach, shutdown::stopped},
};
use thiserror::Error;
use tokio::{signal::unix::Signal, sync::watch};
use tracing::{error, info, warn};

use super::control::{self, HANDOVER};

const READY: &str = "ready";
/// How long the gateway waits for a successor to become ready.
const START_TIMEOUT: Duration = Duration::from_mins(1);

/// The sockets and processes that a gateway takes over at startup.
#[derive(Debug, Default)]
pub struct Inheritance {
    pub(crate) sockets: Sockets,
    pub(crate) predecessor: Option<Predecessor>,
    pub(crate) supervisor: Option<Supervisor>,
}

/// The process that starts a successor.
#[derive(Debug)]
pub(crate) enum Starter {
    /// This process, with the configuration in this file.
    Itself(PathBuf),
    /// The process that started this one, and must be able to end the next one too.
    Supervisor(Supervisor),
}

/// The reasons why a takeover fails.
#[derive(Debug, Error)]
pub enum InheritanceError {
    /// The data folder is in use by another process.
    #[error(transparent)]
    Lock(#[from] InstanceLockError),
    /// A descriptor from systemd is not a socket.
    #[error(transparent)]
    Systemd(#[from] NotASocket),
    /// The running gateway cannot be reached.
    #[error("cannot ask the running gateway for its sockets: {0}")]
    Ask(io::Error),
    /// The running gateway does not hand over its sockets.
    #[error("the running gateway does not hand over its sockets: {0}")]
    Handover(#[from] HandoverError),
    /// A socket that it handed over cannot be used.
    #[error("cannot use a socket of the running gateway: {0}")]
    Socket(io::Error),
}

/// The reasons why a process that asked for the sockets does not succeed this gateway.
#[derive(Debug, Error)]
pub(crate) enum HotRestartError {
    /// The service manager cannot be told its process id.
    #[error("the process id of the process that asks for the sockets is unknown")]
    Unknown,
    #[error(transparent)]
    Handover(#[from] HandoverError),
    /// It exited, or answered with something else.
    #[error("the new gateway exited before it was ready")]
    GaveUp,
    /// It was silent for a minute, or the connection to it failed.
    #[error("the new gateway did not report that it is ready: {0}")]
    Silent(#[from] io::Error),
}

/// The running gateway, as its successor sees it. It keeps serving until it is released.
#[derive(Debug)]
pub(crate) struct Predecessor(UnixStream);

/// What a gateway hands over to its successor.
#[derive(Debug)]
pub(crate) struct Handover {
    /// The listening sockets for clients.
    sockets: Mutex<Vec<OwnedFd>>,
    /// The admin socket, which answers until the end.
    admin: Vec<OwnedFd>,
    starter: Starter,
    retired: watch::Sender<bool>,
}

impl Inheritance {
    /// Takes over the sockets of systemd and of the running gateway of this data folder, and finds its `sallyport up`, if there are any. It must
    /// be called before there are threads, as [`Sockets::from_systemd`] must.
    ///
    /// # Errors
    /// Fails if the folder is in use by an `up` that has not started this process, if a descriptor that was passed on is not a socket, or if the
    /// running gateway does not hand over its sockets.
    pub fn claim(data_dir: &Path) -> Result<Self, InheritanceError> {
        let supervisor = Supervisor::of(data_dir)?;
        let mut sockets = Sockets::from_systemd()?;
        let Some(stream) = control::ask(data_dir, HANDOVER).map_err(InheritanceError::Ask)? else {
            return Ok(Self { sockets, predecessor: None, supervisor });
        };
        sockets.inherit(fd_passing::receive(&stream)?).map_err(InheritanceError::Socket)?;
        Ok(Self { sockets, predecessor: Some(Predecessor(stream)), supervisor })
    }
}

impl Predecessor {
    /// Releases the predecessor, now that its successor accepts connections. If it has exited already, there is nothing to do.
    pub(crate) fn release(mut self) {
        if let Err(error) = self.0.write_all(format!("{READY}\n").as_bytes()) {
            warn!(%error, "the previous gateway has already exited");
        }
    }
}

impl Handover {
    pub(crate) fn new(sockets: Vec<OwnedFd>, admin: Vec<OwnedFd>, starter: Starter) -> Self {
        Self { sockets: Mutex::new(sockets), admin, starter, retired: watch::Sender::new(false) }
    }

    /// Closes the clients' sockets: once no connection is accepted, no client must be left waiting.
    pub(crate) fn close(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<OwnedFd>> {
        self.sockets.lock()
    }

    /// Hands the sockets to the process that asks over the control socket, and retires once that process is ready. If it never is, nothing has
    /// changed.
    pub(crate) fn hand_over(&self, stream: UnixStream) -> Result<(), HotRestartError> {
        let successor = control::peer(&stream).ok_or(HotRestartError::Unknown)?;
        fd_passing::pass(&stream, &self.lock().iter().chain(&self.admin).map(AsFd::as_fd).collect::<Vec<_>>())?;
        stream.set_read_timeout(Some(START_TIMEOUT))?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        if line.trim() != READY {
            return Err(HotRestartError::GaveUp);
        }
        info!(pid = successor, "a successor has taken over");
        // Only the service's main process can name the next one.
        Notification::SucceededBy(successor).tell();
        self.retired.send_replace(true);
        Ok(())
    }

    /// Answers on the admin socket until the process ends or a successor answers there.
    pub(crate) async fn until_retired(self: Arc<Self>, admin: impl Future<Output = ()>) {
        tokio::select! {
            () = admin => {}
            () = self.retired() => {}
        }
    }

    /// Completes once a successor has taken over.
    pub(crate) async fn retired(&self) {
        stopped(&mut self.retired.subscribe()).await;
    }

    /// Has a successor started at each signal, until `stop` becomes true.
    pub(crate) async fn watch(self: Arc<Self>, mut asked: Signal, mut stop: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                _ = asked.recv() => {}
                () = stopped(&mut stop) => return,
            }
            match &self.starter {
                Starter::Supervisor(supervisor) => supervisor.ask_for_successor(),
                Starter::Itself(config) => start_successor(config),
            }
        }
    }
}

fn start_successor(config: &Path) {
    match spawn(config) {
        Ok(()) => info!("starting a successor"),
        Err(error) => error!(%error, "cannot start a successor"),
    }
}

/// Starts the successor, not as a child of this process, so that systemd can wait for its exit.
fn spawn(config: &Path) -> io::Result<()> {
    let mut between = detach::start(&["gateway".as_ref(), "--config".as_ref(), config.as_os_str()])?;
    thread::Builder::new().name("successor".into()).stack_size(64 << 10).spawn(move || match between.wait() {
        Ok(status) if status.success() => {}
        Ok(status) => error!(%status, "cannot start a successor"),
        Err(error) => error!(%error, "cannot start a successor"),
    })?;
    Ok(())
}
