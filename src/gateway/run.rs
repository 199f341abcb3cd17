//! Starts the gateway, serves, and stops it without cutting off what is on its way.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustix::process::{Resource, getrlimit, setrlimit};
use thiserror::Error;
use tokio::{
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
    sync::watch,
    time::timeout,
};
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::{
    admin::{self, Admin},
    connection, control,
    exchange::Peer,
    handle::Gateway,
    http2_connection,
    live::{Live, LiveError},
    load::Load,
    redirect::Redirect,
    reload,
    succession::{Estate, Predecessor},
};
use crate::{
    config::{Config, Limits, TlsConfig, TlsMode, Upstream},
    edge::{
        Caller, Certificates, Threshold,
        certificates::{CertificateError, CertificateFiles},
        listener::{self, ListenError},
        local_ca::{LocalCa, LocalCaError},
        slots::{Activity, Place, Slots},
        sockets::Sockets,
        tls,
    },
    observe::metrics::Listener,
    stop::stopped,
    upstream::Pool,
};

/// So often it is looked for connections to applications that nobody needs, and at memory.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Why the gateway cannot run.
#[derive(Debug, Error)]
pub enum GatewayError {
    /// State, secrets or policies.
    #[error(transparent)]
    Live(#[from] LiveError),
    /// The local authority.
    #[error(transparent)]
    LocalCa(#[from] LocalCaError),
    /// The certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// TLS settings.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// An address.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The operating system.
    #[error(transparent)]
    Io(#[from] io::Error),
}

#[expect(clippy::too_many_lines, reason = "a start in its order, and the end in its")]
/// Runs the gateway until `stop` is done, then until what is on its way has ended or the drain limit has passed.
/// `ready` is called once every port is open; those in `sockets` are already. Then the predecessor, where there is one, is
/// let go.
pub async fn run(
    config: Config,
    (mut sockets, predecessor): (Sockets, Option<Predecessor>),
    stop: impl Future<Output = ()>,
    ready: impl FnOnce(),
) -> Result<(), GatewayError> {
    tls::install_crypto();
    raise_descriptor_limit(&config.limits);
    let config = Arc::new(config);
    // Before it is read, so that no change falls between the two.
    let seen = reload::Seen::of(&config);
    let live = Arc::new(Live::open(&config)?);
    let certificates = Arc::new(certificates(&config.tls)?);
    let (stopping, stopped) = watch::channel(false);
    // Until the last request has ended, what is taken back must still be heard of.
    let (ending, ended) = watch::channel(false);
    let (hangup, succeed) = (signal(SignalKind::hangup())?, signal(SignalKind::user_defined2())?);
    let gateway = Arc::new(Gateway { live: Arc::clone(&live), pool: Pool::default(), load: Load::default() });
    let front = Front {
        gateway: Arc::clone(&gateway),
        threshold: Arc::new(threshold(&live, &certificates)?),
        clients: TaskTracker::new(),
        slots: Arc::new(Slots::new(config.limits.max_connections, config.limits.max_connections_per_client)),
        stopped: stopped.clone(),
    };
    let admin_socket = admin_socket(&config.admin_listen, &mut sockets)?;
    let admin_handle = sockets.in_use();
    let accepting = front.listen(&config, &mut sockets)?;
    let estate = Arc::new(Estate::new(sockets.in_use(), admin_handle));
    sockets.all_taken()?;
    let admin = Admin { live: Arc::clone(&live), certificates: Arc::clone(&certificates), stopping: stopped.clone() };
    tokio::spawn(Arc::clone(&estate).until_retired(Arc::new(admin).serve(admin_socket)));
    let keeping = [
        tokio::spawn(certificates.watch(stopped.clone())),
        tokio::spawn(control::serve(Arc::clone(&live), Arc::clone(&estate), ended.clone())),
        tokio::spawn(reload::watch(Arc::clone(&live), (seen, hangup), stopped.clone())),
        tokio::spawn(Arc::clone(&estate).watch(config.file.clone(), succeed, stopped)),
        tokio::spawn(Arc::clone(&live).keep_house(ended.clone())),
        tokio::spawn(sweep(gateway, ended)),
    ];
    info!(listen = ?config.listen, url = %config.public_url, "the gateway is ready");
    ready();
    if let Some(predecessor) = predecessor {
        predecessor.release();
    }
    tokio::select! {
        () = stop => {}
        () = estate.retired() => {}
    }
    let limit = live.rules.load().config.drain_timeout;
    info!("stopping; running requests have {limit:?} to end");
    let _ = stopping.send(true);
    estate.close();
    front.drain(limit).await;
    let _ = ending.send(true);
    for task in accepting.into_iter().chain(keeping) {
        let _ = task.await;
    }
    live.write_bans().await;
    Ok(())
}

/// What every accept loop shares.
struct Front {
    gateway: Arc<Gateway>,
    threshold: Arc<Threshold>,
    clients: TaskTracker,
    slots: Arc<Slots>,
    stopped: watch::Receiver<bool>,
}

impl Front {
    fn listen(&self, config: &Config, sockets: &mut Sockets) -> Result<Vec<tokio::task::JoinHandle<()>>, ListenError> {
        let mut open =
            |addresses: &[SocketAddr]| addresses.iter().map(|a| sockets.tcp(*a)).collect::<Result<Vec<_>, _>>();
        let (encrypted, plain) = (open(&config.listen)?, open(&config.http_listen)?);
        let port = config.public_url.port_or_known_default().unwrap_or(443);
        let redirect = Arc::new(Redirect { port });
        let mut loops = Vec::new();
        loops.extend(encrypted.into_iter().map(|l| self.accept_tls(l)));
        loops.extend(plain.into_iter().map(|l| self.accept_plain(l, &redirect)));
        Ok(loops)
    }

    fn accept_tls(&self, listener: TcpListener) -> tokio::task::JoinHandle<()> {
        let (threshold, gateway, stop, clients) =
            (Arc::clone(&self.threshold), Arc::clone(&self.gateway), self.stopped.clone(), self.clients.clone());
        let serve = move |stream: TcpStream, socket: SocketAddr, place: Place| {
            let (gateway, activity, stop) = (Arc::clone(&gateway), place.activity(), stop.clone());
            // The handshake's state is large, and is given back before the first request.
            let handshake = Box::pin(Arc::clone(&threshold).encrypted(stream, socket, place));
            let open = gateway.live.metrics.connection(Listener::Tls);
            clients.track_future(async move {
                let _open = open;
                match handshake.await {
                    Some(caller) => serve(caller, gateway, activity, stop).await,
                    None => gateway.live.metrics.handshake_failed(),
                }
            })
        };
        self.accept(listener, serve)
    }

    fn accept_plain(&self, listener: TcpListener, redirect: &Arc<Redirect>) -> tokio::task::JoinHandle<()> {
        let (redirect, threshold, stop) = (Arc::clone(redirect), Arc::clone(&self.threshold), self.stopped.clone());
        let live = Arc::clone(&self.gateway.live);
        let serve = move |stream: TcpStream, socket: SocketAddr, place: Place| {
            let (redirect, threshold, stop) = (Arc::clone(&redirect), Arc::clone(&threshold), stop.clone());
            let open = live.metrics.connection(Listener::Http);
            async move {
                let _open = open;
                if let Some(caller) = threshold.plain(stream, socket, place).await {
                    redirect.serve(caller.stream, stop).await;
                }
            }
        };
        self.accept(listener, serve)
    }

    fn accept<F: Future<Output = ()> + Send + 'static>(
        &self,
        listener: TcpListener,
        serve: impl Fn(TcpStream, SocketAddr, Place) -> F + Send + 'static,
    ) -> tokio::task::JoinHandle<()> {
        let threshold = Arc::clone(&self.threshold);
        let share = move |ip| threshold.share(ip);
        tokio::spawn(listener::accept(listener, self.stopped.clone(), Arc::clone(&self.slots), share, serve))
    }

    async fn drain(&self, limit: Duration) {
        self.clients.close();
        if timeout(limit, self.clients.wait()).await.is_err() {
            warn!(connections = self.clients.len(), "the drain limit has passed; what still runs is cut off");
        }
    }
}

fn threshold(live: &Arc<Live>, certificates: &Arc<Certificates>) -> Result<Threshold, rustls::Error> {
    let (rules, bans) = (Arc::clone(live), Arc::clone(live));
    let in_force = move || Arc::clone(&rules.rules.load().config);
    Threshold::new(Arc::clone(certificates), in_force, move |client| bans.is_banned(client))
}

fn admin_socket(at: &Upstream, sockets: &mut Sockets) -> Result<admin::Socket, ListenError> {
    Ok(match at {
        Upstream::Tcp(address) => admin::Socket::Tcp(sockets.tcp(*address)?),
        Upstream::Unix(path) => admin::Socket::Unix(sockets.unix(path)?),
    })
}

/// Each connection needs a descriptor, and each request another one for its application.
fn raise_descriptor_limit(limits: &Limits) {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
    let needed = (limits.max_connections + limits.max_requests + 256) as u64;
    if let Some(maximum) = limit.maximum.filter(|maximum| *maximum < needed) {
        warn!(
            maximum,
            needed,
            "max_connections and max_requests may need more open files than the system allows; raise `ulimit -n`"
        );
    }
}

/// Closes connections to applications that have waited too long, and looks at the memory that is left.
async fn sweep(gateway: Arc<Gateway>, mut stop: watch::Receiver<bool>) {
    while timeout(SWEEP_EVERY, stopped(&mut stop)).await.is_err() {
        gateway.pool.sweep();
        if gateway.load.look_at_memory(gateway.live.rules.load().config.limits.max_memory) {
            warn!("memory runs short; new requests are turned away until there is more");
        }
    }
}

async fn serve(caller: Caller, gateway: Arc<Gateway>, activity: Arc<Activity>, stop: watch::Receiver<bool>) {
    let Caller { stream, address, name } = caller;
    let peer = Peer { ip: address.ip(), tls: stream.tls_version(), name: name.map(Arc::new) };
    if stream.is_http2() {
        // On the heap, so that a connection of HTTP/1, which may be parked for long, does not hold as much.
        Box::pin(http2_connection::serve(stream, peer, gateway, activity, stop)).await;
    } else {
        connection::serve(stream, peer, gateway, activity, stop).await;
    }
}

fn certificates(tls: &TlsConfig) -> Result<Certificates, GatewayError> {
    let first = match &tls.mode {
        TlsMode::Files(paths) => CertificateFiles::load(paths)?,
        TlsMode::LocalCa { dir, names } => {
            let ca = LocalCa::new(dir);
            ca.ensure(names, SystemTime::now())?;
            CertificateFiles::load(&ca.served())?
        }
    };
    let further = tls.certificates.iter().map(CertificateFiles::load).collect::<Result<_, _>>()?;
    Ok(Certificates::new(first, further))
}
