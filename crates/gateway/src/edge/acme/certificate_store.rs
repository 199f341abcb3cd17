//! The store of issued certificates: each is in one file (0600) together with its key, and replaced atomically.

use std::{
    path::{Path, PathBuf},
    time::SystemTime,
};

use rustls::pki_types::{CertificateDer, pem::PemObject};
use sallyport_core::{
    config::{CertificatePaths, acme::Domain},
    secrets::secret_file::{self, SecretError},
};
use thiserror::Error;
use url::Url;

use super::{order::Issued, schedule::Validity};
use crate::edge::{
    certificates::{self, CertificateError},
    server_names::covers,
};

/// The first line of each file names the authority, since a change of authority requires a new certificate.
const FROM: &str = "# from ";

/// The folder of the certificates.
pub(super) struct CertificateStore {
    dir: PathBuf,
}

/// The reasons for rejecting an issued certificate.
#[derive(Debug, Error)]
pub(super) enum CertificateStoreError {
    /// It is not a certificate, or does not match the key.
    #[error("the issued certificate cannot be used: {0}")]
    Unusable(#[from] CertificateError),
    /// It is for other names.
    #[error("the issued certificate is not for {0}")]
    OtherName(Domain),
    /// It has already expired.
    #[error("the issued certificate has already expired")]
    Ended,
    /// The file cannot be written.
    #[error(transparent)]
    Write(#[from] SecretError),
}

impl CertificateStore {
    pub(super) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// Returns the path of the certificate of `domain`, which need not exist yet.
    pub(super) fn file(&self, domain: &Domain) -> PathBuf {
        self.dir.join(format!("{}.pem", domain.as_str().replace('*', "_")))
    }

    /// Returns the same path for chain and key.
    pub(super) fn paths(&self, domain: &Domain) -> CertificatePaths {
        CertificatePaths { cert: self.file(domain), key: self.file(domain) }
    }

    /// Returns the validity period of the stored certificate; `None` if there is no usable one of these authorities.
    pub(super) fn validity<'u>(
        &self,
        domain: &Domain,
        mut directories: impl Iterator<Item = &'u Url>,
    ) -> Option<Validity> {
        let text = std::fs::read_to_string(self.file(domain)).ok()?;
        let from = text.lines().next()?.strip_prefix(FROM)?;
        if !directories.any(|directory| directory.as_str() == from) {
            return None;
        }
        self.check(domain, &text).ok()?;
        validity(&text)
    }

    pub(super) fn put(&self, domain: &Domain, directory: &Url, issued: &Issued) -> Result<(), CertificateStoreError> {
        // Our key comes first, so that it is the one that is read, whatever the chain contains.
        let text = format!("{FROM}{directory}\n{}\n{}", issued.key, issued.chain);
        self.check(domain, &text)?;
        if validity(&text).is_none_or(|validity| validity.until <= SystemTime::now()) {
            return Err(CertificateStoreError::Ended);
        }
        Ok(secret_file::write(&self.file(domain), text.as_bytes())?)
    }

    fn check(&self, domain: &Domain, text: &str) -> Result<(), CertificateStoreError> {
        let certified = certificates::parse(&self.paths(domain), text.as_bytes(), text.as_bytes())?;
        let example = if domain.is_wildcard() { format!("any.{}", domain.base()) } else { domain.to_string() };
        if covers(&certified, &example) { Ok(()) } else { Err(CertificateStoreError::OtherName(domain.clone())) }
    }
}

fn validity(text: &str) -> Option<Validity> {
    let leaf = CertificateDer::from_pem_slice(text.as_bytes()).ok()?;
    let (_, leaf) = x509_parser::parse_x509_certificate(&leaf).ok()?;
    let time = |seconds: i64| {
        let seconds = std::time::Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
        std::time::SystemTime::UNIX_EPOCH + seconds
    };
    let validity = leaf.validity();
    Some(Validity { from: time(validity.not_before.timestamp()), until: time(validity.not_after.timestamp()) })
}
