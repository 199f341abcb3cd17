//! Revocations, which are stored even if the disk is full, as long as there is a reserve.

use sallyport_core::names::username::UserName;
use serde::{Deserialize, Serialize};

use super::{Store, StoreError};
use crate::limits::Ban;

/// One revocation.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Withdrawal {
    /// Of an API key, by its ID.
    Key(String),
    /// Of a link, by its ID.
    Link(String),
    /// Of a user, with all of their keys and links.
    User {
        /// Their name.
        name: UserName,
        /// When, in Unix seconds: credentials from before this time are not valid for a later user of the same name.
        at: i64,
    },
    /// Of access from an address.
    Ban(Ban),
}

impl Store {
    /// Revokes something; returns false if there is no such thing. If the disk is full, the reserve is released for it.
    ///
    /// # Errors
    /// Fails if it cannot be stored even then.
    pub fn withdraw(&self, withdrawal: &Withdrawal) -> Result<bool, StoreError> {
        self.with_reserve(|| match withdrawal {
            Withdrawal::Key(id) => self.remove_key(id),
            Withdrawal::Link(id) => self.revoke_link(id),
            Withdrawal::User { name, at } => self.remove_user(name, *at),
            Withdrawal::Ban(ban) => self.put_ban(ban).map(|()| true),
        })
    }

    /// Whether there is something to revoke.
    ///
    /// # Errors
    /// Fails if the database cannot be read.
    pub fn has(&self, withdrawal: &Withdrawal) -> Result<bool, StoreError> {
        Ok(match withdrawal {
            Withdrawal::Key(id) => self.keys()?.iter().any(|key| key.id == *id),
            Withdrawal::Link(id) => self.links()?.iter().any(|link| link.id == *id),
            Withdrawal::User { name, .. } => self.user(name)?.is_some(),
            Withdrawal::Ban(_) => true,
        })
    }
}
