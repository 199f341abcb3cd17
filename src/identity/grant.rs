//! What a request was let in with: the part of a credential that must still hold while an answer runs, and for as long as
//! the links that were made with it.

use std::sync::Arc;

use data_encoding::BASE64;
use rustls::pki_types::CertificateDer;

use super::{ClientCertificate, CredentialKind, jwt::TokenGrant, link::LinkGrant, offlinetube::OfflineTubeGrant};
use crate::store::MakerRecord;

/// A credential that was recognised: what [`Authority::judge`](super::Authority::judge) judges, at first and ever again.
#[derive(Clone, Debug, PartialEq)]
pub enum Grant {
    /// An API key.
    ApiKey(KeyGrant),
    /// A token.
    Jwt(Box<TokenGrant>),
    /// A link of Sallyport's.
    Link(LinkGrant),
    /// A link in OfflineTube's style.
    OfflinetubeLink(OfflineTubeGrant),
    /// The certificate of the connection.
    ClientCertificate(Arc<ClientCertificate>),
}

/// An API key, known by its id, which no other key ever gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyGrant {
    /// The id.
    pub id: Arc<str>,
    /// When it stops working.
    pub expires: Option<i64>,
}

impl Grant {
    /// Which kind of credential it was.
    #[must_use]
    pub const fn kind(&self) -> CredentialKind {
        match self {
            Self::ApiKey(_) => CredentialKind::ApiKey,
            Self::Jwt(_) => CredentialKind::Jwt,
            Self::Link(_) => CredentialKind::Link,
            Self::OfflinetubeLink(_) => CredentialKind::OfflinetubeLink,
            Self::ClientCertificate(_) => CredentialKind::ClientCertificate,
        }
    }

    /// The credential's own id; None for a token, which need not have one.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        match self {
            Self::ApiKey(key) => Some(&key.id),
            Self::Jwt(_) => None,
            Self::Link(link) => Some(&link.id),
            Self::OfflinetubeLink(link) => Some(&link.id),
            Self::ClientCertificate(certificate) => Some(certificate.id()),
        }
    }

    /// When it stops working, in Unix seconds; None for a key without an end.
    #[must_use]
    pub fn expires(&self) -> Option<i64> {
        match self {
            Self::ApiKey(key) => key.expires,
            Self::Jwt(token) => Some(token.expires()),
            Self::Link(link) => Some(link.expires),
            Self::OfflinetubeLink(link) => Some(link.expires),
            Self::ClientCertificate(certificate) => Some(certificate.ends()),
        }
    }

    /// How it is kept beside the links that are made with it; None for a link, with which nobody makes another.
    #[must_use]
    pub fn to_record(&self) -> Option<MakerRecord> {
        let (name, proof) = match self {
            Self::ApiKey(key) => (key.id.to_string(), key.expires.map(|at| at.to_string()).unwrap_or_default()),
            Self::Jwt(token) => (token.jti.as_deref().unwrap_or_default().to_owned(), token.to_json()),
            Self::ClientCertificate(certificate) => {
                let chain: Vec<_> = certificate.chain().iter().map(|der| BASE64.encode(der)).collect();
                (certificate.id().to_owned(), chain.join(" "))
            }
            Self::Link(_) | Self::OfflinetubeLink(_) => return None,
        };
        Some(MakerRecord { kind: self.kind().name().to_owned(), name, proof })
    }

    /// Reads what [`Grant::to_record`] has written.
    #[must_use]
    pub fn from_record(record: &MakerRecord) -> Option<Self> {
        let kind = CredentialKind::ALL.into_iter().find(|kind| kind.name() == record.kind)?;
        match kind {
            CredentialKind::ApiKey => {
                let expires = Some(&record.proof).filter(|text| !text.is_empty()).map(|text| text.parse()).transpose();
                Some(Self::ApiKey(KeyGrant { id: record.name.as_str().into(), expires: expires.ok()? }))
            }
            CredentialKind::Jwt => TokenGrant::from_json(&record.proof).map(Box::new).map(Self::Jwt),
            CredentialKind::ClientCertificate => {
                let decoded =
                    record.proof.split(' ').map(|text| BASE64.decode(text.as_bytes()).map(CertificateDer::from));
                let chain = decoded.collect::<Result<Vec<_>, _>>().ok()?;
                ClientCertificate::read(&chain).ok().map(Arc::new).map(Self::ClientCertificate)
            }
            CredentialKind::Link | CredentialKind::OfflinetubeLink => None,
        }
    }
}
