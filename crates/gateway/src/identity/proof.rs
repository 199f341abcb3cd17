//! Proofs: the part of an accepted credential that must stay valid while a response is sent, and for as long as the links that were
//! created with it.

use std::sync::Arc;

use data_encoding::BASE64;
use rustls::pki_types::CertificateDer;
use sallyport_core::names::username::UserName;

use super::{
    ClientCertificate, CredentialKind, MakerRecord, jwt::TokenGrant, link::LinkGrant, offlinetube::OfflineTubeGrant,
};

/// A recognised credential, which [`Authenticator::judge`](super::Authenticator::judge) judges at first and then again and again.
#[derive(Clone, Debug, PartialEq)]
pub enum Proof {
    /// An API key.
    ApiKey(KeyGrant),
    /// A JSON Web Token.
    Jwt(Box<TokenGrant>),
    /// A link in Sallyport's format.
    Link(LinkGrant),
    /// A link in OfflineTube's format.
    OfflineTubeLink(OfflineTubeGrant),
    /// The client certificate of the connection.
    ClientCertificate(Arc<ClientCertificate>),
}

/// An API key, identified by its id, which is never reused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyGrant {
    /// The id.
    pub id: Arc<str>,
    /// When it expires, in Unix seconds.
    pub expires: Option<i64>,
}

/// What requests with a credential count towards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CountsTowards<'p> {
    /// Its user, whatever a limit is for.
    User,
    /// Its user, or the credential with this id where a limit is for each credential.
    Credential(&'p str),
    /// The link with this id, and not its user, because anyone can hold a link.
    Link(&'p str),
}

impl Proof {
    /// Returns the kind of the credential.
    #[must_use]
    pub const fn kind(&self) -> CredentialKind {
        match self {
            Self::ApiKey(_) => CredentialKind::ApiKey,
            Self::Jwt(_) => CredentialKind::Jwt,
            Self::Link(_) => CredentialKind::Link,
            Self::OfflineTubeLink(_) => CredentialKind::OfflineTubeLink,
            Self::ClientCertificate(_) => CredentialKind::ClientCertificate,
        }
    }

    /// Returns what requests with the credential count towards. A token need not have an id of its own.
    #[must_use]
    pub fn counts_towards(&self) -> CountsTowards<'_> {
        match self {
            Self::ApiKey(key) => CountsTowards::Credential(&key.id),
            Self::Jwt(_) => CountsTowards::User,
            Self::Link(link) => CountsTowards::Link(&link.id),
            Self::OfflineTubeLink(link) => CountsTowards::Link(&link.id),
            Self::ClientCertificate(certificate) => CountsTowards::Credential(certificate.id()),
        }
    }

    /// Returns the id by which an application tells links apart; `None` if the credential is not a link. OfflineTube's links have no ids
    /// there, so all of a user's links share one.
    #[must_use]
    pub fn stated_link_id(&self) -> Option<&str> {
        match self {
            Self::Link(link) => Some(&link.id),
            Self::OfflineTubeLink(_) => Some(self.kind().name()),
            Self::ApiKey(_) | Self::Jwt(_) | Self::ClientCertificate(_) => None,
        }
    }

    /// Returns the user named in the credential; `None` if its user is looked up.
    #[must_use]
    pub fn named_user(&self) -> Option<&UserName> {
        match self {
            Self::Jwt(token) => Some(&token.user),
            Self::Link(link) => Some(&link.user),
            Self::OfflineTubeLink(link) => Some(&link.user),
            Self::ApiKey(_) | Self::ClientCertificate(_) => None,
        }
    }

    /// Returns when it expires, in Unix seconds; `None` for a key that does not expire.
    #[must_use]
    pub fn expires(&self) -> Option<i64> {
        match self {
            Self::ApiKey(key) => key.expires,
            Self::Jwt(token) => Some(token.expires()),
            Self::Link(link) => Some(link.expires),
            Self::OfflineTubeLink(link) => Some(link.expires),
            Self::ClientCertificate(certificate) => Some(certificate.ends()),
        }
    }

    /// Returns the record that is stored with the links created with this credential; `None` for a link, which cannot create links.
    #[must_use]
    pub fn to_record(&self) -> Option<MakerRecord> {
        let (name, proof) = match self {
            Self::ApiKey(key) => (key.id.to_string(), key.expires.map(|at| at.to_string()).unwrap_or_default()),
            Self::Jwt(token) => (token.jti.as_deref().unwrap_or_default().to_owned(), token.to_json()),
            Self::ClientCertificate(certificate) => {
                let chain: Vec<_> = certificate.chain().iter().map(|der| BASE64.encode(der)).collect();
                (certificate.id().to_owned(), chain.join(" "))
            }
            Self::Link(_) | Self::OfflineTubeLink(_) => return None,
        };
        Some(MakerRecord { kind: self.kind().name().to_owned(), name, proof })
    }

    /// Parses a record that [`Proof::to_record`] has created.
    #[must_use]
    pub fn from_record(record: &MakerRecord) -> Option<Self> {
        let kind = CredentialKind::ALL.iter().find(|kind| kind.name() == record.kind)?;
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
            CredentialKind::Link | CredentialKind::OfflineTubeLink => None,
        }
    }
}
