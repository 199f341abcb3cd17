//! Connects to a host: resolves its addresses once, checks each of them, and dials one.

use std::{future::pending, io, net::SocketAddr, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use sallyport_core::{
    addresses::{
        is_public, is_public_host,
        lookup::{LookupError, Lookups},
    },
    config::HostPort,
};
use thiserror::Error;
use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};
use url::Host;
use uuid::Uuid;

/// The time to connect to one address.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// If an address has not answered for this long, the next one is tried as well (RFC 8305, section 5).
const STAGGER: Duration = Duration::from_millis(250);
/// The maximum number of addresses of a name to try.
const MAX_TRIES: usize = 6;

/// The destinations that children may connect to.
#[derive(Clone, Debug)]
pub struct AllowedDestinations {
    /// The allowed ports of public hosts.
    pub ports: Vec<u16>,
    /// Private hosts that are allowed nevertheless, each with its port.
    pub private: Vec<HostPort>,
}

/// A host and a port, as requested by a child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Destination {
    pub(super) host: Host,
    pub(super) port: u16,
}

/// Why there is no connection.
#[derive(Debug, Error)]
pub(super) enum DialError {
    #[error("the port is not in egress.ports")]
    Port,
    #[error("the address is private, and not in worker.allow_private")]
    Private,
    #[error(transparent)]
    Lookup(#[from] LookupError),
    #[error("the host could not be reached: {0}")]
    Unreachable(io::Error),
}

impl DialError {
    /// Returns true if the destination is forbidden, and not just unreachable.
    pub(super) fn is_forbidden(&self) -> bool {
        matches!(self, Self::Port | Self::Private)
    }
}

impl AllowedDestinations {
    /// Connects to one of the checked addresses, for `job`.
    pub(super) async fn dial(
        &self,
        lookups: &Lookups<Uuid>,
        job: Uuid,
        to: &Destination,
    ) -> Result<TcpStream, DialError> {
        let allowed = self.private.iter().any(|place| place.host == to.host && place.port == to.port);
        if !allowed {
            self.judge(to)?;
        }
        let addresses = addresses(lookups, job, to).await?;
        // A single private address is enough to refuse: a name with both kinds is made to deceive.
        if !allowed && !addresses.iter().all(|address| is_public(address.ip())) {
            return Err(DialError::Private);
        }
        connect(in_turn(&addresses)).await
    }

    /// Checks the port, and the host as far as its text allows.
    fn judge(&self, to: &Destination) -> Result<(), DialError> {
        if !self.ports.contains(&to.port) {
            return Err(DialError::Port);
        }
        let host = match &to.host {
            Host::Domain(name) => Host::Domain(name.as_str()),
            Host::Ipv4(v4) => Host::Ipv4(*v4),
            Host::Ipv6(v6) => Host::Ipv6(*v6),
        };
        if is_public_host(&host) { Ok(()) } else { Err(DialError::Private) }
    }
}

async fn addresses(lookups: &Lookups<Uuid>, job: Uuid, to: &Destination) -> Result<Vec<SocketAddr>, LookupError> {
    match &to.host {
        Host::Ipv4(v4) => Ok(vec![SocketAddr::from((*v4, to.port))]),
        Host::Ipv6(v6) => Ok(vec![SocketAddr::from((*v6, to.port))]),
        Host::Domain(name) => lookups.addresses(job, name, to.port).await,
    }
}

/// Orders the addresses to try: the resolver's first choice, then alternating families (RFC 8305, section 4).
fn in_turn(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let is_preferred = |address: &SocketAddr| address.is_ipv6() == first_is_v6;
    let (preferred, other): (Vec<_>, Vec<_>) = addresses.iter().copied().partition(is_preferred);
    let mut preferred = preferred.into_iter();
    let mut other = other.into_iter();
    let mut order = Vec::new();
    while order.len() < MAX_TRIES {
        let pair = [preferred.next(), other.next()];
        if pair == [None, None] {
            break;
        }
        order.extend(pair.into_iter().flatten());
    }
    order.truncate(MAX_TRIES);
    order
}

/// Returns the first connection that succeeds. An address that does not answer delays the next one only by [`STAGGER`], and one that
/// refuses does not delay it at all.
async fn connect(addresses: Vec<SocketAddr>) -> Result<TcpStream, DialError> {
    let mut waiting = addresses.into_iter();
    let mut attempts = FuturesUnordered::new();
    let mut last = io::ErrorKind::AddrNotAvailable.into();
    loop {
        match waiting.next() {
            Some(address) => attempts.push(attempt(address)),
            None if attempts.is_empty() => return Err(DialError::Unreachable(last)),
            None => {}
        }
        let more = waiting.len() > 0;
        let stagger = async { if more { sleep(STAGGER).await } else { pending().await } };
        tokio::select! {
            Some(attempted) = attempts.next() => match attempted {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            },
            () = stagger => {}
        }
    }
}

async fn attempt(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await??;
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns_and_the_resolver_chooses_the_first() {
        let parse = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect::<Vec<SocketAddr>>();
        let found = parse(&["[2001:db8::1]:1", "[2001:db8::2]:1", "192.0.2.1:1", "192.0.2.2:1", "192.0.2.3:1"]);
        let order = ["[2001:db8::1]:1", "192.0.2.1:1", "[2001:db8::2]:1", "192.0.2.2:1", "192.0.2.3:1"];
        assert_eq!(in_turn(&found), parse(&order));
        assert_eq!(in_turn(&found[..1]), found[..1]);
        let many: Vec<_> = (0..20).map(|n| SocketAddr::from(([192, 0, 2, n], 1))).collect();
        assert_eq!(in_turn(&many), many[..MAX_TRIES]);
    }
}
