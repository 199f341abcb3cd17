//! From a credential to an identity: API keys, tokens, signed links and client certificates, each verified in one file of
//! its own.

pub mod api_key;
mod authority;
mod client_certificate;
mod credential;
mod fingerprint;
mod grant;
pub mod jwt;
mod key_table;
pub mod link;
mod link_book;
mod link_target;
pub mod offlinetube;
mod people;
mod scopes;

use crate::username::UserName;

pub use authority::{Authority, Refusal};
pub use client_certificate::{
    ClientAuthorities, ClientCertificate, InvalidAuthorities, USER_NUMBER, UnreadableCertificate, UserField,
};
pub use credential::{Credential, CredentialKind, CredentialKinds, PresentationError, Reads, presented};
pub use fingerprint::{Fingerprint, InvalidFingerprint};
pub use grant::{Grant, KeyGrant};
pub use key_table::KeyTable;
pub use link_book::{LinkBook, MadeLink, Maker};
pub use people::{MadeFor, NameUse, People, Standing, User, UserId};
pub use scopes::{InvalidScope, Scopes};

/// Who makes a request, after a credential was verified.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    /// The user.
    pub user: UserName,
    /// What tells the user from those who had the name before; None where nobody had.
    pub generation: Option<UserId>,
    /// True when the user may act on everybody's objects.
    pub admin: bool,
    /// What the credential may be used for.
    pub scopes: Scopes,
    /// The credential, as it is judged.
    pub grant: Grant,
}

impl Identity {
    /// How it was proved.
    #[must_use]
    pub const fn kind(&self) -> CredentialKind {
        self.grant.kind()
    }

    /// The id of the link that it was proved by; None for any other credential.
    #[must_use]
    pub fn link_id(&self) -> Option<&str> {
        match self.kind() {
            CredentialKind::Link | CredentialKind::OfflinetubeLink => self.grant.id(),
            CredentialKind::ApiKey | CredentialKind::Jwt | CredentialKind::ClientCertificate => None,
        }
    }

    /// True when this is the same user, who may do the same.
    fn is_as_good_as(&self, earlier: &Self) -> bool {
        let Self { user, generation, admin, scopes, grant: _ } = self;
        *user == earlier.user
            && *generation == earlier.generation
            && *admin == earlier.admin
            && *scopes == earlier.scopes
    }
}
