//! The accept loop of a listener.

use std::{
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    os::fd::AsFd,
    sync::Arc,
    time::Duration,
};

use rustix::{io::Errno, net::sockopt};
use sallyport_core::supervision::shutdown::stopped;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tracing::warn;

use super::connection_limits::{PeerLimit, SlotHandle, Slots};

/// After about this long, keepalive detects a client that has vanished.
const KEEPALIVE: Duration = Duration::from_mins(2);

/// Accepts until `stop` becomes true, and starts `serve` for each client that gets a slot.
///
/// If accepting fails, for example for lack of descriptors, an idle connection is closed, and the loop continues after a short pause.
pub(crate) async fn accept<F>(
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
                let id = slot.id();
                let served = serve(stream, peer, slot.handle());
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
