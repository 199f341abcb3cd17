//! What is taken back: stored whatever the disk says, as long as there is a reserve.

use serde::{Deserialize, Serialize};

use super::{Store, StoreError};
use crate::{limits::Ban, username::UserName};

/// One thing that is taken back from somebody.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Withdrawal {
    /// An API key, by its id.
    Key(String),
    /// A link, by its id.
    Link(String),
    /// A user, with every key and link of theirs.
    User {
        /// Their name.
        name: UserName,
        /// When, in Unix seconds: what is older does not hold for whoever has the name next.
        at: i64,
    },
    /// The way in, from an address.
    Ban(Ban),
}

impl Store {
    /// Takes something back; false where there is no such thing. A full disk gives up the reserve for it.
    ///
    /// # Errors
    /// It cannot be stored even so.
    pub fn withdraw(&self, withdrawal: &Withdrawal) -> Result<bool, StoreError> {
        self.with_reserve(|| match withdrawal {
            Withdrawal::Key(id) => self.remove_key(id),
            Withdrawal::Link(id) => self.revoke_link(id),
            Withdrawal::User { name, at } => self.remove_user(name, *at),
            Withdrawal::Ban(ban) => self.put_ban(ban).map(|()| true),
        })
    }

    /// Whether there is something to take back.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn has(&self, withdrawal: &Withdrawal) -> Result<bool, StoreError> {
        Ok(match withdrawal {
            Withdrawal::Key(id) => self.keys()?.iter().any(|key| key.id == *id),
            Withdrawal::Link(id) => self.links()?.iter().any(|link| link.id == *id),
            Withdrawal::User { name, .. } => self.user(name)?.is_some(),
            Withdrawal::Ban(_) => true,
        })
    }
}
