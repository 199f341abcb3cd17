//! The egress guard: the only way out for what the worker's children fetch.
//!
//! An HTTP proxy that lets nobody pass without a [`Pass`]. Each name is resolved once, all its addresses are judged, and one of
//! those that were judged is dialled: a redirect, a segment of a manifest or an answer of the DNS that changes between two
//! looks leads nowhere else than a first request would. What passes is counted against the budget of the pass, and each
//! host is in the log.

mod answer;
mod budget;
mod client;
mod dial;
mod meter;
mod pass;
mod request;

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use secrecy::ExposeSecret;
use thiserror::Error;
use tokio::{
    net::{TcpListener, UnixListener},
    sync::Semaphore,
    task::JoinHandle,
};
use tokio_util::{either::Either, sync::CancellationToken};
use uuid::Uuid;

use self::budget::Budgets;
pub use self::{
    dial::Places,
    pass::{Pass, PassKey},
};
use crate::{
    config::{Config, EgressConfig},
    lookup::Lookups,
    secret_file::{self, SecretError},
};

/// Connections at a time, in all; those of one pass are bounded by its budget.
const MAX_CONNECTIONS: usize = 512;
/// After a failure to accept, such as when descriptors run out.
const PAUSE: Duration = Duration::from_millis(100);

/// The guard; a handle to share.
#[derive(Clone)]
pub struct Egress(Arc<Inner>);

struct Inner {
    key: PassKey,
    places: Places,
    budgets: Budgets,
    lookups: Lookups<Uuid>,
    slots: Arc<Semaphore>,
}

/// Why the guard cannot work.
#[derive(Debug, Error)]
pub enum EgressError {
    /// The key that it shares with the worker.
    #[error(transparent)]
    Key(#[from] SecretError),
    /// The folder for the key.
    #[error("{0}: {1}")]
    Folder(PathBuf, io::Error),
    /// Its address.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, io::Error),
    /// The configuration does not say where.
    #[error(
        "egress.listen is not set, so the guard is part of the worker; write listen = \"127.0.0.1:8002\" under [egress]"
    )]
    NotApart,
}

/// A guard at work.
#[derive(Debug)]
pub struct Serving {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// Where clients come from.
#[derive(Debug)]
pub enum Door {
    /// Loopback.
    Tcp(TcpListener),
    /// A socket in the file system, which is the same in every network namespace.
    Unix(UnixListener),
}

/// The key that worker and guard share; made where there is none.
///
/// # Errors
/// A key that others can read, that is too short, or that cannot be read or made.
pub fn pass_key(config: &EgressConfig) -> Result<PassKey, EgressError> {
    if let Some(folder) = config.key_file.parent().filter(|folder| !folder.exists()) {
        secret_file::create_private_dir(folder).map_err(|e| EgressError::Folder(folder.to_owned(), e))?;
    }
    Ok(PassKey::new(secret_file::read_or_create(&config.key_file)?.expose_secret().as_bytes()))
}

/// Runs the guard as a process of its own until `shutdown` is done; `ready` is called once it listens.
///
/// # Errors
/// When the configuration does not ask for one, or key or address cannot be had.
pub async fn serve(
    config: &Config,
    shutdown: impl Future<Output = ()>,
    ready: impl FnOnce(),
) -> Result<(), EgressError> {
    let address = config.egress.listen.ok_or(EgressError::NotApart)?;
    let egress = Egress::open(config)?;
    let listener = TcpListener::bind(address).await.map_err(|e| EgressError::Listen(address, e))?;
    let serving = egress.serve(Door::Tcp(listener));
    tracing::info!(%address, "the egress guard is ready");
    ready();
    shutdown.await;
    serving.close().await;
    Ok(())
}

impl Serving {
    /// Breaks off what is under way, and leaves the door to whoever comes next.
    pub async fn close(self) {
        self.stop.cancel();
        // It ends in no other way.
        drop(self.task.await);
    }
}

impl Egress {
    /// As the configuration wants it.
    ///
    /// # Errors
    /// When its key cannot be had.
    pub fn open(config: &Config) -> Result<Self, EgressError> {
        let places = Places { ports: config.egress.ports.clone(), private: config.worker.allow_private.clone() };
        Ok(Self::new(pass_key(&config.egress)?, places))
    }

    /// Lets those pass whom `key` has signed for, to `places`.
    #[must_use]
    pub fn new(key: PassKey, places: Places) -> Self {
        let (budgets, slots) = (Budgets::default(), Arc::new(Semaphore::new(MAX_CONNECTIONS)));
        Self(Arc::new(Inner { key, places, budgets, lookups: Lookups::default(), slots }))
    }

    /// Serves until it is closed.
    #[must_use]
    pub fn serve(self, door: Door) -> Serving {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            stopped.run_until_cancelled(self.accept(&door, &stopped)).await;
        });
        Serving { stop, task }
    }

    async fn accept(&self, door: &Door, stop: &CancellationToken) {
        loop {
            let Ok(slot) = Arc::clone(&self.0.slots).acquire_owned().await else { return };
            let accepted = match door {
                Door::Tcp(listener) => listener.accept().await.map(|(stream, _)| Either::Left(stream)),
                Door::Unix(listener) => listener.accept().await.map(|(stream, _)| Either::Right(stream)),
            };
            match accepted {
                Ok(stream) => {
                    let (inner, stop) = (Arc::clone(&self.0), stop.clone());
                    tokio::spawn(async move {
                        stop.run_until_cancelled(client::serve(&inner, stream)).await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the egress guard cannot accept");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}
