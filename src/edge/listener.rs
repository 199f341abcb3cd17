//! Listening sockets and the accept loop.

use std::{future::Future, io, net::SocketAddr, time::Duration};

use crate::stop::stopped;
use thiserror::Error;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
};
use tracing::warn;

const BACKLOG: u32 = 4_096;

/// An address that cannot be listened on.
#[derive(Debug, Error)]
#[error("cannot listen on {0}: {1}")]
pub struct ListenError(SocketAddr, io::Error);

/// Listens on `address`; `[::]` takes IPv4 as well.
pub fn bind(address: SocketAddr) -> Result<TcpListener, ListenError> {
    let bound = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    bound().map_err(|e| ListenError(address, e))
}

/// Accepts until `stop` turns true, and starts `serve` for each client.
///
/// A failing accept, such as for want of descriptors, waits a moment and goes on.
pub async fn accept<F>(
    listener: TcpListener,
    mut stop: watch::Receiver<bool>,
    serve: impl Fn(TcpStream, SocketAddr) -> F,
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
                let _ = stream.set_nodelay(true);
                tokio::spawn(serve(stream, canonical(peer)));
            }
            Err(error) => {
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

fn canonical(peer: SocketAddr) -> SocketAddr {
    SocketAddr::new(peer.ip().to_canonical(), peer.port())
}
