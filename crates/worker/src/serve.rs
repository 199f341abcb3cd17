//! Runs the worker: opens everything and then the socket, serves until told to stop, and makes running jobs pending again.

use std::{
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
use sallyport_core::{
    addresses::lookup::Lookups,
    config::{Config, Upstream},
    sockets::{inherited::Sockets, listener::ListenError, tcp_tuning::hasten},
    statement::StatementKey,
};
use thiserror::Error;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    api::{
        self, App,
        guard::{self, Guard},
    },
    disk::Disks,
    egress::{self, Egress, EgressError},
    events::Events,
    housekeeping,
    jobs::{announcer::Announcer, context::JobContext},
    media::{MediaFolder, files::make_private},
    queue::{Queue, giving_way},
    sandbox::{Source, egress_tokens::EgressTokens},
    store::{Store, StoreError},
    streaming::{
        hls::{Remuxer, Streams},
        listener::UntilStopped,
        sendfile::{SendMode, SendQueue, Socket, choose_mode},
    },
    ytdlp::{Readiness, companion},
};

/// The reason why the worker cannot run.
#[derive(Debug, Error)]
#[error(transparent)]
pub struct WorkerError(WorkerErrorKind);

#[derive(Debug, Error)]
enum WorkerErrorKind {
    #[error("{key}: {path}: {error}")]
    Folder { key: &'static str, path: PathBuf, error: io::Error },
    #[error(transparent)]
    Store(StoreError),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Egress(#[from] EgressError),
}

impl From<WorkerErrorKind> for WorkerError {
    fn from(kind: WorkerErrorKind) -> Self {
        Self(kind)
    }
}

/// A stage in the life of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The worker serves requests.
    Ready,
    /// The next worker can use the data folder; only responses that have begun continue.
    Released,
}

/// How long to wait for a request that was in flight when the socket stopped accepting.
const LAST_REQUEST: Duration = Duration::from_millis(200);

/// Runs the worker until `shutdown` completes. Unless it is among `sockets`, its socket opens once everything else is ready. Calls
/// `reached` at each stage. Clients that ask for a description of the API get `openapi`.
///
/// Children are started through this program itself, so its `main` must pass the arguments after `confine` to
/// [`confine`](super::confine()).
///
/// # Errors
/// If the folders, the database or the socket cannot be opened.
pub async fn serve(
    config: Arc<Config>,
    key: StatementKey,
    openapi: Vec<u8>,
    mut sockets: Sockets,
    shutdown: impl Future<Output = ()> + Send,
    reached: impl Fn(Stage),
) -> Result<(), WorkerError> {
    let stop = CancellationToken::new();
    let (queue, egress) = queue(&config, &stop).await?;
    housekeeping::at_startup(&queue).await.map_err(WorkerErrorKind::Store)?;
    // Logs a problem with yt-dlp at startup; the routes that need it report it again.
    let _ = queue.context().readiness.tools().await;
    let seen = config.data_dir.join("worker.seen");
    let answering = TaskTracker::new();
    let guard = Arc::new(Guard::new(key, &config.worker.listen, &seen));
    let routes = routes(
        App::new(queue.clone(), openapi.into(), stop.clone(), answering.clone()),
        Arc::clone(&guard),
        answering.clone(),
    );
    let mode = choose_mode(&queue.context().media.jobs()).await;
    let serving =
        listen(&config.worker.listen, &mut sockets, routes, stop.clone(), mode).map_err(WorkerErrorKind::Listen)?;
    let store = queue.context().store.clone();
    let working = tokio::spawn(work(queue, stop.clone()));
    reached(Stage::Ready);
    shutdown.await;
    stop.cancel();
    let drained = Instant::now() + config.drain_timeout;
    // Jobs first: their state is stored even if clients are still reading files.
    let _ = working.await;
    let _ = timeout_at(drained, no_more_requests(answering)).await;
    if let Err(error) = guard.hand_over(&seen) {
        tracing::warn!(%error, "cannot save the seen request ids; the next worker will reject requests signed before its start");
    }
    if let Some(egress) = egress {
        egress.close().await;
    }
    store.release_file().await;
    reached(Stage::Released);
    let _ = timeout_at(drained, serving).await;
    Ok(())
}

/// Runs jobs and removes files until `stop` is cancelled and nothing runs any more.
async fn work(queue: Queue, stop: CancellationToken) {
    tokio::join!(queue.work(), giving_way::watch(&queue, &stop), housekeeping::keep(&queue, &stop));
    queue.streams().ended().await;
}

/// Waits until no response needs the database: every request has its response head, and every list has been read to its end. Sending
/// files does not use the database.
async fn no_more_requests(answering: TaskTracker) {
    // Connections close after the first of these periods; requests that arrived on them until then are counted during the second.
    sleep(2 * LAST_REQUEST).await;
    answering.close();
    answering.wait().await;
}

/// Builds the queue with everything that it needs, and the egress guard if it runs in this process.
async fn queue(config: &Config, stop: &CancellationToken) -> Result<(Queue, Option<egress::Serving>), WorkerErrorKind> {
    let folder = |key, path: &Path| {
        let path = path.to_owned();
        move |error| WorkerErrorKind::Folder { key, path, error }
    };
    make_private(&config.data_dir).map_err(folder("data_dir", &config.data_dir))?;
    let media = MediaFolder::open(&config.worker.media_dir)
        .and_then(|media| media.for_readers(config.worker.library_access))
        .map_err(folder("worker.media_dir", &config.worker.media_dir))?;
    let store = Store::open(&config.data_dir.join("worker.db")).map_err(WorkerErrorKind::Store)?;
    let (sandbox, door) = Source::new(config).await;
    let egress = door.map(|door| Ok::<_, EgressError>(Egress::open(config)?.serve(door))).transpose()?;
    let companion = companion::install(&config.data_dir).map_err(folder("data_dir", &config.data_dir))?;
    let readiness = Arc::new(Readiness::new(config.worker.clone(), media.jobs(), companion, sandbox));
    let disks = Disks::new(vec![config.worker.media_dir.clone(), config.data_dir.clone()], config.worker.disk_reserve);
    let events = Events::new(stop.clone());
    let remuxer = Remuxer {
        store: store.clone(),
        media: media.clone(),
        disks: disks.clone(),
        readiness: Arc::clone(&readiness),
        time: config.worker.job_timeout,
    };
    let context = JobContext {
        config: config.worker.clone(),
        announcer: Announcer::new(store.clone(), events.clone()),
        store,
        media,
        disks,
        readiness,
        lookups: Lookups::default(),
        egress_tokens: EgressTokens::new(egress::token_key(&config.egress)?),
        events,
    };
    Ok((Queue::new(context, Streams::new(remuxer, stop.clone()), stop.clone()), egress))
}

fn routes(app: App, guard: Arc<Guard>, answering: TaskTracker) -> Router {
    api::router(app)
        .layer(from_fn_with_state(guard, guard::guard))
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
    mode: SendMode,
) -> Result<JoinHandle<()>, ListenError> {
    Ok(match at {
        Upstream::Tcp(address) => {
            let listener = sockets.tcp(*address)?;
            hasten(&listener, address.ip());
            spawn(listener, routes, stop, mode)
        }
        Upstream::Unix(path) => spawn(sockets.unix(path)?, routes, stop, mode),
    })
}

fn spawn<L>(listener: L, routes: Router, stop: CancellationToken, mode: SendMode) -> JoinHandle<()>
where
    L: Listener<Io: Socket>,
    L::Addr: std::fmt::Debug,
{
    tokio::spawn(async move {
        let listener = UntilStopped::new(listener, stop.clone(), mode);
        let routes = routes.into_make_service_with_connect_info::<SendQueue>();
        let serving = axum::serve(listener, routes).with_graceful_shutdown(async move {
            stop.cancelled().await;
            // Otherwise a connection that was just accepted would be closed before its request is read.
            sleep(LAST_REQUEST).await;
        });
        if let Err(error) = serving.await {
            tracing::error!(%error, "the listener failed");
        }
    })
}
