//! Where an application listens: a TCP address or a Unix socket.

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr};

use thiserror::Error;

/// A TCP address or a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Upstream {
    /// TCP.
    Tcp(SocketAddr),
    /// A Unix socket's path.
    Unix(PathBuf),
}

/// A text that is neither an address nor a Unix socket.
#[derive(Debug, Error)]
#[error("{0:?} is not an address; write \"127.0.0.1:8001\", \"[::1]:8001\" or \"unix:/run/app.sock\"")]
pub struct InvalidUpstream(String);

impl FromStr for Upstream {
    type Err = InvalidUpstream;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix("unix:") {
            Some(path) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            Some(_) => Err(InvalidUpstream(text.to_owned())),
            None => text.parse().map(Self::Tcp).map_err(|_| InvalidUpstream(text.to_owned())),
        }
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Upstream {
    /// Returns true if only this machine can reach it.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}
