//! The certificates that authorities have given: each with its key in one file (0600), replaced as a whole.

use std::{
    path::{Path, PathBuf},
    time::SystemTime,
};

use rustls::pki_types::{CertificateDer, pem::PemObject};
use thiserror::Error;
use url::Url;

use super::{order::Issued, schedule::Validity};
use crate::{
    config::{CertificatePaths, acme::Domain},
    edge::{
        certificates::{self, CertificateError},
        server_names::covers,
    },
    secret_file::{self, SecretError},
};

/// The first line of each file: who gave it, since a change of authority asks for a new one.
const FROM: &str = "# from ";

/// The folder that they lie in.
pub(super) struct Shelf {
    dir: PathBuf,
}

/// Why what an authority gave is not kept.
#[derive(Debug, Error)]
pub(super) enum ShelfError {
    /// It is no certificate, or not one for the key.
    #[error("what the authority gave cannot be used: {0}")]
    Unusable(#[from] CertificateError),
    /// It is one for other names.
    #[error("what the authority gave is not for {0}")]
    OtherName(Domain),
    /// It has ended already.
    #[error("what the authority gave has ended already")]
    Ended,
    /// The file cannot be written.
    #[error(transparent)]
    Write(#[from] SecretError),
}

impl Shelf {
    pub(super) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// Where the certificate of `domain` lies, or will.
    pub(super) fn file(&self, domain: &Domain) -> PathBuf {
        self.dir.join(format!("{}.pem", domain.as_str().replace('*', "_")))
    }

    /// The same, as chain and key.
    pub(super) fn paths(&self, domain: &Domain) -> CertificatePaths {
        CertificatePaths { cert: self.file(domain), key: self.file(domain) }
    }

    /// From when until when the certificate at hand holds; None where there is none of this authority that can be used.
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

    pub(super) fn put(&self, domain: &Domain, directory: &Url, issued: &Issued) -> Result<(), ShelfError> {
        // Our key first, which is then the one that is read, whatever else came with the chain.
        let text = format!("{FROM}{directory}\n{}\n{}", issued.key, issued.chain);
        self.check(domain, &text)?;
        if validity(&text).is_none_or(|validity| validity.until <= SystemTime::now()) {
            return Err(ShelfError::Ended);
        }
        Ok(secret_file::write(&self.file(domain), text.as_bytes())?)
    }

    fn check(&self, domain: &Domain, text: &str) -> Result<(), ShelfError> {
        let certified = certificates::parse(&self.paths(domain), text.as_bytes(), text.as_bytes())?;
        let example = if domain.is_wildcard() { format!("any.{}", domain.base()) } else { domain.to_string() };
        if covers(&certified, &example) { Ok(()) } else { Err(ShelfError::OtherName(domain.clone())) }
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
