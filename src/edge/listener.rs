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

use super::slots::{Place, Share, Slots};
use crate::stop::stopped;

const BACKLOG: u32 = 4_096;

/// A client that went away without a word is found out after about so long.
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

/// True unless the kernel has no IPv6 at all, as with `ipv6.disable=1`.
pub(crate) fn has_ipv6() -> bool {
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET6, rustix::net::SocketType::STREAM, None);
    !matches!(socket, Err(Errno::AFNOSUPPORT))
}

/// The address to listen on for `address`: where there is no IPv6, every address is every one of IPv4.
pub(crate) fn usable(address: SocketAddr) -> SocketAddr {
    let every = address.is_ipv6() && address.ip().is_unspecified();
    if every && !has_ipv6() { SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port()) } else { address }
}

/// Listens on `address`; `[::]` takes IPv4 as well, and IPv4 alone where that is all there is.
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

/// Accepts until `stop` turns true, and starts `serve` for each client that gets a slot.
///
/// A failing accept, such as for want of descriptors, costs an idle connection its place, waits a moment and goes on.
pub async fn accept<F>(
    listener: TcpListener,
    mut stop: watch::Receiver<bool>,
    slots: Arc<Slots>,
    share: impl Fn(IpAddr) -> Share,
    serve: impl Fn(TcpStream, SocketAddr, Place) -> F,
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

/// True where a connection less would help.
fn is_shortage(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
}

/// Has the system end the connection where the client does not acknowledge what it was sent within this time, or keeps its
/// window shut as long (TCP_USER_TIMEOUT). The system sees each byte that is taken; a timer of ours would see only whole
/// buffers.
pub(super) fn give_up_after(stream: &impl AsFd, silence: Duration) {
    let _ = sockopt::set_tcp_user_timeout(stream, u32::try_from(silence.as_millis()).unwrap_or(u32::MAX));
}

/// None of it is worth losing a client for.
fn prepare(stream: &TcpStream) {
    let socket = stream.as_fd();
    let _ = stream.set_nodelay(true);
    let _ = sockopt::set_socket_keepalive(socket, true);
    let _ = sockopt::set_tcp_keepidle(socket, KEEPALIVE);
}

fn canonical(peer: SocketAddr) -> SocketAddr {
    SocketAddr::new(peer.ip().to_canonical(), peer.port())
}
