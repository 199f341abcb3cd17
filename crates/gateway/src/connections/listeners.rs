//! The accept loops of the clients' ports, which hand each connection to the code that serves it.

use std::{
    future::Future,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use sallyport_core::{
    config::Config,
    sockets::{inherited::Sockets, listener::ListenError},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::timeout,
};
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::{http1_connection, http2_connection};
use crate::{
    edge::{
        AcceptFault, Acceptor, Caller, Certificates, accept_loop,
        connection_limits::{Activity, SlotHandle, Slots},
    },
    observe::metrics::{ConnectionRejection, Listener, Metrics},
    pages::plaintext::Plain,
    requests::{exchange::Peer, gateway::Gateway},
};

/// The state that all accept loops share.
pub(crate) struct Listeners {
    gateway: Arc<Gateway>,
    acceptor: Arc<Acceptor>,
    certificates: Arc<Certificates>,
    clients: TaskTracker,
    slots: Arc<Slots>,
    loops: JoinSet<()>,
    stopped: watch::Receiver<bool>,
}

impl Listeners {
    /// Creates the accept loops' state. They accept no more connections once `stopped` is true.
    pub(crate) fn new(
        gateway: Arc<Gateway>,
        certificates: &Arc<Certificates>,
        stopped: watch::Receiver<bool>,
    ) -> Result<Self, rustls::Error> {
        let limits = &gateway.state.rules.load().config.limits;
        let slots = Arc::new(Slots::new(limits.max_connections, limits.max_connections_per_client));
        let acceptor = Arc::new(acceptor(&gateway, certificates)?);
        Ok(Self {
            gateway,
            acceptor,
            certificates: Arc::clone(certificates),
            clients: TaskTracker::new(),
            slots,
            loops: JoinSet::new(),
            stopped,
        })
    }

    /// Starts an accept loop for each port.
    pub(crate) fn listen(&mut self, config: &Config, sockets: &mut Sockets) -> Result<(), ListenError> {
        let mut open =
            |addresses: &[SocketAddr]| addresses.iter().map(|a| sockets.tcp(*a)).collect::<Result<Vec<_>, _>>();
        let encrypted = open(&config.listen)?;
        let plain = open(&config.http_listen)?;
        let pages = Arc::new(Plain::new(config, Arc::clone(&self.certificates), &self.gateway.state));
        for listener in encrypted {
            self.loops.spawn(self.accept_tls(listener));
        }
        for listener in plain {
            self.loops.spawn(self.accept_plain(listener, &pages));
        }
        Ok(())
    }

    /// Waits until every client is served, or until `limit` has passed.
    pub(crate) async fn drain(&mut self, limit: Duration) {
        // A connection that was just accepted is tracked only once its loop has handled it.
        while self.loops.join_next().await.is_some() {}
        self.clients.close();
        if timeout(limit, self.clients.wait()).await.is_err() {
            warn!(connections = self.clients.len(), "the drain timeout has passed; closing the remaining connections");
        }
    }

    fn accept_tls(&self, listener: TcpListener) -> impl Future<Output = ()> + Send + use<> {
        let acceptor = Arc::clone(&self.acceptor);
        let gateway = Arc::clone(&self.gateway);
        let stop = self.stopped.clone();
        let clients = self.clients.clone();
        let serve = move |stream: TcpStream, socket: SocketAddr, slot: SlotHandle| {
            let gateway = Arc::clone(&gateway);
            let activity = slot.activity();
            let stop = stop.clone();
            // The handshake's state is large; on the heap, it is freed before the first request.
            let handshake = Box::pin(Arc::clone(&acceptor).encrypted(stream, socket, slot));
            let open = gateway.state.metrics.connection(Listener::Tls);
            clients.track_future(async move {
                let _open = open;
                match handshake.await {
                    Ok(caller) => serve(caller, gateway, activity, stop).await,
                    Err(fault) => count(&gateway.state.metrics, &fault),
                }
            })
        };
        self.accept(listener, serve)
    }

    fn accept_plain(&self, listener: TcpListener, pages: &Arc<Plain>) -> impl Future<Output = ()> + Send + use<> {
        let pages = Arc::clone(pages);
        let acceptor = Arc::clone(&self.acceptor);
        let stop = self.stopped.clone();
        let state = Arc::clone(&self.gateway.state);
        let clients = self.clients.clone();
        let serve = move |stream: TcpStream, socket: SocketAddr, slot: SlotHandle| {
            let pages = Arc::clone(&pages);
            let acceptor = Arc::clone(&acceptor);
            let stop = stop.clone();
            let state = Arc::clone(&state);
            let open = state.metrics.connection(Listener::Http);
            clients.track_future(async move {
                let _open = open;
                match acceptor.plain(stream, socket, slot).await {
                    Ok(caller) => pages.serve(caller, stop).await,
                    Err(fault) => count(&state.metrics, &fault),
                }
            })
        };
        self.accept(listener, serve)
    }

    fn accept<F, S>(&self, listener: TcpListener, serve: S) -> impl Future<Output = ()> + Send + use<F, S>
    where
        F: Future<Output = ()> + Send + 'static,
        S: Fn(TcpStream, SocketAddr, SlotHandle) -> F + Send + 'static,
    {
        let acceptor = Arc::clone(&self.acceptor);
        let share = move |ip: IpAddr| acceptor.share(ip);
        accept_loop::accept(listener, self.stopped.clone(), Arc::clone(&self.slots), share, serve)
    }
}

fn acceptor(gateway: &Gateway, certificates: &Arc<Certificates>) -> Result<Acceptor, rustls::Error> {
    let state = Arc::clone(&gateway.state);
    let config_in_force = move || Arc::clone(&state.rules.load().config);
    let state = Arc::clone(&gateway.state);
    let client_authorities = move || state.rules.load().client_authorities.clone();
    let state = Arc::clone(&gateway.state);
    Acceptor::new(Arc::clone(certificates), config_in_force, client_authorities, move |client| state.is_banned(client))
}

fn count(metrics: &Metrics, fault: &AcceptFault) {
    debug!(%fault, "connection closed before a request");
    metrics.turned_away(match fault {
        AcceptFault::NotAdmitted => ConnectionRejection::NotAdmitted,
        AcceptFault::Proxy => ConnectionRejection::Proxy,
        AcceptFault::Tls(_) => ConnectionRejection::Tls,
        AcceptFault::TooSlow => ConnectionRejection::TooSlow,
        AcceptFault::Proven => return,
    });
}

async fn serve(caller: Caller, gateway: Arc<Gateway>, activity: Arc<Activity>, stop: watch::Receiver<bool>) {
    let Caller { stream, address, name, certificate } = caller;
    let name = name.map(Arc::new);
    let peer = Peer { ip: address.ip(), tls: stream.tls_version(), name, certificate };
    if stream.is_http2() {
        // On the heap, so that an HTTP/1 connection, which may be parked for long, does not reserve as much.
        Box::pin(http2_connection::serve(stream, peer, gateway, activity, stop)).await;
    } else {
        http1_connection::serve(stream, peer, gateway, activity, stop).await;
    }
}
