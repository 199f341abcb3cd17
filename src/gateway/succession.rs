//! Succession: a gateway that starts takes the sockets of the one that runs on the same data folder, and that one drains.
//! At no moment is there nobody to take a connection.

use std::{
    io,
    io::{BufRead, BufReader, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use thiserror::Error;
use tokio::{signal::unix::Signal, sync::watch};
use tracing::{error, info, warn};

use super::control::{self, HANDOVER};
use crate::{
    edge::{
        handover::{self, HandoverError},
        sockets::{NotASocket, Sockets},
    },
    stop::stopped,
    supervision::{Supervisor, TenureError, Word, detach},
};

const READY: &str = "ready";
/// A successor that is not ready by then is not waited for any longer.
const START_TIMEOUT: Duration = Duration::from_mins(1);

/// What a gateway starts with that was there before it.
#[derive(Debug, Default)]
pub struct Inheritance {
    pub(super) sockets: Sockets,
    pub(super) predecessor: Option<Predecessor>,
    pub(super) supervisor: Option<Supervisor>,
}

/// Who starts a successor.
#[derive(Debug)]
pub(super) enum Starter {
    /// This process, with the configuration in this file.
    Itself(PathBuf),
    /// Who has started this process, and must be able to end the next one as well.
    Supervisor(Supervisor),
}

/// Why nothing can be taken over.
#[derive(Debug, Error)]
pub enum InheritanceError {
    /// Not from this folder.
    #[error(transparent)]
    Tenure(#[from] TenureError),
    /// From systemd.
    #[error(transparent)]
    Systemd(#[from] NotASocket),
    /// The gateway that runs cannot be asked.
    #[error("the gateway that runs cannot be asked for its sockets: {0}")]
    Ask(io::Error),
    /// It does not hand over.
    #[error("the gateway that runs does not hand over: {0}")]
    Handover(#[from] HandoverError),
    /// What it has handed over cannot be used.
    #[error("a socket of the gateway that runs: {0}")]
    Socket(io::Error),
}

/// Why a gateway is not succeeded by who asked it for its sockets.
#[derive(Debug, Error)]
pub(super) enum SuccessionError {
    /// Nobody can be told who it is.
    #[error("who asks for the sockets does not say who it is")]
    Unknown,
    #[error(transparent)]
    Handover(#[from] HandoverError),
    /// It ended, or said that it does not want to.
    #[error("the successor gave up")]
    GaveUp,
    /// It has said nothing for a minute, or can't be heard.
    #[error("the successor is not heard of: {0}")]
    Silent(#[from] io::Error),
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
    starter: Starter,
    retired: watch::Sender<bool>,
}

impl Inheritance {
    /// What systemd, the gateway of this data folder and its `sallyport up`, where they run, leave to this process. It must be
    /// called before there are threads, as [`Sockets::from_systemd`] must.
    ///
    /// # Errors
    /// The folder is run by an `up` that has not started this process, what was passed on are no sockets, or the gateway
    /// that runs does not pass its own on.
    pub fn claim(data_dir: &Path) -> Result<Self, InheritanceError> {
        let supervisor = Supervisor::of(data_dir)?;
        let mut sockets = Sockets::from_systemd()?;
        let Some(stream) = control::ask(data_dir, HANDOVER).map_err(InheritanceError::Ask)? else {
            return Ok(Self { sockets, predecessor: None, supervisor });
        };
        sockets.inherit(handover::receive(&stream)?).map_err(InheritanceError::Socket)?;
        Ok(Self { sockets, predecessor: Some(Predecessor(stream)), supervisor })
    }
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
    pub(super) fn new(sockets: Vec<OwnedFd>, admin: Vec<OwnedFd>, starter: Starter) -> Self {
        Self { sockets: Mutex::new(sockets), admin, starter, retired: watch::Sender::new(false) }
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
    pub(super) fn hand_over(&self, stream: UnixStream) -> Result<(), SuccessionError> {
        let successor = control::peer(&stream).ok_or(SuccessionError::Unknown)?;
        handover::pass(&stream, &self.lock().iter().chain(&self.admin).map(AsFd::as_fd).collect::<Vec<_>>())?;
        stream.set_read_timeout(Some(START_TIMEOUT))?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        if line.trim() != READY {
            return Err(SuccessionError::GaveUp);
        }
        info!(pid = successor, "a successor has taken over");
        // Only who is the service's main process can say who is the next.
        Word::SucceededBy(successor).tell();
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

    /// Has a successor started each time it is asked to, until `stop` turns true.
    pub(super) async fn watch(self: Arc<Self>, mut asked: Signal, mut stop: watch::Receiver<bool>) {
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
        Ok(()) => info!("a successor is started"),
        Err(error) => error!(%error, "no successor can be started"),
    }
}

/// As no child of this process, since systemd is to wait for its end.
fn spawn(config: &Path) -> io::Result<()> {
    let mut between = detach::start(&["gateway".as_ref(), "--config".as_ref(), config.as_os_str()])?;
    thread::Builder::new().name("successor".into()).stack_size(64 << 10).spawn(move || match between.wait() {
        Ok(status) if status.success() => {}
        Ok(status) => error!(%status, "no successor can be started"),
        Err(error) => error!(%error, "no successor can be started"),
    })?;
    Ok(())
}
