//! `[[tls.acme.authority]]`: the authorities that issue certificates.

use std::path::PathBuf;

use data_encoding::BASE64URL_NOPAD;
use secrecy::SecretBox;
use url::Url;

use super::key::{self, AcmeKeyError};
use crate::config::{
    base::Base,
    effect::{RESTART_GATEWAY, toml_table},
    fault::{Faults, Key},
};

const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";

toml_table! {
    /// `[[tls.acme.authority]]`
    struct AuthorityToml {
        directory: String => RESTART_GATEWAY;
        ca: Option<PathBuf> => RESTART_GATEWAY;
        key_id: Option<String> => RESTART_GATEWAY;
        key_file: Option<PathBuf> => RESTART_GATEWAY;
    }
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

impl AuthorityConfig {
    /// Resolves the listed authorities. The default is Let's Encrypt.
    pub(super) fn resolve_all(written: &[AuthorityToml], base: Base<'_>, faults: &mut Faults<'_>) -> Vec<Self> {
        if written.is_empty() {
            let directory = Url::parse(LETS_ENCRYPT).into_iter();
            return directory.map(|directory| Self { directory, ca: None, external_account: None }).collect();
        }
        let authorities = written.iter().enumerate();
        authorities
            .filter_map(|(i, authority)| {
                Self::resolve(authority, base, &mut faults.within(Key::element("authority", i)))
            })
            .collect()
    }

    fn resolve(written: &AuthorityToml, base: Base<'_>, faults: &mut Faults<'_>) -> Option<Self> {
        let directory: Url = faults.parsed("directory", &written.directory)?;
        if directory.scheme() != "https" {
            faults.add("directory", "must be an https URL (RFC 8555, section 6.1)");
        }
        let external_account = match (&written.key_id, &written.key_file) {
            (Some(key_id), Some(file)) => {
                Some(ExternalAccountConfig { key_id: key_id.clone(), key_file: base.path(file) })
            }
            (None, None) => None,
            _ => {
                faults.add_here("key_id and key_file must be set together; set both or neither");
                None
            }
        };
        Some(Self { directory, ca: written.ca.as_ref().map(|ca| base.path(ca)), external_account })
    }
}

impl ExternalAccountConfig {
    /// Reads the key.
    ///
    /// # Errors
    /// The file is missing, is readable by others, or does not contain base64url.
    pub fn key(&self) -> Result<SecretBox<Vec<u8>>, AcmeKeyError> {
        // Authorities issue it with and without padding.
        key::read(&self.key_file, |text| BASE64URL_NOPAD.decode(text.trim_end_matches('=').as_bytes()))
    }
}
