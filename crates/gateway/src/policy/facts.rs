//! What is known about a request before it is judged.

use std::{net::IpAddr, sync::Arc};

use http::{HeaderMap, Method};

use super::addresses::Countries;
use crate::{identity::ClientCertificate, limits::Acquaintance};

/// The facts about a request that a decision is based on.
#[derive(Debug)]
pub struct RequestFacts<'a> {
    /// The method.
    pub method: &'a Method,
    /// The path, as sent.
    pub path: &'a str,
    /// The query, as sent.
    pub query: Option<&'a str>,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The authority that the client named.
    pub host: &'a str,
    /// Whether the connection is for that host.
    pub addressing: Addressing,
    /// The client's address.
    pub client: IpAddr,
    /// How many clients share that address.
    pub behind: Behind,
    /// Whether a client at that address was authenticated recently.
    pub acquaintance: Acquaintance,
    /// The database that maps the address to a country.
    pub countries: Option<&'a dyn Countries>,
    /// Whether the client asks for a protocol upgrade.
    pub upgrade: bool,
    /// The client certificate from the TLS handshake.
    pub certificate: Option<&'a Arc<ClientCertificate>>,
}

/// How many clients share an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behind {
    /// One client, as far as is known.
    One,
    /// Many unrelated clients: the address is one of `gateway.shared_addresses`.
    Many,
}

impl RequestFacts<'_> {
    /// Returns true if the request changes nothing, whoever made the client send it (RFC 9110, section 9.2.1).
    pub(super) fn is_harmless(&self) -> bool {
        matches!(*self.method, Method::GET | Method::HEAD) && !self.upgrade
    }
}

/// Whether a request arrived on a connection that is for its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addressing {
    /// It did, as far as is known.
    Right,
    /// TLS was negotiated for a different host (RFC 9110, section 7.4).
    Misdirected,
}
