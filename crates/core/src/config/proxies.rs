//! Proxies in front of the gateway: which ones may report the client's address, and in which form.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{fault::Faults, gateway::GatewayToml};

/// The proxies in front of the gateway, and how they name the client.
#[derive(Clone, Debug)]
pub struct ProxyConfig {
    /// The trusted proxies.
    pub trusted: Vec<IpNet>,
    /// Addresses that many clients share, such as the local end of a tunnel.
    pub shared: Vec<IpNet>,
    /// Whether connections of trusted proxies begin with a PROXY header.
    pub protocol: bool,
    /// The header in which trusted proxies name the client.
    pub header: ForwardedHeader,
}

/// The header in which trusted proxies name the client of a forwarded request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`.
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

impl ProxyConfig {
    pub(super) fn resolve(gateway: &GatewayToml, faults: &mut Faults<'_>) -> Self {
        if gateway.proxy_protocol && gateway.trusted_proxies.is_empty() {
            faults.add(
                "proxy_protocol",
                "no proxy is trusted to send a PROXY header; list the proxies in trusted_proxies",
            );
        }
        Self {
            trusted: gateway.trusted_proxies.clone(),
            shared: gateway.shared_addresses.clone(),
            protocol: gateway.proxy_protocol,
            header: gateway.forwarded_header,
        }
    }

    /// Returns true if `address` belongs to a trusted proxy.
    #[must_use]
    pub fn trust(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|net| net.contains(&address))
    }

    /// Returns true if many clients may share `address`.
    #[must_use]
    pub fn is_shared(&self, address: IpAddr) -> bool {
        self.trust(address) || self.shared.iter().any(|net| net.contains(&address))
    }
}
