//! The name of a user: what an identity, a signed statement and an owner have in common.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A user's name: 1 to 64 of the characters `a-z A-Z 0-9 . _ @ -`, the first one a letter or a digit.
///
/// The alphabet is what can stand in a header, a log line, a path and a query without any escaping.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UserName(String);

/// A string that cannot be a user's name.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("a user name is 1 to 64 letters, digits and . _ @ -, and starts with a letter or a digit")]
pub struct InvalidUserName;

impl UserName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for UserName {
    type Err = InvalidUserName;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let ok = (1..=64).contains(&name.len())
            && name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._@-".contains(&b));
        if ok { Ok(Self(name.to_owned())) } else { Err(InvalidUserName) }
    }
}

impl TryFrom<String> for UserName {
    type Error = InvalidUserName;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        name.parse()
    }
}

impl From<UserName> for String {
    fn from(name: UserName) -> Self {
        name.0
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_break_out_of_a_header_or_a_path_are_refused() {
        for name in ["", ".", "..", "-x", "a b", "a/b", "a\nb", "a\"b", "é", &"x".repeat(65)] {
            assert_eq!(name.parse::<UserName>(), Err(InvalidUserName), "{name:?}");
        }
    }

    #[test]
    fn ordinary_names_and_mail_addresses_pass() {
        for name in ["a", "admin", "ana.maria_2", "ana@example.com", &"x".repeat(64)] {
            assert!(name.parse::<UserName>().is_ok(), "{name:?}");
        }
    }
}
