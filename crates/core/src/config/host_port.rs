//! A host and a port, as written in the configuration and in policies.

use std::str::FromStr;

use thiserror::Error;
use url::{Host, Url};

use crate::addresses::Authority;

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
        let authority = Authority::split(text);
        let port = authority.port_number().ok_or_else(error)?;
        Ok(Self { host: Host::parse(authority.host).map_err(|_| error())?, port })
    }
}

impl HostPort {
    /// Returns true if `url` has this host and port.
    #[must_use]
    pub fn matches(&self, url: &Url) -> bool {
        url.host().is_some_and(|h| h.to_owned() == self.host) && url.port_or_known_default() == Some(self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_and_a_port_are_both_required() {
        for (text, host, port) in [
            ("nas.lan:80", "nas.lan", 80),
            ("NAS.lan:080", "nas.lan", 80),
            ("127.0.0.1:65535", "127.0.0.1", 65535),
            ("[::1]:0", "[::1]", 0),
        ] {
            let parsed: HostPort = text.parse().unwrap();
            assert_eq!((parsed.host.to_string().as_str(), parsed.port), (host, port));
        }
        for text in
            ["", ":", ":80", "nas.lan", "nas.lan:", "nas.lan:x", "nas.lan:65536", "::1", "::1:80", "[::1]", "a:b:1"]
        {
            assert!(text.parse::<HostPort>().is_err(), "{text}");
        }
    }
}
