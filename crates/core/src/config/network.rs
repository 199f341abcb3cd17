//! A network, as written in the configuration.

use std::{net::IpAddr, str::FromStr};

use ipnet::IpNet;
use thiserror::Error;

/// A network; a single address is a network of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Network(pub(super) IpNet);

/// A text that is neither a network nor an address.
#[derive(Debug, Error)]
#[error("{0:?} is not a network or an address; write \"192.0.2.0/24\", \"2001:db8::/32\" or \"192.0.2.1\"")]
pub(super) struct InvalidNetwork(String);

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let address = text.parse::<IpAddr>().map(|address| address.to_canonical().into());
        let network: IpNet = address.or_else(|_| text.parse()).map_err(|_| InvalidNetwork(text.to_owned()))?;
        // Clients are compared by their IPv4 address, so no client would ever match.
        let mapped = matches!(network, IpNet::V6(v6) if v6.addr().to_ipv4_mapped().is_some());
        if mapped || network.trunc() != network { Err(InvalidNetwork(text.to_owned())) } else { Ok(Self(network)) }
    }
}
