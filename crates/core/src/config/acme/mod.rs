//! The ACME configuration: which certificates to obtain, from which authorities, and how to prove control of a domain.

mod resolve;
mod wire;

use std::{
    fmt, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use data_encoding::{BASE64, BASE64URL_NOPAD, DecodeError};
use secrecy::{ExposeSecret, SecretBox};
use thiserror::Error;
use url::Url;

pub(crate) use self::wire::Wire;
pub use self::wire::{ChallengeKind, TsigAlgorithm};
use crate::secrets::secret_file::{self, SecretError};

/// Which certificates to obtain, from which authorities, and how to prove control of the domains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcmeConfig {
    /// The domains; each gets one certificate.
    pub domains: Vec<Domain>,
    /// The contact address for the authorities.
    pub email: Option<String>,
    /// The authorities, tried in this order until one issues a certificate.
    pub authorities: Vec<AuthorityConfig>,
    /// The ways to prove control of a domain, in the order in which they are tried.
    pub challenges: Vec<ChallengeConfig>,
    /// The delay after the first failure; it doubles with each further one.
    pub retry: Duration,
}

/// An authority that issues certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorityConfig {
    /// The URL of its directory (RFC 8555, section 7.1.1).
    pub directory: Url,
    /// The CA certificate of its web server, in PEM, if this machine does not trust it already.
    pub ca: Option<PathBuf>,
    /// The existing account that ours is bound to (RFC 8555, section 7.3.4).
    pub external_account: Option<ExternalAccountConfig>,
}

/// An account with the authority that was created beforehand, outside ACME.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalAccountConfig {
    /// The key identifier.
    pub key_id: String,
    /// The file with its key, in base64url.
    pub key_file: PathBuf,
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

/// How a record is written into the domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsConfig {
    /// What writes it.
    pub writer: DnsWriter,
    /// How long to wait until every server of the domain has the record.
    pub wait: Duration,
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

/// A domain that a certificate is issued for: lower-case letters, digits and hyphens, optionally with `*` as the first label.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Domain(String);

/// A text that is not such a domain.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0:?} is not a domain; write \"home.example.org\" or \"*.example.org\", and names in other scripts as xn--…")]
pub struct InvalidDomain(String);

/// Why a key for ACME cannot be used.
#[derive(Debug, Error)]
pub enum AcmeKeyError {
    /// The file is not suitable for a secret.
    #[error(transparent)]
    File(#[from] SecretError),
    /// The file does not exist.
    #[error("{0}: {1}")]
    Missing(PathBuf, io::Error),
    /// The text in it is not base64.
    #[error("{0}: {1}; write the key exactly as it was issued")]
    Encoding(PathBuf, DecodeError),
}

impl FromStr for Domain {
    type Err = InvalidDomain;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let lower = text.to_ascii_lowercase();
        let name = lower.strip_prefix("*.").unwrap_or(&lower);
        let label = |label: &str| {
            let plain = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
            (1..=63).contains(&label.len()) && plain && !label.starts_with('-') && !label.ends_with('-')
        };
        // A numeric last label would make it an address (RFC 1123, section 2.1).
        let top = name.rsplit('.').next().is_some_and(|top| !top.bytes().all(|b| b.is_ascii_digit()));
        let whole = name.len() <= 253 && name.contains('.') && name.split('.').all(label) && top;
        if whole { Ok(Self(lower)) } else { Err(InvalidDomain(text.to_owned())) }
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Domain {
    /// Returns the domain as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the domain without a `*` as its first label.
    #[must_use]
    pub fn base(&self) -> &str {
        self.0.strip_prefix("*.").unwrap_or(&self.0)
    }

    /// Returns true if the first label is `*`.
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with("*.")
    }
}

impl ExternalAccountConfig {
    /// Reads the key.
    ///
    /// # Errors
    /// The file is missing, is readable by others, or does not contain base64url.
    pub fn key(&self) -> Result<SecretBox<Vec<u8>>, AcmeKeyError> {
        // Authorities issue it with and without padding.
        read_key(&self.key_file, |text| BASE64URL_NOPAD.decode(text.trim_end_matches('=').as_bytes()))
    }
}

impl DnsUpdateConfig {
    /// Reads the key.
    ///
    /// # Errors
    /// The file is missing, is readable by others, or does not contain base64.
    pub fn key(&self) -> Result<SecretBox<Vec<u8>>, AcmeKeyError> {
        read_key(&self.key_file, |text| BASE64.decode(text.as_bytes()))
    }
}

fn read_key(
    path: &Path,
    decode: impl FnOnce(&str) -> Result<Vec<u8>, DecodeError>,
) -> Result<SecretBox<Vec<u8>>, AcmeKeyError> {
    let missing = || AcmeKeyError::Missing(path.to_owned(), io::ErrorKind::NotFound.into());
    let text = secret_file::read(path)?.ok_or_else(missing)?;
    let key = decode(text.expose_secret()).map_err(|e| AcmeKeyError::Encoding(path.to_owned(), e))?;
    Ok(SecretBox::new(Box::new(key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_are_host_names_and_nothing_else() {
        for (text, name) in
            [("home.example.org", "home.example.org"), ("Home.Example.ORG", "home.example.org"), ("*.a.b", "*.a.b")]
        {
            assert_eq!(text.parse::<Domain>().unwrap().as_str(), name);
        }
        let long = format!("{}.org", "a".repeat(64));
        for text in [
            "",
            "localhost",
            ".",
            "a..b",
            "a.b.",
            "*",
            "*.",
            "*.*.b",
            "a.*.b",
            "192.0.2.1",
            "[::1]",
            "a_b.org",
            "ä.org",
            "-a.org",
            "a-.org",
            "a b.org",
            "../x.org",
            "a/b.org",
            &long,
        ] {
            assert_eq!(text.parse::<Domain>(), Err(InvalidDomain(text.to_owned())), "{text}");
        }
    }
}
