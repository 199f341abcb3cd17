//! The ways to prove control of a domain.

use serde::{Deserialize, Serialize};

use super::{AcmeToml, dns::DnsConfig};
use crate::config::fault::Faults;

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

/// A way to prove control of a domain, with its settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChallengeConfig {
    /// On the TLS listeners.
    TlsAlpn01,
    /// On the plain listeners.
    Http01,
    /// In the domain itself.
    Dns01(DnsConfig),
}

impl ChallengeConfig {
    /// Resolves `challenges`, by default every way that the rest of the configuration allows.
    pub(super) fn resolve_all(
        acme: &AcmeToml,
        dns: Option<&DnsConfig>,
        plain: bool,
        faults: &mut Faults<'_>,
    ) -> Vec<Self> {
        let kinds = match (&*acme.challenges, dns) {
            ([], Some(_)) => &[ChallengeKind::Dns01][..],
            ([], None) if plain => &[ChallengeKind::TlsAlpn01, ChallengeKind::Http01],
            ([], None) => &[ChallengeKind::TlsAlpn01],
            (given, _) => given,
        };
        if kinds.contains(&ChallengeKind::Http01) && !plain {
            faults.add("challenges", "\"http-01\" requires gateway.http_listen; set it, or remove this challenge");
        }
        if kinds.contains(&ChallengeKind::Dns01) && acme.dns.is_none() {
            faults.add("challenges", "\"dns-01\" requires [tls.acme.dns]; configure there how the record is written");
        }
        let challenge = |kind: &ChallengeKind| match kind {
            ChallengeKind::TlsAlpn01 => Some(Self::TlsAlpn01),
            ChallengeKind::Http01 => Some(Self::Http01),
            ChallengeKind::Dns01 => dns.cloned().map(Self::Dns01),
        };
        kinds.iter().filter_map(challenge).collect()
    }
}
