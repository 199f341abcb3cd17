//! Roles: what users may do with the objects of other users.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A role. The command line, the stored users, identities and signed statements use the same two names: `admin` and `user`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Access to the objects of all users.
    Admin,
    /// Access to the user's own objects.
    User,
}

/// The error for a string that is not the name of a role.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("a role is either \"admin\" or \"user\"")]
pub struct InvalidRole;

impl Role {
    /// Every role.
    pub const ALL: [Self; 2] = [Self::Admin, Self::User];

    /// Returns the role's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::User => "user",
        }
    }
}

impl FromStr for Role {
    type Err = InvalidRole;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|role| role.name() == name).ok_or(InvalidRole)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_has_one_name_everywhere() {
        for role in Role::ALL {
            assert_eq!(role.name().parse(), Ok(role));
            assert_eq!(serde_json::to_value(role).unwrap(), role.name());
            assert_eq!(role.to_string(), role.name());
        }
    }

    #[test]
    fn a_name_in_another_spelling_is_no_role() {
        for name in ["", "Admin", "ADMIN", "admin ", "root", "administrator"] {
            assert_eq!(name.parse::<Role>(), Err(InvalidRole), "{name:?}");
        }
    }
}
