//! Known users by name, and the names of removed users.

use std::collections::HashMap;

use sallyport_core::names::{role::Role, username::UserName};
use serde::{Deserialize, Serialize};

use super::Rejection;

/// The id of a user. It is never reused, not even for a new user with the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UserId(pub i64);

/// Whether an earlier user had the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameUse {
    /// No earlier user had it.
    First,
    /// An earlier user had it and was removed.
    Again,
}

/// A user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// The id.
    pub id: UserId,
    /// What the user may do with the objects of other users.
    pub role: Role,
    /// Whether an earlier user had the same name.
    pub name_use: NameUse,
}

/// All known users.
#[derive(Debug, Default)]
pub struct People {
    /// The users who were added.
    pub users: HashMap<UserName, User>,
    /// When the last user with this name was removed, in Unix seconds.
    pub removed: HashMap<UserName, i64>,
}

/// What a credential that names its user says about which user of that name is meant.
#[derive(Clone, Copy, Debug, Default)]
pub struct MadeFor {
    /// The user's id, if the credential carries it.
    pub id: Option<UserId>,
    /// When the credential was created, in Unix seconds, if it says so.
    pub at: Option<i64>,
}

impl User {
    /// Returns the id that distinguishes the user from earlier users with the same name; `None` if there were none.
    #[must_use]
    pub fn generation(&self) -> Option<UserId> {
        match self.name_use {
            NameUse::First => None,
            NameUse::Again => Some(self.id),
        }
    }
}

impl People {
    /// Resolves the `name` in a credential to a user. `None` if no user of that name was ever added; a token's issuer may then vouch for the name.
    ///
    /// # Errors
    /// The user was removed, or the credential may belong to an earlier user of that name.
    pub fn meant(&self, name: &UserName, made: MadeFor) -> Result<Option<&User>, Rejection> {
        let user = self.users.get(name);
        let Some(removed) = self.removed.get(name) else { return Ok(user) };
        let user = user.ok_or(Rejection::UnknownUser)?;
        let is_theirs = match made.id {
            Some(id) => id == user.id,
            None => made.at.is_some_and(|at| at > *removed),
        };
        if is_theirs { Ok(Some(user)) } else { Err(Rejection::UnknownUser) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> UserName {
        text.parse().unwrap()
    }

    fn people() -> People {
        let user = |id, name_use| User { id: UserId(id), role: Role::User, name_use };
        let users = [(name("ana"), user(7, NameUse::Again)), (name("ben"), user(2, NameUse::First))];
        People { users: users.into(), removed: [(name("ana"), 100), (name("eve"), 100)].into() }
    }

    #[test]
    fn a_reused_name_is_accepted_only_from_credentials_created_since() {
        let people = people();
        let meant = |id: Option<i64>, at| people.meant(&name("ana"), MadeFor { id: id.map(UserId), at }).is_ok();
        assert!(meant(Some(7), None) && meant(Some(7), Some(1)) && meant(None, Some(101)));
        assert!(!meant(Some(1), Some(200)) && !meant(None, Some(100)) && !meant(None, None));
    }

    #[test]
    fn a_removed_user_is_unknown_and_a_user_never_added_may_be_vouched_for() {
        let people = people();
        let meant = |who| people.meant(&name(who), MadeFor { id: None, at: Some(200) });
        assert_eq!(meant("eve"), Err(Rejection::UnknownUser));
        assert_eq!(meant("zoe"), Ok(None));
        assert_eq!(people.meant(&name("ben"), MadeFor::default()).unwrap().unwrap().id, UserId(2));
    }
}
