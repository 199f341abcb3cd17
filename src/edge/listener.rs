//! Listening sockets and the accept loop.

use std::{
    future::Future,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::fd::AsFd,
    sync::Arc,
    time::Duration,
};

use rustix::{io::Errno, net::sockopt};
use thiserror::Error;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
};
use tracing::{info, warn};

use super::connection_limits::{PeerLimit, SlotHandle, Slots};
use crate::shutdown::stopped;

const BACKLOG: u32 = 4_096;

/// After about this long, keepalive detects a client that has vanished.
const KEEPALIVE: Duration = Duration::from_mins(2);

/// An address that cannot be listened on.
#[derive(Debug, Error)]
#[error("cannot listen on {0}: {1}")]
pub struct ListenError(String, io::Error);

impl ListenError {
    pub(super) fn new(at: &impl ToString, error: io::Error) -> Self {
        Self(at.to_string(), error)
    }
}

/// Returns true unless the kernel has no IPv6 at all, as with `ipv6.disable=1`.
pub(crate) fn has_ipv6() -> bool {
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET6, rustix::net::SocketType::STREAM, None);
    !matches!(socket, Err(Errno::AFNOSUPPORT))
}

/// Returns the address to listen on for `address`: without IPv6, `[::]` becomes `0.0.0.0`.
pub(crate) fn usable(address: SocketAddr) -> SocketAddr {
    let every = address.is_ipv6() && address.ip().is_unspecified();
    if every && !has_ipv6() { SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port()) } else { address }
}

/// Listens on `address`; `[::]` accepts IPv4 too, and only IPv4 if there is no IPv6.
pub fn bind(address: SocketAddr) -> Result<TcpListener, ListenError> {
    let wanted = address;
    let address = usable(wanted);
    if address != wanted {
        info!(%wanted, %address, "IPv6 is off on this machine; listening on IPv4 alone");
    }
    let bound = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    bound().map_err(|e| ListenError::new(&address, e))
}

/// Accepts until `stop` becomes true, and starts `serve` for each client that gets a slot.
///
/// If accepting fails, for example for lack of descriptors, an idle connection is closed, and the loop continues after a short pause.
pub async fn accept<F>(
    listener: TcpListener,
    mut stop: watch::Receiver<bool>,
    slots: Arc<Slots>,
    share: impl Fn(IpAddr) -> PeerLimit,
    serve: impl Fn(TcpStream, SocketAddr, SlotHandle) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped(&mut stop) => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let peer = canonical(peer);
                let Some(slot) = slots.admit(peer.ip(), share(peer.ip())) else { continue };
                prepare(&stream);
                let (id, served) = (slot.id(), serve(stream, peer, slot.place()));
                let task = tokio::spawn(async move {
                    served.await;
                    drop(slot);
                });
                slots.bind(id, task.abort_handle());
            }
            Err(error) => {
                let evicted = is_shortage(&error) && slots.evict();
                warn!(%error, evicted, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Returns true if closing a connection would help.
fn is_shortage(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
}

/// Has the kernel close the connection if the client does not acknowledge sent data, or keeps its window closed, for this long
/// (TCP_USER_TIMEOUT). The kernel sees each byte that the client takes; a timer of ours would see only whole buffers.
pub(super) fn give_up_after(stream: &impl AsFd, silence: Duration) {
    let _ = sockopt::set_tcp_user_timeout(stream, u32::try_from(silence.as_millis()).unwrap_or(u32::MAX));
}

/// Sets options of the socket. A failure is ignored, since none of them is worth losing a client for.
fn prepare(stream: &TcpStream) {
    let socket = stream.as_fd();
    let _ = stream.set_nodelay(true);
    let _ = sockopt::set_socket_keepalive(socket, true);
    let _ = sockopt::set_tcp_keepidle(socket, KEEPALIVE);
}

fn canonical(peer: SocketAddr) -> SocketAddr {
    SocketAddr::new(peer.ip().to_canonical(), peer.port())
}
