//! `[tls.acme.dns]`: how a record is written into the domain.

use std::{net::SocketAddr, path::PathBuf, time};

use data_encoding::BASE64;
use secrecy::SecretBox;
use serde::{Deserialize, Serialize};

use super::{
    domain::Domain,
    key::{self, AcmeKeyError},
};
use crate::config::{
    base::Base,
    effect::{RESTART_GATEWAY, toml_table},
    fault::Faults,
    units::Duration,
};

toml_table! {
    /// `[tls.acme.dns]`
    struct DnsToml {
        hook: Vec<String> = Vec::new() => RESTART_GATEWAY;
        server: Option<SocketAddr> = None => RESTART_GATEWAY;
        zone: Option<String> = None => RESTART_GATEWAY;
        key_name: Option<String> = None => RESTART_GATEWAY;
        key_file: Option<PathBuf> = None => RESTART_GATEWAY;
        key_algorithm: TsigAlgorithm = TsigAlgorithm::HmacSha256 => RESTART_GATEWAY;
        wait: Duration = Duration::seconds(30) => RESTART_GATEWAY;
    }
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

/// How a record is written into the domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsConfig {
    /// What writes it.
    pub writer: DnsWriter,
    /// How long to wait until every server of the domain has the record.
    pub wait: time::Duration,
}

/// What writes a record into the domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsWriter {
    /// A program, with its leading arguments.
    Hook(PathBuf, Vec<String>),
    /// A signed dynamic update to the domain's server (RFC 2136, RFC 8945).
    Update(DnsUpdateConfig),
}

/// How a zone is updated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsUpdateConfig {
    /// The zone's primary server.
    pub server: SocketAddr,
    /// The zone.
    pub zone: String,
    /// The name of the shared key.
    pub key_name: String,
    /// The file with the key, in base64.
    pub key_file: PathBuf,
    /// The algorithm of the key.
    pub key_algorithm: TsigAlgorithm,
}

impl DnsConfig {
    /// Resolves `[tls.acme.dns]`; `faults` are those of `[tls.acme]`.
    pub(super) fn resolve(dns: &DnsToml, base: Base<'_>, faults: &mut Faults<'_>) -> Option<Self> {
        let update = (&dns.server, &dns.zone, &dns.key_name, &dns.key_file);
        let writer = match (&*dns.hook, update) {
            ([command, arguments @ ..], (None, None, None, None)) => {
                DnsWriter::Hook(base.program(command), arguments.to_vec())
            }
            ([], (Some(server), Some(zone), Some(key_name), Some(key_file))) => {
                let zone: Domain = faults.within("dns").parsed("zone", zone.trim_end_matches('.'))?;
                DnsWriter::Update(DnsUpdateConfig {
                    server: *server,
                    zone: zone.to_string(),
                    key_name: key_name.clone(),
                    key_file: base.path(key_file),
                    key_algorithm: dns.key_algorithm,
                })
            }
            _ => {
                faults.add("dns", "requires either hook, or all of server, zone, key_name and key_file");
                return None;
            }
        };
        Some(Self { writer, wait: dns.wait.0 })
    }
}

impl DnsUpdateConfig {
    /// Reads the key.
    ///
    /// # Errors
    /// The file is missing, is readable by others, or does not contain base64.
    pub fn key(&self) -> Result<SecretBox<Vec<u8>>, AcmeKeyError> {
        key::read(&self.key_file, |text| BASE64.decode(text.as_bytes()))
    }
}
