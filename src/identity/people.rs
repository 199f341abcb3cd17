//! Who is known here: users by name, and the names that were taken from somebody.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::Refusal;
use crate::username::UserName;

/// The number of a user. No other user ever gets it, whatever their name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UserId(pub i64);

/// What a user may do to what belongs to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Everything.
    Admin,
    /// Nothing.
    User,
}

/// Whether anybody had a user's name before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameUse {
    /// Nobody had.
    First,
    /// Somebody had, and was removed.
    Again,
}

/// A user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// Which one.
    pub id: UserId,
    /// What they may do.
    pub standing: Standing,
    /// Whether anybody had their name before.
    pub name_use: NameUse,
}

/// Everybody who is known.
#[derive(Debug, Default)]
pub struct People {
    /// Those who were added.
    pub users: HashMap<UserName, User>,
    /// When a name was last taken from somebody, in Unix seconds.
    pub removed: HashMap<UserName, i64>,
}

/// What a credential that knows its user by name says about which one that is.
#[derive(Clone, Copy, Debug, Default)]
pub struct MadeFor {
    /// The user's number, where it has that.
    pub id: Option<UserId>,
    /// When it was made, in Unix seconds, where it has that.
    pub at: Option<i64>,
}

impl User {
    /// What tells the user from those who had the name before; None where nobody had.
    #[must_use]
    pub fn generation(&self) -> Option<UserId> {
        match self.name_use {
            NameUse::First => None,
            NameUse::Again => Some(self.id),
        }
    }
}

impl People {
    /// The user whom a credential means by `name`; None where such a user was never added, for whom others may vouch.
    ///
    /// # Errors
    /// The user was removed, or the credential may be one of whoever had the name before.
    pub fn meant(&self, name: &UserName, made: MadeFor) -> Result<Option<&User>, Refusal> {
        let user = self.users.get(name);
        let Some(removed) = self.removed.get(name) else { return Ok(user) };
        let user = user.ok_or(Refusal::UnknownUser)?;
        let is_theirs = match made.id {
            Some(id) => id == user.id,
            None => made.at.is_some_and(|at| at > *removed),
        };
        if is_theirs { Ok(Some(user)) } else { Err(Refusal::UnknownUser) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> UserName {
        text.parse().unwrap()
    }

    fn people() -> People {
        let user = |id, name_use| User { id: UserId(id), standing: Standing::User, name_use };
        let users = [(name("ana"), user(7, NameUse::Again)), (name("ben"), user(2, NameUse::First))];
        People { users: users.into(), removed: [(name("ana"), 100), (name("eve"), 100)].into() }
    }

    #[test]
    fn a_name_that_somebody_had_before_is_believed_only_of_what_was_made_since() {
        let people = people();
        let meant = |id: Option<i64>, at| people.meant(&name("ana"), MadeFor { id: id.map(UserId), at }).is_ok();
        assert!(meant(Some(7), None) && meant(Some(7), Some(1)) && meant(None, Some(101)));
        assert!(!meant(Some(1), Some(200)) && !meant(None, Some(100)) && !meant(None, None));
    }

    #[test]
    fn who_was_removed_is_nobody_and_who_was_never_added_may_be_vouched_for() {
        let people = people();
        let meant = |who| people.meant(&name(who), MadeFor { id: None, at: Some(200) });
        assert_eq!(meant("eve"), Err(Refusal::UnknownUser));
        assert_eq!(meant("zoe"), Ok(None));
        assert_eq!(people.meant(&name("ben"), MadeFor::default()).unwrap().unwrap().id, UserId(2));
    }
}
