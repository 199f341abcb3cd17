//! An authority for client certificates that a test controls: valid and invalid certificates, and revocation lists.

use std::{path::Path, sync::Arc, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
};
use rustls::{
    ClientConfig, SupportedProtocolVersion,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use crate::client::client_builder;

pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

/// A certificate and its key.
pub(crate) struct Shown {
    pub(crate) cert: rcgen::Certificate,
    pub(crate) key: KeyPair,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        Self::with_levels_below(name, 0)
    }

    /// Creates an authority that may certify others, with at most `levels` below it.
    pub(crate) fn with_levels_below(name: &str, levels: u8) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(levels));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Creates an authority that this one certifies; returns it with its certificate.
    pub(crate) fn intermediate(&self, name: &str) -> (Self, CertificateDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (Self { issuer: Issuer::new(params, key), pem: certificate.pem() }, certificate.der().clone())
    }

    /// Signs a certificate whose common name is `user`.
    pub(crate) fn sign(&self, user: &str) -> Shown {
        self.sign_with(user, |_| ())
    }

    pub(crate) fn sign_with(&self, user: &str, change: impl FnOnce(&mut CertificateParams)) -> Shown {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, user);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        (params.not_before, params.not_after) = (from_now(-3_600).into(), from_now(3_600).into());
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        Shown { cert: params.signed_by(&key, &self.issuer).unwrap(), key }
    }

    /// Signs a certificate with this serial number and these alternative names.
    pub(crate) fn sign_numbered(&self, user: &str, serial: u64, names: &[SanType]) -> Shown {
        self.sign_with(user, |params| {
            params.serial_number = Some(SerialNumber::from(serial));
            params.subject_alt_names = names.to_vec();
        })
    }

    /// Returns a revocation list.
    pub(crate) fn revoke(&self, serials: &[u64]) -> String {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: from_now(-60).into(),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: from_now(-60).into(),
            next_update: from_now(3_600).into(),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

impl Shown {
    /// Returns a client that presents it.
    pub(crate) fn client(&self, authority: &Path, versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
        self.client_beside(authority, versions, &[])
    }

    /// Returns a client that presents it together with these certificates.
    pub(crate) fn client_beside(
        &self,
        authority: &Path,
        versions: &[&'static SupportedProtocolVersion],
        beside: &[CertificateDer<'static>],
    ) -> Arc<ClientConfig> {
        let key = PrivateKeyDer::from_pem_slice(self.key.serialize_pem().as_bytes()).unwrap();
        let chain = [&[self.cert.der().clone()], beside].concat();
        Arc::new(client_builder(authority, versions).with_client_auth_cert(chain, key).unwrap())
    }
}

pub(crate) fn from_now(seconds: i64) -> std::time::SystemTime {
    let now = std::time::SystemTime::now();
    let distance = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 { now - distance } else { now + distance }
}
