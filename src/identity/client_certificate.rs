//! Client certificates: whether an authority vouches for one, and which user it names.

use std::{fmt, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use rustls::{
    RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime, pem, pem::PemObject},
    server::{VerifierBuilderError, WebPkiClientVerifier, danger::ClientCertVerifier},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;
use x509_parser::{extensions::GeneralName, prelude::X509Certificate};

use super::{MadeFor, Refusal, UserId};
use crate::username::UserName;

/// How the alternative name begins by which certificates that are made here have the number of their user.
pub const USER_NUMBER: &str = "urn:sallyport:user:";

/// Among so many certificates beside a client's own those are looked for that it needs. A path has six at most.
const MAX_BESIDE: usize = 8;

/// Who signs client certificates, what was revoked of them, and where in them the user's name is.
pub struct ClientAuthorities {
    verifier: Arc<dyn ClientCertVerifier>,
    field: UserField,
    /// Of all that it was made from.
    digest: [u8; 32],
}

/// What a client has shown in its handshake: its certificate, and what leads from there to an authority.
pub struct ClientCertificate {
    chain: Box<[CertificateDer<'static>]>,
    begins: i64,
    ends: i64,
    made_for: MadeFor,
    id: Box<str>,
    /// What the authorities said that were asked last.
    judged: ArcSwapOption<Judgement>,
}

struct Judgement {
    by: [u8; 32],
    user: Result<UserName, Refusal>,
}

/// The field of a certificate that holds the user's name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum UserField {
    /// The subject's common name.
    #[default]
    CommonName,
    /// The alternative name of a mailbox.
    Email,
    /// The alternative name of a host.
    Dns,
}

/// Why files are no authorities for client certificates.
#[derive(Debug, Error)]
pub enum InvalidAuthorities {
    /// Not PEM, or not what should be in it.
    #[error(transparent)]
    Pem(#[from] pem::Error),
    /// A certificate that cannot be an authority's.
    #[error("holds a certificate that cannot be used: {0}")]
    Authority(#[from] rustls::Error),
    /// No certificate in the file.
    #[error("holds no certificate")]
    Empty,
    /// A list that is none.
    #[error("holds a revocation list that cannot be used: {0}")]
    Revocations(#[from] VerifierBuilderError),
}

/// A certificate that rustls has taken and that cannot be read here.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("an unreadable certificate")]
pub struct UnreadableCertificate;

impl ClientAuthorities {
    /// From the authorities' certificates and their revocation lists, each in PEM.
    ///
    /// Where there is any list, the status of each certificate but an authority's own must be known from one. A list that
    /// should have been renewed still holds: what it names stays revoked.
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

    /// Judges certificates in handshakes.
    #[must_use]
    pub fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::clone(&self.verifier)
    }

    /// True when both were made from the same.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.digest == other.digest
    }

    /// The user that the certificate names at `now` (Unix seconds), whom somebody else must know.
    ///
    /// The same authorities are not asked twice: only time passes between two requests of a connection.
    pub(super) fn user(&self, certificate: &ClientCertificate, now: i64) -> Result<UserName, Refusal> {
        if now < certificate.begins {
            return Err(Refusal::Unusable);
        }
        if now > certificate.ends {
            return Err(Refusal::Expired);
        }
        if let Some(judged) = certificate.judged.load().as_ref().filter(|judged| judged.by == self.digest) {
            return judged.user.clone();
        }
        let user = self.judge(certificate, now);
        certificate.judged.store(Some(Arc::new(Judgement { by: self.digest, user: user.clone() })));
        user
    }

    fn judge(&self, certificate: &ClientCertificate, now: i64) -> Result<UserName, Refusal> {
        let (leaf, rest) = certificate.chain.split_first().ok_or(Refusal::Unusable)?;
        if !self.vouch(leaf, rest, now) {
            return Err(Refusal::Unusable);
        }
        let (_, leaf) = x509_parser::parse_x509_certificate(leaf).map_err(|_| Refusal::Unusable)?;
        self.field.sole(&leaf).and_then(|name| name.parse().ok()).ok_or(Refusal::UnknownUser)
    }
}

impl ClientAuthorities {
    /// The certificate with those that lead from it to an authority, and none that it holds without. None where it does not hold
    /// at `now`, or is one of very many.
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
    /// Reads a chain that a handshake has found good, the client's own certificate first.
    pub fn read(chain: &[CertificateDer<'_>]) -> Result<Self, UnreadableCertificate> {
        let (mut begins, mut ends) = (i64::MIN, i64::MAX);
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

    /// The certificates, the client's own first.
    pub(super) fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// When the first of them ends, in Unix seconds.
    pub(super) const fn ends(&self) -> i64 {
        self.ends
    }

    /// Which of those who had its user's name it was made for, as far as it says that.
    pub(super) const fn made_for(&self) -> MadeFor {
        self.made_for
    }

    /// The first half of its SHA-256 fingerprint.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl UserField {
    /// The field's one value; who has two names has none.
    fn sole<'c>(self, certificate: &'c X509Certificate<'_>) -> Option<&'c str> {
        let mut values: Box<dyn Iterator<Item = &'c str> + 'c> = match self {
            Self::CommonName => {
                Box::new(certificate.subject().iter_common_name().map(|cn| cn.as_str().unwrap_or_default()))
            }
            Self::Email | Self::Dns => {
                let names = certificate.subject_alternative_name().ok().flatten();
                let names = names.into_iter().flat_map(|names| &names.value.general_names);
                Box::new(names.filter_map(move |name| match (self, name) {
                    (Self::Email, GeneralName::RFC822Name(name)) | (Self::Dns, GeneralName::DNSName(name)) => {
                        Some(*name)
                    }
                    _ => None,
                }))
            }
        };
        values.next().filter(|_| values.next().is_none())
    }
}

/// By the number that certificates have which are made here; others by when they begin.
fn made_for(own: &CertificateDer<'_>) -> Result<MadeFor, UnreadableCertificate> {
    let (_, read) = x509_parser::parse_x509_certificate(own).map_err(|_| UnreadableCertificate)?;
    let names = read.subject_alternative_name().ok().flatten();
    let mut numbers = names.into_iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
        GeneralName::URI(uri) => uri.strip_prefix(USER_NUMBER)?.parse().ok().map(UserId),
        _ => None,
    });
    Ok(MadeFor { id: numbers.next(), at: Some(read.validity().not_before.timestamp()) })
}

/// Each part with its length, so that no two lists of files read the same.
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
