//! Turns credentials into identities: API keys, tokens, signed links and client certificates, each verified in its own file.

use sallyport_core::names::{role::Role, username::UserName};

mod added_parameter;
pub mod api_key;
mod authenticator;
mod client_certificate;
mod credential;
mod fingerprint;
pub mod jwt;
mod key_table;
mod kind;
pub mod link;
mod link_book;
pub mod offlinetube;
mod people;
mod proof;
mod records;
mod rejection;
mod scopes;
mod split_query;

pub use self::added_parameter::{AddedParameter, InvalidParameter};
pub use self::authenticator::Authenticator;
pub use self::client_certificate::{
    ClientAuthorities, ClientCertificate, InvalidAuthorities, USER_NUMBER, UnreadableCertificate,
};
pub use self::credential::{Credential, PresentationError, Reads, presented};
pub use self::fingerprint::{Fingerprint, InvalidFingerprint};
pub use self::key_table::KeyTable;
pub use self::kind::{CredentialKind, CredentialKinds};
pub use self::link_book::{LinkBook, MadeLink, Maker};
pub use self::people::{MadeFor, NameUse, People, User, UserId};
pub use self::proof::{CountsTowards, KeyGrant, Proof};
pub use self::records::{KeyOrigin, KeyRecord, LinkRecord, MakerRecord};
pub use self::rejection::Rejection;
pub use self::scopes::{InvalidScope, Scopes};

/// The user behind a request, after a credential was verified.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    /// The user.
    pub user: UserName,
    /// Distinguishes the user from earlier users with the same name; `None` if there were none.
    pub generation: Option<UserId>,
    /// The role in which the user acts with this credential.
    pub role: Role,
    /// The scopes of the credential.
    pub scopes: Scopes,
    /// The recognised credential, which proves the identity for as long as it is valid.
    pub proof: Proof,
}

impl Identity {
    /// Returns the kind of credential that proved the identity.
    #[must_use]
    pub const fn kind(&self) -> CredentialKind {
        self.proof.kind()
    }

    /// Returns the id of the link that proved the identity; `None` for any other credential.
    #[must_use]
    pub fn link_id(&self) -> Option<&str> {
        match self.proof.counts_towards() {
            CountsTowards::Link(id) => Some(id),
            CountsTowards::User | CountsTowards::Credential(_) => None,
        }
    }

    /// Returns true if this user may act on the objects of `user`.
    #[must_use]
    pub fn may_act_for(&self, user: &UserName) -> bool {
        match self.role {
            Role::Admin => true,
            Role::User => self.user == *user,
        }
    }

    /// Returns true if this is the same user with the same permissions.
    fn is_as_good_as(&self, earlier: &Self) -> bool {
        let Self { user, generation, role, scopes, proof: _ } = self;
        *user == earlier.user && *generation == earlier.generation && *role == earlier.role && *scopes == earlier.scopes
    }
}
