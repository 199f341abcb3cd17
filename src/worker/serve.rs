//! Opens everything, then the socket, serves until it is told to stop, and puts the running jobs back.

use std::{
    future::pending,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    extract::{Request, State},
    middleware::{Next, from_fn_with_state},
    response::Response,
    routing::get,
    serve::Listener,
};
use thiserror::Error;
use tokio::{
    sync::Mutex,
    task::JoinHandle,
    time::{Instant, sleep, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    api::{self, App},
    conduit::{Conduit, Lane, Socket},
    disk::Disks,
    events::Events,
    giving_way,
    guard::{self, Guard},
    hls::{self, Streams},
    job::Workshop,
    media::{MediaFolder, make_private},
    passes::Passes,
    queue::Queue,
    readers::Readers,
    retention,
    sandbox::Source,
    store::{Store, StoreError},
    ytdlp::{Readiness, companion},
};
use crate::{
    config::{Config, Upstream},
    edge::{listener::ListenError, sockets::Sockets},
    egress::{self, Egress, EgressError},
    hasten::hasten,
    lookup::Lookups,
    statement::StatementKey,
};

/// Why the worker does not run.
#[derive(Debug, Error)]
#[error(transparent)]
pub struct WorkerError(Reason);

#[derive(Debug, Error)]
enum Reason {
    #[error("{key}: {path}: {error}")]
    Folder { key: &'static str, path: PathBuf, error: io::Error },
    #[error(transparent)]
    Store(StoreError),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Egress(#[from] EgressError),
}

impl From<Reason> for WorkerError {
    fn from(reason: Reason) -> Self {
        Self(reason)
    }
}

/// How far a worker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It serves.
    Ready,
    /// The next worker can have the data folder; only answers that have begun go on.
    Released,
}

/// A request that was on its way when the socket closed comes within this time.
const LAST_REQUEST: Duration = Duration::from_millis(200);

/// Runs the worker until `shutdown` is done. Its socket opens, where it is not among `sockets`, once everything else is ready.
/// `reached` is told how far it is.
///
/// Children are started through this very program, so its `main` must hand what follows an argument `confine` to
/// [`confine`](super::confine()).
///
/// # Errors
/// When the folders, the database or the socket cannot be had.
pub async fn serve(
    config: Arc<Config>,
    key: StatementKey,
    mut sockets: Sockets,
    shutdown: impl Future<Output = ()> + Send,
    reached: impl Fn(Stage),
) -> Result<(), WorkerError> {
    let stop = CancellationToken::new();
    let (workshop, egress) = workshop(&config, &stop).await?;
    let queue = Queue::new(workshop, stop.clone());
    queue.tidy().await.map_err(Reason::Store)?;
    // Said in the log here; the routes that need yt-dlp say it again.
    drop(queue.workshop().readiness.tools().await);
    let (seen, answering) = (config.data_dir.join("worker.seen"), TaskTracker::new());
    let guard = Arc::new(Guard::new(key, &config.worker.listen, &seen));
    let routes =
        routes(App::new(queue.clone(), stop.clone(), answering.clone()), Arc::clone(&guard), answering.clone());
    let serving = listen(&config.worker.listen, &mut sockets, routes, stop.clone()).map_err(Reason::Listen)?;
    let store = queue.workshop().store.clone();
    let stopped = stop.clone();
    let working = tokio::spawn(async move {
        tokio::join!(
            queue.work(),
            giving_way::watch(&queue, &stopped),
            retention::enforce(&queue, &stopped),
            hls::tidy(&queue, &stopped)
        );
        queue.workshop().streams.ended().await;
    });
    reached(Stage::Ready);
    shutdown.await;
    stop.cancel();
    let drained = Instant::now() + config.drain_timeout;
    // The jobs first: what they were at is stored, whoever still reads a file.
    drop(working.await);
    drop(timeout_at(drained, no_more_requests(answering)).await);
    if let Err(error) = guard.leave(&seen) {
        tracing::warn!(%error, "the next worker will not know which requests were let in, and refuses those that wait");
    }
    if let Some(egress) = egress {
        egress.close().await;
    }
    store.release_file().await;
    reached(Stage::Released);
    drop(timeout_at(drained, serving).await);
    Ok(())
}

/// Waits until no answer needs the database: each request has its response head, and each list has been read to its end. Files are
/// sent without the database.
async fn no_more_requests(answering: TaskTracker) {
    // Connections end after the first of these; what came on one until then is counted by the second.
    sleep(2 * LAST_REQUEST).await;
    answering.close();
    answering.wait().await;
}

/// With the guard, where it is part of this process.
async fn workshop(config: &Config, stop: &CancellationToken) -> Result<(Workshop, Option<egress::Serving>), Reason> {
    let folder = |key, path: &Path| {
        let path = path.to_owned();
        move |error| Reason::Folder { key, path, error }
    };
    make_private(&config.data_dir).map_err(folder("data_dir", &config.data_dir))?;
    let media = MediaFolder::open(&config.worker.media_dir)
        .and_then(|media| media.for_readers(config.worker.library_access))
        .map_err(folder("worker.media_dir", &config.worker.media_dir))?;
    let store = Store::open(&config.data_dir.join("worker.db")).map_err(Reason::Store)?;
    let (sandbox, door) = Source::new(config).await;
    let egress = door.map(|door| Ok::<_, EgressError>(Egress::open(config)?.serve(door))).transpose()?;
    let companion = companion::install(&config.data_dir).map_err(folder("data_dir", &config.data_dir))?;
    let readiness = Readiness::new(config.worker.clone(), media.jobs(), companion, sandbox);
    let passes = Passes::new(egress::pass_key(&config.egress)?);
    let disks = Disks::new(vec![config.worker.media_dir.clone(), config.data_dir.clone()], config.worker.disk_reserve);
    let (events, readers, streams) = (Events::new(stop.clone()), Readers::default(), Streams::new(stop.clone()));
    let lookups = Lookups::default();
    let (telling, sharing, config) = (Mutex::default(), Mutex::default(), config.worker.clone());
    let workshop = Workshop {
        config,
        store,
        media,
        disks,
        readers,
        readiness,
        lookups,
        passes,
        events,
        streams,
        telling,
        sharing,
    };
    Ok((workshop, egress))
}

fn routes(app: App, keeper: Arc<Guard>, answering: TaskTracker) -> Router {
    api::router(app)
        .layer(from_fn_with_state(keeper, guard::guard))
        .layer(from_fn_with_state(answering, counted))
        .route("/healthz", get(async || "ok"))
}

async fn counted(State(answering): State<TaskTracker>, request: Request, next: Next) -> Response {
    answering.track_future(next.run(request)).await
}

fn listen(
    at: &Upstream,
    sockets: &mut Sockets,
    routes: Router,
    stop: CancellationToken,
) -> Result<JoinHandle<()>, ListenError> {
    Ok(match at {
        Upstream::Tcp(address) => {
            let listener = sockets.tcp(*address)?;
            hasten(&listener, address.ip());
            spawn(listener, routes, stop)
        }
        Upstream::Unix(path) => spawn(sockets.unix(path)?, routes, stop),
    })
}

/// Takes nobody any more once `stop` is cancelled; who comes then waits for the next worker.
pub(super) struct UntilStopped<L> {
    listener: L,
    stop: CancellationToken,
}

impl<L: Listener<Io: Socket>> Listener for UntilStopped<L> {
    type Io = Conduit<L::Io>;
    type Addr = L::Addr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.stop.run_until_cancelled(self.listener.accept()).await {
            Some((socket, from)) => (Conduit::new(socket), from),
            None => pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

fn spawn<L>(listener: L, routes: Router, stop: CancellationToken) -> JoinHandle<()>
where
    L: Listener<Io: Socket>,
    L::Addr: std::fmt::Debug,
{
    tokio::spawn(async move {
        let listener = UntilStopped { listener, stop: stop.clone() };
        let routes = routes.into_make_service_with_connect_info::<Lane>();
        let serving = axum::serve(listener, routes).with_graceful_shutdown(async move {
            stop.cancelled().await;
            // A connection that was just taken would be closed before its request is read.
            sleep(LAST_REQUEST).await;
        });
        if let Err(error) = serving.await {
            tracing::error!(%error, "the listener failed");
        }
    })
}
