//! Client certificates: verifies them against the authorities, and finds the user that each one names.

use std::{fmt, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use rustls::{
    RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime, pem, pem::PemObject},
    server::{VerifierBuilderError, WebPkiClientVerifier, danger::ClientCertVerifier},
};
use sallyport_core::{config::UserField, names::username::UserName};
use sha2::{Digest, Sha256};
use thiserror::Error;
use x509_parser::{extensions::GeneralName, prelude::X509Certificate};

use super::{MadeFor, Rejection, UserId};

/// The prefix of the alternative name that carries the user's id in certificates issued by this program.
pub const USER_NUMBER: &str = "urn:sallyport:user:";

/// The longest chain beside a client's own certificate that is searched for the needed ones. A path has at most six.
const MAX_BESIDE: usize = 8;

/// The authorities that sign client certificates, their revocation lists, and the field that holds the user's name.
pub struct ClientAuthorities {
    verifier: Arc<dyn ClientCertVerifier>,
    field: UserField,
    /// The hash of everything it was created from.
    digest: [u8; 32],
}

/// The certificate that a client presented in its handshake, with the chain to an authority.
pub struct ClientCertificate {
    chain: Box<[CertificateDer<'static>]>,
    begins: i64,
    ends: i64,
    made_for: MadeFor,
    id: Box<str>,
    /// The latest judgement, with the authorities that made it.
    judged: ArcSwapOption<Judgement>,
}

struct Judgement {
    by: [u8; 32],
    user: Result<UserName, Rejection>,
}

/// Why files cannot be used as authorities for client certificates.
#[derive(Debug, Error)]
pub enum InvalidAuthorities {
    /// Not PEM, or without the expected contents.
    #[error(transparent)]
    Pem(#[from] pem::Error),
    /// A certificate that cannot be an authority.
    #[error("contains a certificate that cannot be used: {0}")]
    Authority(#[from] rustls::Error),
    /// No certificate in the file.
    #[error("contains no certificate")]
    Empty,
    /// A revocation list that is malformed.
    #[error("contains a revocation list that cannot be used: {0}")]
    Revocations(#[from] VerifierBuilderError),
}

/// A certificate that rustls has accepted but this module cannot parse.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("an unreadable certificate")]
pub struct UnreadableCertificate;

impl ClientAuthorities {
    /// Creates the authorities from their certificates and revocation lists, each in PEM.
    ///
    /// If there is any revocation list, the status of every certificate except an authority's own must be known from one. An outdated list
    /// still applies: the certificates that it names stay revoked.
    pub fn new(authorities: &[u8], revocations: &[Vec<u8>], field: UserField) -> Result<Self, InvalidAuthorities> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(authorities) {
            roots.add(certificate?)?;
        }
        if roots.is_empty() {
            return Err(InvalidAuthorities::Empty);
        }
        let mut lists = Vec::new();
        for file in revocations {
            let found = CertificateRevocationListDer::pem_slice_iter(file).collect::<Result<Vec<_>, _>>()?;
            if found.is_empty() {
                return Err(pem::Error::NoItemsFound.into());
            }
            lists.extend(found);
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .with_crls(lists)
            .allow_unauthenticated()
            .build()?;
        Ok(Self { verifier, field, digest: digest(authorities, revocations, field) })
    }

    /// Returns the verifier for handshakes.
    #[must_use]
    pub fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::clone(&self.verifier)
    }

    /// Returns true if both were created from the same files and field.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.digest == other.digest
    }

    /// Returns the user that the certificate names, if it is valid at `now` (Unix seconds). The caller must check that the user exists.
    ///
    /// The judgement is cached per set of authorities, since only the time changes between two requests on a connection.
    pub(super) fn user(&self, certificate: &ClientCertificate, now: i64) -> Result<UserName, Rejection> {
        if now < certificate.begins {
            return Err(Rejection::Unusable);
        }
        if now > certificate.ends {
            return Err(Rejection::Expired);
        }
        if let Some(judged) = certificate.judged.load().as_ref().filter(|judged| judged.by == self.digest) {
            return judged.user.clone();
        }
        let user = self.judge(certificate, now);
        certificate.judged.store(Some(Arc::new(Judgement { by: self.digest, user: user.clone() })));
        user
    }

    fn judge(&self, certificate: &ClientCertificate, now: i64) -> Result<UserName, Rejection> {
        let (leaf, rest) = certificate.chain.split_first().ok_or(Rejection::Unusable)?;
        if !self.vouch(leaf, rest, now) {
            return Err(Rejection::Unusable);
        }
        let (_, leaf) = x509_parser::parse_x509_certificate(leaf).map_err(|_| Rejection::Unusable)?;
        sole_value(self.field, &leaf).and_then(|name| name.parse().ok()).ok_or(Rejection::UnknownUser)
    }
}

impl ClientAuthorities {
    /// Returns the certificate with the part of its chain that is needed to reach an authority. `None` if it is not valid at `now`, or
    /// its chain is longer than [`MAX_BESIDE`].
    pub(super) fn needed(&self, shown: &ClientCertificate, now: i64) -> Option<ClientCertificate> {
        let (own, beside) = shown.chain.split_first()?;
        let mut path = if self.vouch(own, &[], now) { Vec::new() } else { beside.to_vec() };
        if path.len() > MAX_BESIDE || !self.vouch(own, &path, now) {
            return None;
        }
        for at in (0..path.len()).rev() {
            let mut shorter = path.clone();
            shorter.remove(at);
            if self.vouch(own, &shorter, now) {
                path = shorter;
            }
        }
        path.insert(0, own.clone());
        ClientCertificate::read(&path).ok()
    }

    fn vouch(&self, own: &CertificateDer<'_>, beside: &[CertificateDer<'_>], now: i64) -> bool {
        let now = UnixTime::since_unix_epoch(Duration::from_secs(now.unsigned_abs()));
        self.verifier.verify_client_cert(own, beside, now).is_ok()
    }
}

impl ClientCertificate {
    /// Parses a chain that a handshake has accepted, the client's own certificate first.
    pub fn read(chain: &[CertificateDer<'_>]) -> Result<Self, UnreadableCertificate> {
        let mut begins = i64::MIN;
        let mut ends = i64::MAX;
        for certificate in chain {
            let (_, read) = x509_parser::parse_x509_certificate(certificate).map_err(|_| UnreadableCertificate)?;
            begins = begins.max(read.validity().not_before.timestamp());
            ends = ends.min(read.validity().not_after.timestamp());
        }
        let own = chain.first().ok_or(UnreadableCertificate)?;
        let fingerprint = Sha256::digest(own);
        Ok(Self {
            made_for: made_for(own)?,
            chain: chain.iter().map(|certificate| certificate.clone().into_owned()).collect(),
            begins,
            ends,
            id: data_encoding::HEXLOWER.encode(fingerprint.get(..16).unwrap_or_default()).into(),
            judged: ArcSwapOption::empty(),
        })
    }

    /// Returns the certificates, the client's own first.
    pub(super) fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// Returns when the first of them expires, in Unix seconds.
    pub(super) const fn ends(&self) -> i64 {
        self.ends
    }

    /// Returns which of the users with its name it was issued for, as far as the certificate says.
    pub(super) const fn made_for(&self) -> MadeFor {
        self.made_for
    }

    /// Returns the first half of its SHA-256 fingerprint.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }
}

/// Returns the only value of the field; a certificate with two names is treated as having none.
fn sole_value<'c>(field: UserField, certificate: &'c X509Certificate<'_>) -> Option<&'c str> {
    let mut values: Box<dyn Iterator<Item = &'c str> + 'c> = match field {
        UserField::CommonName => {
            Box::new(certificate.subject().iter_common_name().map(|cn| cn.as_str().unwrap_or_default()))
        }
        UserField::Email | UserField::Dns => {
            let names = certificate.subject_alternative_name().ok().flatten();
            let names = names.into_iter().flat_map(|names| &names.value.general_names);
            Box::new(names.filter_map(move |name| match (field, name) {
                (UserField::Email, GeneralName::RFC822Name(name)) | (UserField::Dns, GeneralName::DNSName(name)) => {
                    Some(*name)
                }
                _ => None,
            }))
        }
    };
    values.next().filter(|_| values.next().is_none())
}

/// Reads the user's id from certificates issued by this program; others are matched by the start of their validity.
fn made_for(own: &CertificateDer<'_>) -> Result<MadeFor, UnreadableCertificate> {
    let (_, read) = x509_parser::parse_x509_certificate(own).map_err(|_| UnreadableCertificate)?;
    let names = read.subject_alternative_name().ok().flatten();
    let mut numbers = names.into_iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
        GeneralName::URI(uri) => uri.strip_prefix(USER_NUMBER)?.parse().ok().map(UserId),
        _ => None,
    });
    Ok(MadeFor { id: numbers.next(), at: Some(read.validity().not_before.timestamp()) })
}

/// Hashes each part with its length, so that no two different lists of files have the same digest.
fn digest(authorities: &[u8], revocations: &[Vec<u8>], field: UserField) -> [u8; 32] {
    let mut hash = Sha256::new_with_prefix([field as u8]);
    for part in std::iter::once(authorities).chain(revocations.iter().map(Vec::as_slice)) {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

impl fmt::Debug for ClientAuthorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientAuthorities").field("field", &self.field).finish_non_exhaustive()
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCertificate").field("id", &self.id).finish_non_exhaustive()
    }
}

impl PartialEq for ClientCertificate {
    fn eq(&self, other: &Self) -> bool {
        self.chain == other.chain
    }
}

impl Eq for ClientCertificate {}
