//! Ports on loopback for the programs that tests start.

use std::{
    net::{SocketAddr, TcpListener, UdpSocket},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

/// Below the ports that the kernel gives to outgoing connections, so that none of those takes a port before its program does.
const FIRST: u32 = 10_000;
const COUNT: u32 = 22_000;
/// How far apart two processes begin whose ids follow each other: tests run side by side, each in a process of its own.
const STRIDE: u32 = 61;

/// Addresses on loopback where nobody listens, no two alike.
pub(crate) fn free_addresses<const N: usize>() -> [SocketAddr; N] {
    std::array::from_fn(|_| std::iter::repeat_with(next).find(is_free).unwrap())
}

fn next() -> SocketAddr {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let place = process::id().wrapping_mul(STRIDE).wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed));
    let port = u16::try_from(FIRST + place % COUNT).unwrap();
    ([127, 0, 0, 1], port).into()
}

/// For a name server too, which listens by both protocols.
fn is_free(address: &SocketAddr) -> bool {
    TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok()
}
