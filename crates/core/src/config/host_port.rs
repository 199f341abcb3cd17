//! A host and a port, as written in the configuration and in policies.

use std::str::FromStr;

use thiserror::Error;
use url::{Host, Url};

/// A host, as in a URL, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// The host.
    pub host: Host,
    /// The port.
    pub port: u16,
}

/// A text that is not a host and a port.
#[derive(Debug, Error)]
#[error("{0:?} is not a host and port; write \"127.0.0.1:8080\" or \"nas.lan:80\"")]
pub struct InvalidHostPort(String);

impl FromStr for HostPort {
    type Err = InvalidHostPort;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || InvalidHostPort(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(error)?;
        Ok(Self { host: Host::parse(host).map_err(|_| error())?, port: port.parse().map_err(|_| error())? })
    }
}

impl HostPort {
    /// Returns true if `url` has this host and port.
    #[must_use]
    pub fn matches(&self, url: &Url) -> bool {
        url.host().is_some_and(|h| h.to_owned() == self.host) && url.port_or_known_default() == Some(self.port)
    }
}
