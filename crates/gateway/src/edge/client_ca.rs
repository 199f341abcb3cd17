//! The local authority for client certificates. Its key differs from the one for server certificates: whoever can create users should not
//! be able to create servers too.

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rcgen::{
    CertificateParams, DnType, DnValue, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, SanType, string::Ia5String,
};
use sallyport_core::{config::UserField, names::username::UserName};

use super::local_ca::{AuthorityFiles, LocalCaError};
use crate::identity::{USER_NUMBER, UserId};

const DAY: Duration = Duration::from_hours(24);

/// The files of the authority.
#[derive(Clone, Debug)]
pub struct ClientCa {
    files: AuthorityFiles,
}

/// A certificate that was issued for a user, and its key.
pub struct IssuedCertificate {
    /// The certificate.
    pub der: Vec<u8>,
    /// The same in PEM.
    pub pem: String,
    /// Its key.
    pub key: KeyPair,
    /// When it expires.
    pub ends: SystemTime,
}

impl ClientCa {
    /// Returns the authority in `dir`, which need not exist yet.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        let cert = dir.join("clients-ca.pem");
        let key = dir.join("clients-ca.key");
        Self { files: AuthorityFiles { cert, key, name: "Sallyport client authority" } }
    }

    /// Returns the path of the authority's certificate, for `[tls.clients]`.
    #[must_use]
    pub fn authority_cert(&self) -> &PathBuf {
        &self.files.cert
    }

    /// Issues a certificate for `user` that is valid for `life` from now on. Creates the authority if there is none.
    pub fn issue(
        &self,
        user: &UserName,
        id: UserId,
        field: UserField,
        life: Duration,
        now: SystemTime,
    ) -> Result<IssuedCertificate, LocalCaError> {
        let error = |e| LocalCaError::Certificate(self.files.cert.clone(), e);
        let authority = self.files.open(now)?;
        let key = KeyPair::generate().map_err(error)?;
        let ends = now + life;
        let mut params = leaf(user, field).map_err(error)?;
        // Somebody else may get the same name later.
        let number = Ia5String::try_from(format!("{USER_NUMBER}{}", id.0)).map_err(error)?;
        params.subject_alt_names.push(SanType::URI(number));
        // Phones' clocks may be slow.
        params.not_before = (now - DAY).into();
        params.not_after = ends.into();
        let made = params.signed_by(&key, &authority).map_err(error)?;
        Ok(IssuedCertificate { der: made.der().to_vec(), pem: made.pem(), key, ends })
    }
}

fn leaf(user: &UserName, field: UserField) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, DnValue::Utf8String(user.as_str().to_owned()));
    match field {
        UserField::CommonName => {}
        UserField::Email => params.subject_alt_names.push(SanType::Rfc822Name(Ia5String::try_from(user.as_str())?)),
        UserField::Dns => params.subject_alt_names.push(SanType::DnsName(Ia5String::try_from(user.as_str())?)),
    }
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}
