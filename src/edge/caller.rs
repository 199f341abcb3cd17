//! Who is calling: the address of the socket, or the one that a trusted proxy gives in its PROXY header.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use tokio::net::TcpStream;
use tracing::{debug, warn};

use super::{
    listener::give_up_after,
    proxy_protocol::{ProxyFault, Source, read_source},
    shared_address::SharedAddress,
    slots::{Place, Share},
    threshold::ThresholdFault,
};
use crate::config::Config;

/// Asks for the configuration that is in force.
pub(super) type InForce = Box<dyn Fn() -> Arc<Config> + Send + Sync>;

/// Asks whether a client is shut out.
pub(super) type Banned = Box<dyn Fn(IpAddr) -> bool + Send + Sync>;

/// Finds out who calls.
pub(super) struct Callers {
    in_force: InForce,
    banned: Banned,
    shared: SharedAddress,
    complained: AtomicBool,
}

impl Callers {
    /// With the proxies of the configuration that is in force as each connection comes.
    pub(super) fn new(in_force: InForce, banned: Banned) -> Self {
        Self { in_force, banned, shared: SharedAddress::default(), complained: AtomicBool::new(false) }
    }

    /// How many connections may come from there: a proxy, or a tunnel's end, speaks for many.
    pub(super) fn share(&self, address: IpAddr) -> Share {
        if (self.banned)(address) {
            Share::None
        } else if (self.in_force)().proxies.is_shared(address) {
            Share::Many
        } else {
            Share::One
        }
    }

    /// True for the address of a trusted proxy.
    pub(super) fn is_proxy(&self, address: IpAddr) -> bool {
        (self.in_force)().proxies.trust(address)
    }

    /// The client's address, to be asked for before anything else is read.
    ///
    /// With `proxy_protocol`, a trusted proxy must send a header. From anybody else it is never read: what would be one
    /// is neither TLS nor HTTP, and fails there.
    pub(super) async fn identify(
        &self,
        stream: &mut TcpStream,
        socket: SocketAddr,
        place: &Place,
    ) -> Result<SocketAddr, ThresholdFault> {
        give_up_after(stream, (self.in_force)().limits.send_timeout);
        let mut address = socket;
        if (self.in_force)().proxies.protocol && self.is_proxy(socket.ip()) {
            match read_source(stream).await {
                Ok(Source::Client(client)) if place.assign(client.ip(), self.share(client.ip())) => address = client,
                Ok(Source::Client(_)) => return Err(ThresholdFault::NoPlace),
                Ok(Source::Proxy) => {}
                Err(fault) => {
                    self.complain(socket, &fault);
                    return Err(ThresholdFault::Proxy);
                }
            }
        }
        // What a trusted proxy's headers say of its clients is not known yet.
        if !self.is_proxy(address.ip()) {
            self.shared.note(address.ip(), Instant::now());
        }
        Ok(address)
    }

    /// Says it aloud once, since a proxy that is set up otherwise sends nothing right.
    fn complain(&self, proxy: SocketAddr, fault: &ProxyFault) {
        let proxy = proxy.ip();
        if matches!(fault, ProxyFault::Gone(_)) || self.complained.swap(true, Ordering::Relaxed) {
            debug!(%proxy, %fault, "a connection of a trusted proxy was closed");
        } else {
            warn!(%proxy, %fault, "a connection of a trusted proxy was closed; have the proxy send PROXY protocol, or set \
                gateway.proxy_protocol = false");
        }
    }
}
