//! The DNS record of a challenge (RFC 8555, section 8.4).

use sallyport_core::config::acme::Domain;

/// One TXT record.
pub(super) struct ChallengeRecord {
    /// Its full name, with a dot at the end.
    pub(super) name: String,
    /// Its text.
    pub(super) value: String,
}

/// A change of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Add,
    Remove,
}

impl ChallengeRecord {
    pub(super) fn new(domain: &Domain, value: String) -> Self {
        Self { name: format!("_acme-challenge.{}.", domain.base()), value }
    }
}
