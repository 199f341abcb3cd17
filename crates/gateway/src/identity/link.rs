//! Signed links: a URL whose query grants access to one target, in the name of one user, until it expires.
//!
//! The query contains `sp_user`, `sp_exp`, `sp_kid`, `sp_id` and `sp_sig`. The signature is HMAC-SHA256 over a domain label and the
//! length-prefixed application, target (the path and the rest of the query, in the normal form of `link/target.rs`), user, expiry,
//! key id and link id. A link is valid for GET and HEAD, and for no other method.

mod keys;
mod query;
mod target;
mod verification;

use sallyport_core::names::username::UserName;
use thiserror::Error;

pub use self::{
    keys::{LinkKeys, MalformedLinkKeys},
    query::{LinkQuery, MalformedLink, Namespace},
    target::without_empty_query,
};
use super::Fingerprint;

/// The claims of a link, which its signature covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkClaims<'a> {
    /// The application's name.
    pub app: &'a str,
    /// Path and query without the link's own parameters.
    pub target: &'a str,
    /// The user in whose name it acts.
    pub user: &'a str,
    /// The expiry, in Unix seconds.
    pub expires: i64,
    /// The link's id, by which it is revoked.
    pub id: &'a str,
}

/// The claims of a link with a valid signature, and the key that verified it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkGrant {
    /// The user in whose name it acts.
    pub user: UserName,
    /// The link's id.
    pub id: Box<str>,
    /// The expiry, in Unix seconds.
    pub expires: i64,
    key: Fingerprint,
}

/// Why a link is refused.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum LinkError {
    /// The signature does not match, or the link could never have been signed.
    #[error("the link's signature is wrong")]
    Forged,
    /// Parameters were added to an otherwise valid link, or its key was removed.
    #[error("parameters were added to the link, or its key was removed")]
    Altered,
    /// The link was valid but has expired.
    #[error("the link has expired")]
    Expired,
}

/// Parses a decimal number in canonical form: no sign, no leading zero.
pub(super) fn canonical_number(text: &str) -> Option<i64> {
    text.parse().ok().filter(|n: &i64| *n >= 0 && n.to_string() == text)
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
