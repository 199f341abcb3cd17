//! The admin listener, for this machine only: liveness, readiness and metrics.
//!
//! It keeps answering while the gateway drains. Its connections have a limit of their own, so other connections cannot crowd them out.

use std::{collections::VecDeque, io, net::IpAddr, sync::Arc, time::Duration};

use bytes::BytesMut;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use sallyport_core::{
    config::Upstream,
    http1::{HeadScan, RequestHead, ResponseHead},
    sockets::{inherited::Sockets, listener::ListenError},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, UnixListener},
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::either::Either;
use tracing::warn;

use crate::{
    clients::{
        http1_end::last_response,
        http1_head::{NextRequest, rest_of_head},
        own_response::OwnResponse,
    },
    edge::Certificates,
    observe::metrics::{CONTENT_TYPE, Listener, ScrapedValues},
    policy::host_name,
    state::GatewayState,
    upstream::WorkerWatch,
};

/// The maximum number of connections at a time. When one more arrives, the oldest is closed.
const MAX_CONNECTIONS: usize = 32;
/// The longest that a connection may last, from its start to the end of its response.
const MAX_LIFE: Duration = Duration::from_secs(5);

/// The socket that it listens on.
pub(crate) enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// How a client connected.
#[derive(Clone, Copy, Debug)]
enum ConnectedOver {
    /// Over TCP, as a browser does on behalf of a web page.
    Tcp,
    /// Over a Unix socket, which no browser uses.
    Unix,
}

/// The admin listener and the state that it reports.
pub(crate) struct Admin {
    pub(crate) state: Arc<GatewayState>,
    pub(crate) certificates: Arc<Certificates>,
    pub(crate) worker: Arc<WorkerWatch>,
    /// True once the gateway drains.
    pub(crate) stopping: watch::Receiver<bool>,
}

/// The body of a response, with its status and type.
struct Page {
    status: StatusCode,
    content_type: &'static str,
    body: String,
}

impl Admin {
    /// Accepts connections until its task is aborted.
    pub(crate) async fn serve(self: Arc<Self>, socket: Socket) {
        let mut running = VecDeque::with_capacity(MAX_CONNECTIONS);
        let reached = match socket {
            Socket::Tcp(_) => ConnectedOver::Tcp,
            Socket::Unix(_) => ConnectedOver::Unix,
        };
        loop {
            match socket.accept().await {
                Ok(stream) => {
                    make_room(&mut running);
                    let served = timeout(MAX_LIFE, Arc::clone(&self).respond(stream, reached));
                    running.push_back(tokio::spawn(served).abort_handle());
                }
                Err(error) => {
                    warn!(%error, "cannot accept a connection to the admin listener");
                    sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    /// Answers one request and closes the connection.
    async fn respond(
        self: Arc<Self>,
        mut stream: impl AsyncRead + AsyncWrite + Unpin,
        reached: ConnectedOver,
    ) -> io::Result<()> {
        let _open = self.state.metrics.connection(Listener::Admin);
        let (page, method) = match rest_of_head(&mut stream, BytesMut::new(), HeadScan::default()).await {
            NextRequest::Request(request, _) => (self.page_for(&request.head, reached), request.head.method),
            NextRequest::Refused(refusal) => {
                (Page::text(StatusCode::BAD_REQUEST, &refusal.detail().unwrap_or_default()), Method::GET)
            }
            NextRequest::Closed => return Ok(()),
        };
        stream.write_all(&last_response(&method, &page.into())).await?;
        stream.shutdown().await
    }

    fn page_for(&self, head: &RequestHead, reached: ConnectedOver) -> Page {
        let named = match reached {
            ConnectedOver::Tcp => is_expected(&head.host, &self.state.rules.load().config.admin_hosts),
            ConnectedOver::Unix => true,
        };
        if named {
            self.page(&head.method, head.path())
        } else {
            Page::text(
                StatusCode::MISDIRECTED_REQUEST,
                "use an IP address, or add this host name to gateway.admin_hosts",
            )
        }
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

    /// Reports the gateway as alive even when the worker is down: restarting the gateway would not help.
    fn health(&self) -> String {
        self.worker.down_for().map_or_else(|| "ok".to_owned(), |time| format!("ok\n{}", worker_down(time)))
    }

    fn metrics(&self) -> String {
        self.state.metrics.render(ScrapedValues {
            rate_limited_clients: self.state.rules.load().site.tracked_clients(),
            certificate_ends: self.certificates.ends(),
            worker_down: self.worker.down_for().is_some(),
        })
    }
}

impl Socket {
    pub(crate) fn open(at: &Upstream, sockets: &mut Sockets) -> Result<Self, ListenError> {
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

impl From<Page> for OwnResponse {
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

/// Returns true for an IP address, a name without a dot, a name under `.localhost` and the configured names.
///
/// This prevents DNS rebinding: a web page could make its own name resolve to this machine, and a browser here would then treat this
/// listener as part of the page's site. That takes a name that somebody can register, and a name without a dot is not one.
fn is_expected(host: &str, named: &[String]) -> bool {
    let name = host_name(host);
    let address = name.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(name);
    address.parse::<IpAddr>().is_ok()
        || !name.contains('.')
        || name.to_ascii_lowercase().ends_with(".localhost")
        || named.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// Closes the oldest connection at the limit, so that a client with open connections cannot keep others out.
fn make_room(running: &mut VecDeque<tokio::task::AbortHandle>) {
    running.retain(|task| !task.is_finished());
    if running.len() >= MAX_CONNECTIONS
        && let Some(oldest) = running.pop_front()
    {
        oldest.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_somebody_could_own_is_not_expected_unless_it_is_configured() {
        let named = ["nas.local".to_owned()];
        for host in [
            "127.0.0.1:9901",
            "127.0.0.1",
            "[::1]:9901",
            "192.168.1.5",
            "localhost:9901",
            "a.LOCALHOST",
            "gateway:9901",
            "NAS.local:1",
        ] {
            assert!(is_expected(host, &named), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:9901",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "nas.local.",
            "x.nas.local",
        ] {
            assert!(!is_expected(host, &named), "{host}");
        }
    }
}
