//! What the configuration says of ACME: which certificates are fetched, from whom, and how control of a domain is shown.

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
use crate::secret_file::{self, SecretError};

/// Which certificates are fetched, from whom, and how it is shown that they may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcmeConfig {
    /// One certificate is fetched for each.
    pub domains: Vec<Domain>,
    /// Where the authorities may write to.
    pub email: Option<String>,
    /// They are asked in this order until one gives a certificate.
    pub authorities: Vec<AuthorityConfig>,
    /// The ways to show control of a domain, in the order in which they are tried.
    pub challenges: Vec<ChallengeConfig>,
    /// How long to wait after a first failure; then twice as long each time.
    pub retry: Duration,
}

/// An authority that gives certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorityConfig {
    /// Its directory (RFC 8555, section 7.1.1).
    pub directory: Url,
    /// The certificate, in PEM, that vouches for its web server where this machine does not know it.
    pub ca: Option<PathBuf>,
    /// The account at the authority that ours is bound to (RFC 8555, section 7.3.4).
    pub external_account: Option<ExternalAccountConfig>,
}

/// An account that was made beforehand, by other means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalAccountConfig {
    /// Its name.
    pub key_id: String,
    /// The file of its key, in base64url.
    pub key_file: PathBuf,
}

/// A way to show control of a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChallengeConfig {
    /// On the TLS listeners.
    TlsAlpn01,
    /// On the plain listeners.
    Http01,
    /// In the domain itself.
    Dns01(DnsConfig),
}

/// Who writes a record into the domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsConfig {
    /// Who writes it.
    pub writer: DnsWriter,
    /// How long every server of the domain takes to know it.
    pub wait: Duration,
}

/// Who writes a record into the domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsWriter {
    /// A program, with these first arguments.
    Hook(PathBuf, Vec<String>),
    /// An update to the domain's own server (RFC 2136), signed (RFC 8945).
    Update(DnsUpdateConfig),
}

/// How a zone is updated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsUpdateConfig {
    /// The zone's primary server.
    pub server: SocketAddr,
    /// The zone.
    pub zone: String,
    /// The name of the key that both know.
    pub key_name: String,
    /// The file of the key, in base64.
    pub key_file: PathBuf,
    /// What it is used with.
    pub key_algorithm: TsigAlgorithm,
}

/// A name that certificates are made for: lower case, in letters, digits and hyphens, maybe with `*` for its first label.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Domain(String);

/// Not such a name.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0:?} is not a domain; write \"home.example.org\" or \"*.example.org\", and names in other scripts as xn--…")]
pub struct InvalidDomain(String);

/// Why a key for ACME cannot be used.
#[derive(Debug, Error)]
pub enum AcmeKeyError {
    /// The file is not fit for a secret.
    #[error(transparent)]
    File(#[from] SecretError),
    /// There is no file.
    #[error("{0}: {1}")]
    Missing(PathBuf, io::Error),
    /// The text in it is not base64.
    #[error("{0}: {1}; write the key as its maker prints it")]
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
        // A last label of digits would be an address (RFC 1123, section 2.1).
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
    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name without the `*` for its first label.
    #[must_use]
    pub fn base(&self) -> &str {
        self.0.strip_prefix("*.").unwrap_or(&self.0)
    }

    /// True for a name with `*` for its first label.
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with("*.")
    }
}

impl ExternalAccountConfig {
    /// Reads the key.
    ///
    /// # Errors
    /// A file that is missing, that others can read, or that is not base64url.
    pub fn key(&self) -> Result<SecretBox<Vec<u8>>, AcmeKeyError> {
        // Makers print it with and without padding.
        read_key(&self.key_file, |text| BASE64URL_NOPAD.decode(text.trim_end_matches('=').as_bytes()))
    }
}

impl DnsUpdateConfig {
    /// Reads the key.
    ///
    /// # Errors
    /// A file that is missing, that others can read, or that is not base64.
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
