//! Why a credential is refused.

/// Why a presented credential is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// It does not verify, and may be a guess.
    Invalid,
    /// It is genuine but cannot be used here: it is revoked, not valid yet, meant for others or lacks a required claim.
    Unusable,
    /// The key, token or certificate has expired.
    Expired,
    /// Its user is unknown or was removed.
    UnknownUser,
    /// The signature of the link is wrong, and may be a guess.
    LinkForged,
    /// Parameters were added to the link, or the key that signed it was removed.
    LinkAltered,
    /// The link has expired or was revoked.
    LinkExpired,
}
