//! Listening sockets: binds an address, with or without IPv6.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
};

use rustix::io::Errno;
use thiserror::Error;
use tokio::net::{TcpListener, TcpSocket};
use tracing::info;

const BACKLOG: u32 = 4_096;

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
pub fn has_ipv6() -> bool {
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET6, rustix::net::SocketType::STREAM, None);
    !matches!(socket, Err(Errno::AFNOSUPPORT))
}

/// Returns the address to listen on for `address`: without IPv6, `[::]` becomes `0.0.0.0`.
pub fn usable(address: SocketAddr) -> SocketAddr {
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
