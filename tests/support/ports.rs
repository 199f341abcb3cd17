//! Ports on loopback for the programs that tests start.

use std::{
    net::{SocketAddr, TcpListener, UdpSocket},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

/// Below the ephemeral ports, so that no outgoing connection takes a port before the program listens on it.
const FIRST: u32 = 10_000;
const COUNT: u32 = 22_000;
/// The distance between the first ports of processes with consecutive ids: tests run side by side, each in its own process.
const STRIDE: u32 = 61;

/// Returns distinct addresses on loopback that nobody listens on.
pub(crate) fn free_addresses<const N: usize>() -> [SocketAddr; N] {
    std::array::from_fn(|_| std::iter::repeat_with(next).find(is_free).unwrap())
}

fn next() -> SocketAddr {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let place = process::id().wrapping_mul(STRIDE).wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed));
    let port = u16::try_from(FIRST + place % COUNT).unwrap();
    ([127, 0, 0, 1], port).into()
}

/// Checks TCP and UDP, since a name server listens on both.
fn is_free(address: &SocketAddr) -> bool {
    TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok()
}
