//! Checks whether the kernel keeps this process's packets on loopback, by trying to send one elsewhere.

use std::io;

use tokio::net::UdpSocket;

/// From any address to the discard port of a documentation address, which no host has (RFC 5737, RFC 3849).
type Route = (&'static str, &'static str);

const IPV4: Route = ("0.0.0.0:0", "192.0.2.1:9");
const IPV6: Route = ("[::]:0", "[2001:db8::1]:9");

/// Whether packets for other hosts leave this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outside {
    /// The kernel refuses them, as with `IPAddressDeny=any`.
    Closed,
    /// They leave, or would leave as soon as there is a route.
    Open,
}

/// What happened to one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PacketOutcome {
    Sent,
    Refused,
    /// There is no route or no such protocol, so the packet did not get to the point where it could be refused.
    Unroutable,
}

/// Sends an empty datagram to an unused address, over IPv4 and over IPv6.
///
/// On a server without a route both fail, whatever its unit allows. A socket bound to the loopback interface then decides: the kernel
/// treats every IPv4 destination as a neighbour on that interface and checks the control group as usual.
pub(super) async fn probe() -> Outside {
    match (packet_outcome(IPV4, None).await, packet_outcome(IPV6, None).await) {
        (PacketOutcome::Sent, _) | (_, PacketOutcome::Sent) => Outside::Open,
        (PacketOutcome::Refused, _) => Outside::Closed,
        (PacketOutcome::Unroutable, PacketOutcome::Refused | PacketOutcome::Unroutable) => {
            match packet_outcome(IPV4, Some(b"lo")).await {
                PacketOutcome::Refused => Outside::Closed,
                PacketOutcome::Sent | PacketOutcome::Unroutable => Outside::Open,
            }
        }
    }
}

async fn packet_outcome(route: Route, interface: Option<&[u8]>) -> PacketOutcome {
    match send(route, interface).await {
        Ok(()) => PacketOutcome::Sent,
        // A control group refuses with EPERM, a routing rule with EACCES.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => PacketOutcome::Refused,
        Err(_) => PacketOutcome::Unroutable,
    }
}

async fn send((from, to): Route, interface: Option<&[u8]>) -> io::Result<()> {
    let socket = UdpSocket::bind(from).await?;
    socket.bind_device(interface)?;
    socket.send_to(&[], to).await.map(drop)
}
