//! Succession: a gateway that starts takes the sockets of the one that runs on the same data folder, and that one drains.
//! At no moment is there nobody to take a connection.

use std::{
    env, io,
    io::{BufRead, BufReader, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustix::net::sockopt::socket_peercred;
use sd_notify::NotifyState;
use thiserror::Error;
use tokio::{signal::unix::Signal, sync::watch};
use tracing::{error, info, warn};

use super::control::{self, HANDOVER};
use crate::{
    edge::{
        handover,
        sockets::{NotASocket, Sockets},
    },
    stop::stopped,
};

const READY: &str = "ready";
/// A successor that is not ready by then is not waited for any longer.
const START_TIMEOUT: Duration = Duration::from_mins(1);
/// What a question over the control socket may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a gateway starts with that was there before it.
#[derive(Debug, Default)]
pub struct Inheritance {
    pub(super) sockets: Sockets,
    pub(super) predecessor: Option<Predecessor>,
}

/// Why nothing can be taken over.
#[derive(Debug, Error)]
pub enum InheritanceError {
    /// From systemd.
    #[error(transparent)]
    Systemd(#[from] NotASocket),
    /// From the gateway that runs.
    #[error("the gateway that runs does not hand over: {0}")]
    Predecessor(#[from] io::Error),
}

/// The gateway that runs already, seen from its successor. It serves on until it is released.
#[derive(Debug)]
pub(super) struct Predecessor(UnixStream);

/// What a gateway leaves to its successor.
#[derive(Debug)]
pub(super) struct Estate {
    /// Where clients come.
    sockets: Mutex<Vec<OwnedFd>>,
    /// Where it is asked how the gateway does, to its last moment.
    admin: Vec<OwnedFd>,
    retired: watch::Sender<bool>,
}

impl Inheritance {
    /// What systemd and the gateway of this data folder, where one runs, leave to this process. It must be called before
    /// there are threads, as [`Sockets::from_systemd`] must.
    ///
    /// # Errors
    /// What was passed on are no sockets, or the gateway that runs does not pass its own on.
    pub fn claim(data_dir: &Path) -> Result<Self, InheritanceError> {
        let mut sockets = Sockets::from_systemd()?;
        let Some((predecessor, inherited)) = predecessor(data_dir)? else {
            return Ok(Self { sockets, predecessor: None });
        };
        sockets.inherit(inherited)?;
        Ok(Self { sockets, predecessor: Some(predecessor) })
    }
}

/// Asks the gateway of this data folder, where one runs, for its sockets.
fn predecessor(data_dir: &Path) -> io::Result<Option<(Predecessor, Vec<OwnedFd>)>> {
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
    /// Lets it go, now that its successor accepts connections. One that is gone already needs no word.
    pub(super) fn release(mut self) {
        if let Err(error) = self.0.write_all(format!("{READY}\n").as_bytes()) {
            warn!(%error, "the predecessor has ended by itself");
        }
    }
}

impl Estate {
    pub(super) fn new(sockets: Vec<OwnedFd>, admin: Vec<OwnedFd>) -> Self {
        Self { sockets: Mutex::new(sockets), admin, retired: watch::Sender::new(false) }
    }

    /// Lets go of the clients' sockets: where nobody accepts any more, nobody must be left to wait either.
    pub(super) fn close(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<OwnedFd>> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands the sockets to who asks over the control socket, and retires once it is ready. Where it never is, nothing
    /// has changed.
    pub(super) fn hand_over(&self, stream: UnixStream) -> io::Result<()> {
        let successor = socket_peercred(&stream)?.pid;
        handover::pass(&stream, &self.lock().iter().chain(&self.admin).map(AsFd::as_fd).collect::<Vec<_>>())?;
        stream.set_read_timeout(Some(START_TIMEOUT))?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        if line.trim() != READY {
            return Err(io::Error::other("the successor gave up"));
        }
        info!(pid = %successor, "a successor has taken over");
        if let Ok(pid) = u32::try_from(successor.as_raw_nonzero().get()) {
            // Only who is the service's main process can say who is the next.
            let _ = sd_notify::notify(&[NotifyState::MainPid(pid)]);
        }
        self.retired.send_replace(true);
        Ok(())
    }

    /// Answers on the admin socket until all else is done, and the process with it, or until a successor answers there.
    pub(super) async fn until_retired(self: Arc<Self>, admin: impl Future<Output = ()>) {
        tokio::select! {
            () = admin => {}
            () = self.retired() => {}
        }
    }

    /// Ends once a successor has taken over.
    pub(super) async fn retired(&self) {
        stopped(&mut self.retired.subscribe()).await;
    }

    /// Starts a successor each time it is asked to until `stop` turns true, from the program's file as it is then.
    pub(super) async fn watch(self: Arc<Self>, config: PathBuf, mut asked: Signal, mut stop: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                _ = asked.recv() => {}
                () = stopped(&mut stop) => return,
            }
            match start_successor(&config) {
                Ok(pid) => info!(pid, "a successor is started"),
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
