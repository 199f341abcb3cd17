//! The admin listener, for this machine: whether the gateway lives, whether it takes new work, and its metrics.
//!
//! It always answers: also while the gateway drains, and whatever other connections there are, since it has its own.

use std::{collections::VecDeque, io, sync::Arc, time::Duration};

use bytes::BytesMut;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, UnixListener},
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::either::Either;
use tracing::warn;

use super::{
    client::Answer,
    connection::{Next, rest_of_head},
    http1::last_answer,
    live::Live,
    worker_watch::WorkerWatch,
};
use crate::{
    config::Upstream,
    edge::{Certificates, listener::ListenError, sockets::Sockets},
    message::{HeadScan, ResponseHead},
    observe::metrics::{CONTENT_TYPE, Listener, Looked},
};

/// So many connections are served at a time. When one more comes, the one that has waited longest is closed.
const MAX_CONNECTIONS: usize = 32;
/// A connection, from its start to the end of its answer, takes no longer.
const MAX_LIFE: Duration = Duration::from_secs(5);

/// Where it listens.
pub(super) enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// What it tells of.
pub(super) struct Admin {
    pub(super) live: Arc<Live>,
    pub(super) certificates: Arc<Certificates>,
    pub(super) worker: Arc<WorkerWatch>,
    /// True once the gateway drains.
    pub(super) stopping: watch::Receiver<bool>,
}

/// A page.
struct Page {
    status: StatusCode,
    content_type: &'static str,
    body: String,
}

impl Admin {
    /// Accepts until the task that this runs in is ended.
    pub(super) async fn serve(self: Arc<Self>, socket: Socket) {
        let mut running = VecDeque::with_capacity(MAX_CONNECTIONS);
        loop {
            match socket.accept().await {
                Ok(stream) => {
                    make_room(&mut running);
                    let served = timeout(MAX_LIFE, Arc::clone(&self).answer(stream));
                    running.push_back(tokio::spawn(served).abort_handle());
                }
                Err(error) => {
                    warn!(%error, "cannot accept a connection to the admin listener");
                    sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    /// Answers one request and closes.
    async fn answer(self: Arc<Self>, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
        let _open = self.live.metrics.connection(Listener::Admin);
        let (page, method) = match rest_of_head(&mut stream, BytesMut::new(), HeadScan::default()).await {
            Next::Request(request, _) => (self.page(&request.head.method, request.head.path()), request.head.method),
            Next::Refused(refusal) => {
                (Page::text(StatusCode::BAD_REQUEST, &refusal.detail().unwrap_or_default()), Method::GET)
            }
            Next::Closed => return Ok(()),
        };
        stream.write_all(&last_answer(&method, &page.into())).await?;
        stream.shutdown().await
    }

    fn page(&self, method: &Method, path: &str) -> Page {
        match path {
            _ if !matches!(*method, Method::GET | Method::HEAD) => {
                Page::text(StatusCode::METHOD_NOT_ALLOWED, "GET and HEAD only")
            }
            "/healthz" => Page::text(StatusCode::OK, &self.health()),
            "/readyz" if *self.stopping.borrow() => Page::text(StatusCode::SERVICE_UNAVAILABLE, "draining"),
            "/readyz" => match self.worker.down_for() {
                Some(time) => Page::text(StatusCode::SERVICE_UNAVAILABLE, &worker_down(time)),
                None => Page::text(StatusCode::OK, "ready"),
            },
            "/metrics" => Page { status: StatusCode::OK, content_type: CONTENT_TYPE, body: self.metrics() },
            _ => Page::text(StatusCode::NOT_FOUND, "not found"),
        }
    }

    /// The gateway lives whatever becomes of the worker, and a restart of it would mend nothing.
    fn health(&self) -> String {
        self.worker.down_for().map_or_else(|| "ok".to_owned(), |time| format!("ok\n{}", worker_down(time)))
    }

    fn metrics(&self) -> String {
        self.live.metrics.render(Looked {
            rate_limited_clients: self.live.rules.load().site.tracked_clients(),
            certificate_ends: self.certificates.ends(),
            worker_down: self.worker.down_for().is_some(),
        })
    }
}

impl Socket {
    pub(super) fn open(at: &Upstream, sockets: &mut Sockets) -> Result<Self, ListenError> {
        Ok(match at {
            Upstream::Tcp(address) => Self::Tcp(sockets.tcp(*address)?),
            Upstream::Unix(path) => Self::Unix(sockets.unix(path)?),
        })
    }

    async fn accept(&self) -> io::Result<impl AsyncRead + AsyncWrite + Unpin + use<>> {
        match self {
            Self::Tcp(listener) => listener.accept().await.map(|(stream, _)| Either::Left(stream)),
            Self::Unix(listener) => listener.accept().await.map(|(stream, _)| Either::Right(stream)),
        }
    }
}

impl Page {
    fn text(status: StatusCode, line: &str) -> Self {
        Self { status, content_type: "text/plain", body: format!("{line}\n") }
    }
}

impl From<Page> for Answer {
    fn from(page: Page) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(page.content_type));
        if page.status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        Self { head: ResponseHead { status: page.status, headers }, body: page.body.into_bytes() }
    }
}

fn worker_down(time: Duration) -> String {
    format!("the worker has been down for {} s", time.as_secs())
}

/// Nobody who holds connections open can keep others out.
fn make_room(running: &mut VecDeque<tokio::task::AbortHandle>) {
    running.retain(|task| !task.is_finished());
    if running.len() >= MAX_CONNECTIONS
        && let Some(oldest) = running.pop_front()
    {
        oldest.abort();
    }
}
