//! Opens everything, then the socket, serves until it is told to stop, and puts the running jobs back.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use axum::{
    Router,
    middleware::from_fn_with_state,
    routing::get,
    serve::{Listener, ListenerExt},
};
use thiserror::Error;
use tokio::{net::TcpListener, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    api::{self, App},
    guard::{Guard, guard},
    job::Workshop,
    media::{MediaFolder, make_private},
    queue::Queue,
    store::{Store, StoreError},
    ytdlp::Readiness,
};
use crate::{
    config::{Config, Upstream},
    edge::sockets::bind_unix,
    statement::StatementKey,
};

/// Why the worker does not run.
#[derive(Debug, Error)]
#[error(transparent)]
pub struct WorkerError(Reason);

#[derive(Debug, Error)]
enum Reason {
    #[error("{path}: {error}")]
    Folder { path: PathBuf, error: io::Error },
    #[error(transparent)]
    Store(StoreError),
    #[error("cannot listen on {at}: {error}")]
    Listen { at: String, error: io::Error },
}

impl From<Reason> for WorkerError {
    fn from(reason: Reason) -> Self {
        Self(reason)
    }
}

/// Runs the worker until `shutdown` is done. Its socket opens once everything else is ready, and then `ready` is called.
///
/// Children are started through this very program, so its `main` must hand what follows an argument `confine` to
/// [`confine`](super::confine()).
///
/// # Errors
/// When the folders, the database or the socket cannot be had.
pub async fn serve(
    config: Arc<Config>,
    key: StatementKey,
    shutdown: impl Future<Output = ()> + Send,
    ready: impl FnOnce(),
) -> Result<(), WorkerError> {
    let stop = CancellationToken::new();
    let queue = Queue::new(workshop(&config)?, stop.clone());
    queue.tidy().await.map_err(Reason::Store)?;
    // Said in the log here; the routes that need yt-dlp say it again.
    drop(queue.workshop().readiness.tools().await);
    let routes = routes(App::new(queue.clone(), stop.clone()), Guard::new(key));
    let serving = listen(&config.worker.listen, routes, stop.clone()).await?;
    let working = tokio::spawn(async move { queue.work().await });
    ready();
    shutdown.await;
    stop.cancel();
    // The jobs first: what they were at is stored, whoever still reads a file.
    drop(working.await);
    drop(timeout(config.drain_timeout, serving).await);
    Ok(())
}

fn workshop(config: &Config) -> Result<Workshop, Reason> {
    let folder = |path: &Path| {
        let path = path.to_owned();
        move |error| Reason::Folder { path, error }
    };
    make_private(&config.data_dir).map_err(folder(&config.data_dir))?;
    let media = MediaFolder::open(&config.worker.media_dir).map_err(folder(&config.worker.media_dir))?;
    let store = Store::open(&config.data_dir.join("worker.db")).map_err(Reason::Store)?;
    let readiness = Readiness::new(config.worker.clone(), media.jobs());
    Ok(Workshop { config: config.worker.clone(), store, media, readiness })
}

fn routes(app: App, keeper: Guard) -> Router {
    api::router(app).layer(from_fn_with_state(Arc::new(keeper), guard)).route("/healthz", get(async || "ok"))
}

async fn listen(at: &Upstream, routes: Router, stop: CancellationToken) -> Result<tokio::task::JoinHandle<()>, Reason> {
    match at {
        Upstream::Tcp(address) => {
            let listener = TcpListener::bind(address).await;
            let listener = listener.map_err(|error| Reason::Listen { at: address.to_string(), error })?;
            // An answer is written in few large pieces; waiting to join them would only delay it.
            Ok(spawn(listener.tap_io(|stream| drop(stream.set_nodelay(true))), routes, stop))
        }
        Upstream::Unix(path) => {
            let listener = bind_unix(path);
            let listener = listener.map_err(|error| Reason::Listen { at: path.display().to_string(), error })?;
            Ok(spawn(listener, routes, stop))
        }
    }
}

fn spawn<L>(listener: L, routes: Router, stop: CancellationToken) -> tokio::task::JoinHandle<()>
where
    L: Listener,
    L::Addr: std::fmt::Debug,
{
    tokio::spawn(async move {
        let serving = axum::serve(listener, routes).with_graceful_shutdown(async move { stop.cancelled().await });
        if let Err(error) = serving.await {
            tracing::error!(%error, "the listener failed");
        }
    })
}
