//! The egress guard: the only way to the network for the worker's children.
//!
//! It is an HTTP proxy that requires an [`EgressToken`] for each request. It resolves each name once, checks all its addresses, and dials only
//! an address that it has checked. A redirect, a segment of a manifest or a DNS answer that changes between two lookups is therefore
//! as restricted as a first request. Traffic counts against the budget of the token, and each host is logged.

mod budget;
mod client;
mod dial;
mod meter;
mod request;
mod response;
mod token;

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use sallyport_core::{
    addresses::lookup::Lookups,
    config::{Config, EgressConfig},
    secrets::secret_file::{self, SecretError},
};
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
    dial::AllowedDestinations,
    token::{EgressToken, EgressTokenKey},
};

/// The maximum number of open connections in total; the budget of a token limits those of one job.
const MAX_CONNECTIONS: usize = 512;
/// The pause after a failure to accept, for example when file descriptors run out.
const PAUSE: Duration = Duration::from_millis(100);

/// A cloneable handle to the guard.
#[derive(Clone)]
pub struct Egress(Arc<Inner>);

struct Inner {
    key: EgressTokenKey,
    destinations: AllowedDestinations,
    budgets: Budgets,
    lookups: Lookups<Uuid>,
    slots: Arc<Semaphore>,
}

/// Why the guard cannot start.
#[derive(Debug, Error)]
pub enum EgressError {
    /// The key that it shares with the worker is unusable.
    #[error(transparent)]
    Key(#[from] SecretError),
    /// The folder for the key cannot be created.
    #[error("{0}: {1}")]
    Folder(PathBuf, io::Error),
    /// The guard cannot listen on its address.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, io::Error),
    /// The configuration sets no address for a separate guard.
    #[error(
        "egress.listen is not set, so the guard is part of the worker; write listen = \"127.0.0.1:8002\" under [egress]"
    )]
    NotApart,
}

/// A running guard.
#[derive(Debug)]
pub struct Serving {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// The listener for clients.
#[derive(Debug)]
pub enum EgressListener {
    /// A port on loopback.
    Tcp(TcpListener),
    /// A socket in the file system, which is reachable from every network namespace.
    Unix(UnixListener),
}

/// Returns the key that the worker and the guard share, and creates it if there is none.
///
/// # Errors
/// Fails if other users can read the key, if it is too short, or if it cannot be read or created.
pub fn token_key(config: &EgressConfig) -> Result<EgressTokenKey, EgressError> {
    if let Some(folder) = config.key_file.parent().filter(|folder| !folder.exists()) {
        secret_file::create_private_dir(folder).map_err(|e| EgressError::Folder(folder.to_owned(), e))?;
    }
    Ok(EgressTokenKey::new(secret_file::read_or_create(&config.key_file)?.expose_secret().as_bytes()))
}

/// Runs the guard as a separate process until `shutdown` completes; calls `ready` once it listens.
///
/// # Errors
/// Fails if the configuration has no separate guard, or if the key or the address cannot be used.
pub async fn serve(
    config: &Config,
    shutdown: impl Future<Output = ()>,
    ready: impl FnOnce(),
) -> Result<(), EgressError> {
    let address = config.egress.listen.ok_or(EgressError::NotApart)?;
    let egress = Egress::open(config)?;
    let listener = TcpListener::bind(address).await.map_err(|e| EgressError::Listen(address, e))?;
    let serving = egress.serve(EgressListener::Tcp(listener));
    tracing::info!(%address, "the egress guard is ready");
    ready();
    shutdown.await;
    serving.close().await;
    Ok(())
}

impl Serving {
    /// Aborts all connections and releases the listener.
    pub async fn close(self) {
        self.stop.cancel();
        // The task ends only by cancellation, so its result does not matter.
        let _ = self.task.await;
    }
}

impl Egress {
    /// Creates the guard described by the configuration.
    ///
    /// # Errors
    /// Fails if its key cannot be read or created.
    pub fn open(config: &Config) -> Result<Self, EgressError> {
        let destinations =
            AllowedDestinations { ports: config.egress.ports.clone(), private: config.worker.allow_private.clone() };
        Ok(Self::new(token_key(&config.egress)?, destinations))
    }

    /// Creates a guard that accepts tokens signed with `key`, for `destinations`.
    #[must_use]
    pub fn new(key: EgressTokenKey, destinations: AllowedDestinations) -> Self {
        let budgets = Budgets::default();
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        Self(Arc::new(Inner { key, destinations, budgets, lookups: Lookups::default(), slots }))
    }

    /// Serves clients until the returned handle is closed.
    #[must_use]
    pub fn serve(self, listener: EgressListener) -> Serving {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            stopped.run_until_cancelled(self.accept(&listener, &stopped)).await;
        });
        Serving { stop, task }
    }

    async fn accept(&self, listener: &EgressListener, stop: &CancellationToken) {
        loop {
            let Ok(slot) = Arc::clone(&self.0.slots).acquire_owned().await else { return };
            let accepted = match listener {
                EgressListener::Tcp(listener) => listener.accept().await.map(|(stream, _)| Either::Left(stream)),
                EgressListener::Unix(listener) => listener.accept().await.map(|(stream, _)| Either::Right(stream)),
            };
            match accepted {
                Ok(stream) => {
                    let inner = Arc::clone(&self.0);
                    let stop = stop.clone();
                    tokio::spawn(async move {
                        stop.run_until_cancelled(client::serve(&inner, stream)).await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the egress guard cannot accept connections");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}
