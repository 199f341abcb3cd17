//! Checks whether the kernel keeps this process's packets on loopback, by trying to send one elsewhere.

use std::io;

use tokio::net::UdpSocket;

/// From any address to the discard port of a documentation address, which no host has (RFC 5737, RFC 3849).
type Way = (&'static str, &'static str);

const IPV4: Way = ("0.0.0.0:0", "192.0.2.1:9");
const IPV6: Way = ("[::]:0", "[2001:db8::1]:9");

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
enum Fate {
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
    match (fate(IPV4, None).await, fate(IPV6, None).await) {
        (Fate::Sent, _) | (_, Fate::Sent) => Outside::Open,
        (Fate::Refused, _) => Outside::Closed,
        (Fate::Unroutable, Fate::Refused | Fate::Unroutable) => match fate(IPV4, Some(b"lo")).await {
            Fate::Refused => Outside::Closed,
            Fate::Sent | Fate::Unroutable => Outside::Open,
        },
    }
}

async fn fate(way: Way, interface: Option<&[u8]>) -> Fate {
    match send(way, interface).await {
        Ok(()) => Fate::Sent,
        // A control group refuses with EPERM, a routing rule with EACCES.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Fate::Refused,
        Err(_) => Fate::Unroutable,
    }
}

async fn send((from, to): Way, interface: Option<&[u8]>) -> io::Result<()> {
    let socket = UdpSocket::bind(from).await?;
    socket.bind_device(interface)?;
    socket.send_to(&[], to).await.map(drop)
}
