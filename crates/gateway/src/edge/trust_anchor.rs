//! The local authority's certificate, as shown to people who decide whether to trust it.

use std::path::{Path, PathBuf};

use rustls::pki_types::{CertificateDer, pem, pem::PemObject};
use sha2::{Digest, Sha256};
use thiserror::Error;
use x509_parser::{certificate::X509Certificate, parse_x509_certificate};

/// An authority's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustAnchor {
    der: Vec<u8>,
    name: String,
    ends: i64,
}

/// The reasons why a file is not an authority's certificate.
#[derive(Debug, Error)]
pub enum TrustAnchorError {
    /// It cannot be read, or is not PEM.
    #[error("{0}: {1}")]
    Pem(PathBuf, pem::Error),
    /// Its first certificate is not a certificate authority's.
    #[error("{0} does not contain the certificate of an authority")]
    NoAuthority(PathBuf),
}

impl TrustAnchor {
    /// Reads the first certificate of a PEM file.
    pub fn read(path: &Path) -> Result<Self, TrustAnchorError> {
        let der = CertificateDer::from_pem_file(path).map_err(|e| TrustAnchorError::Pem(path.to_owned(), e))?;
        let (_, read) = parse_x509_certificate(&der).map_err(|_| TrustAnchorError::NoAuthority(path.to_owned()))?;
        if !read.is_ca() {
            return Err(TrustAnchorError::NoAuthority(path.to_owned()));
        }
        let name = common_name(&read);
        let ends = read.validity().not_after.timestamp();
        Ok(Self { der: der.to_vec(), name, ends })
    }

    /// Returns the certificate in DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Returns the certificate in PEM (RFC 7468).
    #[must_use]
    pub fn pem(&self) -> String {
        let mut text = "-----BEGIN CERTIFICATE-----\n".to_owned();
        let mut base64 = data_encoding::BASE64.encode(&self.der);
        while !base64.is_empty() {
            let rest = base64.split_off(base64.len().min(64));
            text.extend([&base64, "\n"]);
            base64 = rest;
        }
        text + "-----END CERTIFICATE-----\n"
    }

    /// Returns its common name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns when it expires, in Unix seconds.
    #[must_use]
    pub(crate) fn ends(&self) -> i64 {
        self.ends
    }

    /// Returns the SHA-256 digest of the certificate.
    #[must_use]
    pub(crate) fn digest(&self) -> [u8; 32] {
        Sha256::digest(&self.der).into()
    }

    /// Returns the digest as people compare it: "AB:CD:…".
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.digest().map(|byte| format!("{byte:02X}")).join(":")
    }
}

fn common_name(certificate: &X509Certificate<'_>) -> String {
    let name = certificate.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
    name.map_or_else(|| certificate.subject().to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::edge::local_ca::LocalCa;

    #[test]
    fn a_certificate_survives_a_round_trip_through_pem_and_a_server_is_no_authority() {
        let dir = tempfile::tempdir().unwrap();
        let ca = LocalCa::new(dir.path());
        ca.ensure(&[], SystemTime::now()).unwrap();
        let anchor = TrustAnchor::read(&ca.authority_cert()).unwrap();
        assert!(anchor.name().starts_with("Sallyport local authority "));
        assert_eq!((anchor.fingerprint().len(), anchor.ends() > 0), (95, true));
        let copy = dir.path().join("copy.pem");
        std::fs::write(&copy, anchor.pem()).unwrap();
        assert_eq!(TrustAnchor::read(&copy).unwrap(), anchor);
        assert!(matches!(TrustAnchor::read(&ca.served().cert), Err(TrustAnchorError::NoAuthority(_))));
        assert!(matches!(TrustAnchor::read(&ca.served().key), Err(TrustAnchorError::Pem(..))));
    }
}
