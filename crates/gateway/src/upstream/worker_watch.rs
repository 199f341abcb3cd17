//! Watches whether the worker answers, so that the health endpoints report it and no request waits for a worker that is down.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use sallyport_core::{config::Upstream, supervision::shutdown::stopped};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    sync::watch,
    time::timeout,
};
use tokio_util::either::Either;
use tracing::{info, warn};

use crate::{
    policy::{Permit, Target},
    state::GatewayState,
};

/// How often the worker is probed.
const ASK_EVERY: Duration = Duration::from_secs(2);

/// How long a worker may be silent, as during a hot restart, before it counts as down.
const PROBE_TIMEOUT: Duration = Duration::from_secs(15);

/// The number of failed probes in a row after which a worker counts as down.
const FAILURES: u32 = 2;

const QUESTION: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: worker\r\nConnection: close\r\n\r\n";
const OK: &[u8; 12] = b"HTTP/1.1 200";

/// The state of the worker, as far as the gateway knows.
#[derive(Debug, Default)]
pub(crate) struct WorkerWatch {
    /// When it stopped answering; `None` while it answers, or if no application needs it.
    down: ArcSwapOption<Instant>,
}

impl WorkerWatch {
    /// Returns how long the worker has been down.
    pub(crate) fn down_for(&self) -> Option<Duration> {
        self.down.load().as_ref().map(|since| since.elapsed())
    }

    /// Returns whether a request would go to the worker while it is down.
    pub(crate) fn keeps_waiting(&self, state: &GatewayState, permit: &Permit) -> bool {
        self.down.load().is_some()
            && permit.app().statement.is_some()
            && match permit.target() {
                Target::Upstream(upstream) => *upstream == state.rules.load().config.worker.listen,
                Target::CreateLink | Target::Welcome => false,
            }
    }

    /// Probes the worker every few seconds, until `stop` becomes true.
    pub(crate) async fn watch(self: Arc<Self>, state: Arc<GatewayState>, mut stop: watch::Receiver<bool>) {
        let mut failures = 0;
        while timeout(ASK_EVERY, stopped(&mut stop)).await.is_err() {
            let rules = state.rules.load_full();
            let listen = &rules.config.worker.listen;
            if !rules.site.needs_worker(listen) {
                self.down.store(None);
                continue;
            }
            let response = tokio::select! {
                response = timeout(PROBE_TIMEOUT, ask(listen)) => response.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
                () = stopped(&mut stop) => return,
            };
            self.note(&response, &mut failures);
        }
    }

    fn note(&self, response: &io::Result<()>, failures: &mut u32) {
        match response {
            Ok(()) => {
                *failures = 0;
                if let Some(since) = self.down.swap(None) {
                    info!(down_for = ?since.elapsed(), "the worker answers again");
                }
            }
            Err(error) => {
                *failures = failures.saturating_add(1);
                let silent = error.kind() == io::ErrorKind::TimedOut;
                if (silent || *failures >= FAILURES) && self.down.load().is_none() {
                    warn!(%error, "the worker does not answer; its requests get 502 until it does");
                    self.down.store(Some(Arc::new(Instant::now())));
                }
            }
        }
    }
}

async fn ask(listen: &Upstream) -> io::Result<()> {
    let mut stream = match listen {
        Upstream::Tcp(address) => Either::Left(TcpStream::connect(*address).await?),
        Upstream::Unix(path) => Either::Right(UnixStream::connect(path).await?),
    };
    stream.write_all(QUESTION).await?;
    let mut response = *OK;
    stream.read_exact(&mut response).await?;
    if response == *OK { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}
