//! The client's address: the peer of the socket, or the address in a trusted proxy's PROXY header.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use sallyport_core::config::Config;
use tokio::net::TcpStream;
use tracing::{debug, warn};

use super::{
    accept_fault::AcceptFault,
    accept_loop::give_up_after,
    connection_limits::{PeerLimit, SlotHandle},
    proxy_protocol::{ProxyFault, Source, read_source},
    shared_address::SharedAddress,
};

/// Returns the configuration in force.
pub(super) type InForce = Box<dyn Fn() -> Arc<Config> + Send + Sync>;

/// Returns whether a client is banned.
pub(super) type Banned = Box<dyn Fn(IpAddr) -> bool + Send + Sync>;

/// Determines the clients' addresses.
pub(super) struct PeerAddresses {
    in_force: InForce,
    banned: Banned,
    shared: SharedAddress,
    complained: AtomicBool,
}

impl PeerAddresses {
    /// For each connection, the proxies of the configuration in force at that moment apply.
    pub(super) fn new(in_force: InForce, banned: Banned) -> Self {
        Self { in_force, banned, shared: SharedAddress::default(), complained: AtomicBool::new(false) }
    }

    /// Returns which connection limit applies to `address`: proxies and tunnel ends carry connections of many clients.
    pub(super) fn share(&self, address: IpAddr) -> PeerLimit {
        if (self.banned)(address) {
            PeerLimit::Refuse
        } else if (self.in_force)().proxies.is_shared(address) {
            PeerLimit::TotalOnly
        } else {
            PeerLimit::PerClient
        }
    }

    /// Returns true for the address of a trusted proxy.
    pub(super) fn is_proxy(&self, address: IpAddr) -> bool {
        (self.in_force)().proxies.trust(address)
    }

    /// Returns the client's address. Must be called before anything else is read.
    ///
    /// With `proxy_protocol`, a trusted proxy must send a header. No header is read from other addresses: one that is sent anyway is neither TLS
    /// nor HTTP, and fails there.
    pub(super) async fn identify(
        &self,
        stream: &mut TcpStream,
        socket: SocketAddr,
        place: &SlotHandle,
    ) -> Result<SocketAddr, AcceptFault> {
        give_up_after(stream, (self.in_force)().limits.send_timeout);
        let mut address = socket;
        if (self.in_force)().proxies.protocol && self.is_proxy(socket.ip()) {
            match read_source(stream).await {
                Ok(Source::Client(client)) if place.assign(client.ip(), self.share(client.ip())) => address = client,
                Ok(Source::Client(_)) => return Err(AcceptFault::NotAdmitted),
                Ok(Source::Proxy) => {}
                Err(fault) => {
                    self.complain(socket, &fault);
                    return Err(AcceptFault::Proxy);
                }
            }
        }
        // The clients behind a trusted proxy are not known before its headers are read.
        if !self.is_proxy(address.ip()) {
            self.shared.note(address.ip(), Instant::now());
        }
        Ok(address)
    }

    /// Logs the first fault as a warning, since with a misconfigured proxy every connection fails.
    fn complain(&self, proxy: SocketAddr, fault: &ProxyFault) {
        let proxy = proxy.ip();
        if matches!(fault, ProxyFault::Gone(_)) || self.complained.swap(true, Ordering::Relaxed) {
            debug!(%proxy, %fault, "closed a connection of a trusted proxy");
        } else {
            warn!(%proxy, %fault, "closed a connection of a trusted proxy; configure the proxy to send PROXY protocol, or set \
                gateway.proxy_protocol = false");
        }
    }
}
