//! Why the state cannot be read.

use std::{io, path::PathBuf};

use sallyport_core::{config::Diagnostics, secrets::secret_file::SecretError};
use thiserror::Error;

use super::geoip::GeoIpError;
use crate::{
    identity::{InvalidAuthorities, jwt::InvalidPublicKey, link::MalformedLinkKeys},
    store::{SecretsError, StoreError},
};

/// Why the gateway cannot start.
#[derive(Debug, Error)]
pub enum StateError {
    /// A policy is invalid.
    #[error("{0}")]
    Policy(#[from] Diagnostics),
    /// The country database is invalid.
    #[error(transparent)]
    GeoIp(#[from] GeoIpError),
    /// A secret is invalid.
    #[error(transparent)]
    Secrets(#[from] SecretsError),
    /// The state database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The keys of signed links are invalid.
    #[error("secrets/link.keys: {0}")]
    LinkKeys(#[from] MalformedLinkKeys),
    /// A public key is invalid.
    #[error("{0}: {1}")]
    PublicKey(PathBuf, InvalidPublicKey),
    /// The authorities of client certificates, or their revocation lists, are invalid.
    #[error("{0} and its revocation lists: {1}")]
    ClientAuthorities(PathBuf, InvalidAuthorities),
    /// Files changed while they were read.
    #[error("a file changed while it was being read; it will be read again once it stops changing")]
    Unsteady,
    /// A file cannot be read or written.
    #[error("{0}: {1}")]
    Io(PathBuf, io::Error),
}

impl From<SecretError> for StateError {
    fn from(error: SecretError) -> Self {
        Self::Secrets(error.into())
    }
}
