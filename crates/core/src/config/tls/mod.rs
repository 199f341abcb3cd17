//! `[tls]`: where certificates come from, and which TLS versions the gateway speaks.

mod certificate;
mod clients;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use self::{
    certificate::CertificatePaths,
    clients::{ClientsConfig, UserField},
};
use self::{certificate::CertificateToml, clients::ClientsToml};
use super::{
    acme::{AcmeConfig, AcmeToml},
    base::Base,
    effect::{Named::Table, RESTART_GATEWAY, toml_table},
    fault::Faults,
};

toml_table! {
    /// `[tls]`
    struct TlsToml {
        mode: TlsModeName = TlsModeName::LocalCa => RESTART_GATEWAY;
        cert: Option<PathBuf> = None => RESTART_GATEWAY;
        key: Option<PathBuf> = None => RESTART_GATEWAY;
        names: Vec<String> = Vec::new() => RESTART_GATEWAY;
        domains: Vec<String> = Vec::new() => RESTART_GATEWAY;
        email: Option<String> = None => RESTART_GATEWAY;
        profile: TlsProfile = TlsProfile::Intermediate => RESTART_GATEWAY;
        acme: AcmeToml = AcmeToml::default() => Table(AcmeToml::KEYS);
        certificate: Vec<CertificateToml> = Vec::new() => Table(CertificateToml::KEYS);
        clients: Option<ClientsToml> = None => Table(ClientsToml::KEYS);
    }
}

/// Where the certificate comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum TlsModeName {
    LocalCa,
    Files,
    Acme,
}

/// The TLS versions and cipher suites, by the names of Mozilla's profiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TlsProfile {
    /// TLS 1.2 and 1.3.
    Intermediate,
    /// Only TLS 1.3.
    Modern,
}

/// Certificates and TLS versions.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    /// Where the first certificate comes from.
    pub mode: TlsMode,
    /// Additional certificates, for clients that ask for their names.
    pub certificates: Vec<CertificatePaths>,
    /// TLS versions and cipher suites.
    pub profile: TlsProfile,
    /// The accepted client certificates; `None` means that none is requested.
    pub clients: Option<ClientsConfig>,
}

/// Where the first certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// A local authority in `certs/`, which issues a certificate for these names and every address of this machine.
    LocalCa {
        /// The folder of the authority and its certificate.
        dir: PathBuf,
        /// Names in addition to the detected ones.
        names: Vec<String>,
    },
    /// Two files.
    Files(CertificatePaths),
    /// Public authorities, by ACME; until they issue a certificate, one of the local authority is used.
    Acme {
        /// The ACME settings.
        acme: AcmeConfig,
        /// The folder of the local authority and its certificate.
        dir: PathBuf,
        /// Names in the local authority's certificate in addition to the detected ones.
        names: Vec<String>,
    },
}

impl TlsToml {
    /// Returns the default name for the gateway's public URL: the first of `domains`, which are publicly known, otherwise of `names`.
    pub(super) fn first_name(&self) -> Option<&str> {
        let domain = self.domains.first().map(|domain| domain.trim_start_matches("*."));
        domain.or_else(|| self.names.first().map(String::as_str))
    }
}

impl TlsConfig {
    /// Resolves `[tls]`; `plain` says whether there is a plain listener.
    pub(super) fn resolve(tls: TlsToml, plain: bool, base: Base<'_>, faults: &mut Faults<'_>) -> Option<Self> {
        Some(Self {
            mode: TlsMode::resolve(&tls, plain, base, faults)?,
            certificates: tls.certificate.iter().map(|c| CertificatePaths::resolve(&c.cert, &c.key, base)).collect(),
            profile: tls.profile,
            clients: tls.clients.map(|clients| ClientsConfig::resolve(&clients, base)),
        })
    }

    /// Returns the certificates that must exist before startup.
    pub fn files(&self) -> impl Iterator<Item = &CertificatePaths> {
        let first = match &self.mode {
            TlsMode::Files(files) => Some(files),
            TlsMode::LocalCa { .. } | TlsMode::Acme { .. } => None,
        };
        first.into_iter().chain(&self.certificates)
    }
}

impl TlsMode {
    fn resolve(tls: &TlsToml, plain: bool, base: Base<'_>, faults: &mut Faults<'_>) -> Option<Self> {
        if tls.mode != TlsModeName::Files && (tls.cert.is_some() || tls.key.is_some()) {
            faults.add_here("cert and key require mode \"files\"; set that mode, or remove them");
        }
        if tls.mode != TlsModeName::Acme && (!tls.domains.is_empty() || tls.email.is_some()) {
            faults.add_here("domains and email require mode \"acme\"; set that mode, or remove them");
        }
        let dir = base.path("certs");
        match tls.mode {
            TlsModeName::LocalCa => Some(Self::LocalCa { dir, names: tls.names.clone() }),
            TlsModeName::Acme => {
                let acme = AcmeConfig::resolve(tls, plain, base, faults)?;
                let names = tls.names.iter().cloned().chain(acme.domains.iter().map(ToString::to_string)).collect();
                Some(Self::Acme { acme, dir, names })
            }
            TlsModeName::Files => {
                let (Some(cert), Some(key)) = (&tls.cert, &tls.key) else {
                    faults.add_here("mode \"files\" requires cert and key; set both");
                    return None;
                };
                Some(Self::Files(CertificatePaths::resolve(cert, key, base)))
            }
        }
    }
}
