//! From a host to a connection: its addresses found once, each of them judged, and one of them dialled.

use std::{io, net::SocketAddr, time::Duration};

use thiserror::Error;
use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};
use url::Host;

use crate::{
    address::{is_public, is_public_host},
    config::HostPort,
};

/// Resolvers ask once more after five seconds, since a packet may be lost; nobody waits for a third time.
pub(crate) const LOOKUP_TIMEOUT: Duration = Duration::from_secs(6);
/// For each address.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// So many addresses of a name are tried.
const MAX_TRIES: usize = 4;

/// Where children may go.
#[derive(Clone, Debug)]
pub struct Places {
    /// The ports of public hosts.
    pub ports: Vec<u16>,
    /// Private hosts that are allowed all the same, each with its port.
    pub private: Vec<HostPort>,
}

/// A host and a port, as a child asked for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Destination {
    pub(super) host: Host,
    pub(super) port: u16,
}

/// Why there is no connection.
#[derive(Debug, Error)]
pub(super) enum DialError {
    #[error("the port is not one that children may go to")]
    Port,
    #[error("a private address")]
    Private,
    #[error("the name is not known")]
    Unknown,
    #[error("it cannot be reached: {0}")]
    Unreachable(io::Error),
}

impl DialError {
    /// True where it is forbidden, not only impossible.
    pub(super) fn is_forbidden(&self) -> bool {
        matches!(self, Self::Port | Self::Private)
    }
}

impl Places {
    /// Connects to one of the judged addresses.
    pub(super) async fn dial(&self, to: &Destination) -> Result<TcpStream, DialError> {
        let allowed = self.private.iter().any(|place| place.host == to.host && place.port == to.port);
        if !allowed {
            self.judge(to)?;
        }
        let addresses = addresses(to).await?;
        // One private address among them is one too many: a name that has both is made to be mistaken.
        if !allowed && !addresses.iter().all(|address| is_public(address.ip())) {
            return Err(DialError::Private);
        }
        connect(&addresses).await
    }

    /// As far as the text tells.
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

async fn addresses(to: &Destination) -> Result<Vec<SocketAddr>, DialError> {
    match &to.host {
        Host::Ipv4(v4) => Ok(vec![SocketAddr::from((*v4, to.port))]),
        Host::Ipv6(v6) => Ok(vec![SocketAddr::from((*v6, to.port))]),
        Host::Domain(name) => {
            let found = timeout(LOOKUP_TIMEOUT, lookup_host((name.as_str(), to.port))).await;
            let found: Vec<_> = found.ok().and_then(Result::ok).into_iter().flatten().collect();
            if found.is_empty() { Err(DialError::Unknown) } else { Ok(found) }
        }
    }
}

async fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, DialError> {
    let mut last = io::ErrorKind::AddrNotAvailable.into();
    for address in addresses.iter().take(MAX_TRIES) {
        match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(DialError::Unreachable(last))
}
