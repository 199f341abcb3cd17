//! Keys and links as they are stored: what identities are found by.

use std::sync::Arc;

use sallyport_core::names::{role::Role, username::UserName};

use super::UserId;

/// The origin of a key's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyOrigin {
    /// Generated here: 256 random bits after its ID.
    Made,
    /// Imported; clients already had it.
    Imported,
}

/// A stored key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    /// The public ID, part of the key's text.
    pub id: String,
    /// SHA-256 of the secret part, or of an imported key's text.
    pub hash: [u8; 32],
    /// The origin of its text.
    pub origin: KeyOrigin,
    /// The owner of the key.
    pub user: UserName,
    /// Distinguishes the owner from earlier users of the same name; None if there were none.
    pub generation: Option<UserId>,
    /// The role of the owner.
    pub role: Role,
    /// The scopes, separated by spaces; `*` for all.
    pub scopes: String,
    /// The owner's note.
    pub note: String,
    /// When it was created, in Unix seconds.
    pub created: i64,
    /// When it expires.
    pub expires: Option<i64>,
    /// When it was last used, to the minute.
    pub last_used: Option<i64>,
}

/// A stored link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkRecord {
    /// Its ID, part of the URL.
    pub id: String,
    /// The application that serves it.
    pub app: String,
    /// The path and query that it opens, for display. The signature covers them in full; this may be truncated.
    pub target: String,
    /// The user it acts for.
    pub user: UserName,
    /// The ID of that user; None for a user who is not in the list.
    pub owner: Option<UserId>,
    /// The credential that created it; None for a command on this machine.
    pub maker: Option<Arc<MakerRecord>>,
    /// When it was created, in Unix seconds.
    pub created: i64,
    /// When it expires.
    pub expires: i64,
    /// Whether it was revoked.
    pub revoked: bool,
}

/// A credential that created links.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MakerRecord {
    /// The name of the credential's kind.
    pub kind: String,
    /// Its ID; empty if it has none.
    pub name: String,
    /// What must remain valid for the credential to be valid.
    pub proof: String,
}
