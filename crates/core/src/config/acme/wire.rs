//! `[tls.acme]` as written, with its defaults.

use std::{net::SocketAddr, path::PathBuf, time};

use serde::{Deserialize, Serialize};

use crate::config::units::Duration;

/// `[tls.acme]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Wire {
    pub(crate) challenges: Vec<ChallengeKind>,
    pub(crate) retry: Duration,
    pub(crate) authority: Vec<WireAuthority>,
    pub(crate) dns: Option<WireDns>,
}

/// `[[tls.acme.authority]]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WireAuthority {
    pub(crate) directory: String,
    pub(crate) ca: Option<PathBuf>,
    pub(crate) key_id: Option<String>,
    pub(crate) key_file: Option<PathBuf>,
}

/// `[tls.acme.dns]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WireDns {
    pub(crate) hook: Vec<String>,
    pub(crate) server: Option<SocketAddr>,
    pub(crate) zone: Option<String>,
    pub(crate) key_name: Option<String>,
    pub(crate) key_file: Option<PathBuf>,
    pub(crate) key_algorithm: TsigAlgorithm,
    pub(crate) wait: Duration,
}

/// A way to prove control of a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChallengeKind {
    /// A special certificate on a TLS connection to port 443 (RFC 8737).
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
    /// A file on port 80 (RFC 8555, section 8.3).
    #[serde(rename = "http-01")]
    Http01,
    /// A record in the domain (RFC 8555, section 8.4).
    #[serde(rename = "dns-01")]
    Dns01,
}

/// The algorithm that signs zone updates (RFC 8945, section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TsigAlgorithm {
    /// HMAC-SHA-256.
    HmacSha256,
    /// HMAC-SHA-384.
    HmacSha384,
    /// HMAC-SHA-512.
    HmacSha512,
}

impl Default for Wire {
    fn default() -> Self {
        let retry = Duration(time::Duration::from_mins(10));
        Self { challenges: Vec::new(), retry, authority: Vec::new(), dns: None }
    }
}

impl Default for WireDns {
    fn default() -> Self {
        Self {
            hook: Vec::new(),
            server: None,
            zone: None,
            key_name: None,
            key_file: None,
            key_algorithm: TsigAlgorithm::HmacSha256,
            wait: Duration(time::Duration::from_secs(30)),
        }
    }
}
