//! From a credential to an identity: API keys, tokens, signed links and client certificates, each verified in one file of
//! its own.

pub mod api_key;
mod authority;
mod client_certificate;
mod credential;
pub mod jwt;
pub mod link;
pub mod offlinetube;
mod scopes;

use std::sync::Arc;

use crate::username::UserName;

pub use authority::{Authority, KeyTable, Refusal, Standing};
pub use client_certificate::{
    ClientAuthorities, ClientCertificate, InvalidAuthorities, UnreadableCertificate, UserField,
};
pub use credential::{Credential, CredentialKind, CredentialKinds, PresentationError, presented};
pub use scopes::{InvalidScope, Scopes};

/// Who makes a request, after a credential was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The user.
    pub user: UserName,
    /// True when the user may act on everybody's objects.
    pub admin: bool,
    /// What the credential may be used for.
    pub scopes: Scopes,
    /// How it was proved.
    pub kind: CredentialKind,
    /// The id of the key, link or certificate; None where the credential has none.
    pub credential_id: Option<Box<str>>,
    /// The certificate, where it was proved by one.
    pub certificate: Option<Arc<ClientCertificate>>,
}
