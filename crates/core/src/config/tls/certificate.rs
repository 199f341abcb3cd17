//! `[[tls.certificate]]`: additional certificates, for clients that ask for their names.

use std::path::{Path, PathBuf};

use crate::config::{
    base::Base,
    effect::{RESTART_GATEWAY, toml_table},
};

toml_table! {
    /// `[[tls.certificate]]`: an additional certificate, for clients that ask for one of its names.
    struct CertificateToml {
        cert: PathBuf => RESTART_GATEWAY;
        key: PathBuf => RESTART_GATEWAY;
    }
}

/// The two files of a certificate in PEM, which are watched for changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificatePaths {
    /// The certificate chain.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

impl CertificatePaths {
    pub(super) fn resolve(cert: &Path, key: &Path, base: Base<'_>) -> Self {
        Self { cert: base.path(cert), key: base.path(key) }
    }
}
