//! The owner of a task: a user, distinguished from earlier users with the same name.

use std::{fmt, str::FromStr};

use sallyport_core::names::username::{InvalidUserName, UserName};

/// Never part of a user name.
const SEPARATOR: char = '#';

/// A user: `ana`, or `ana#7` if another user had the name before.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Owner(String);

impl Owner {
    pub(crate) fn new(user: &UserName, generation: Option<i64>) -> Self {
        match generation {
            Some(number) => Self(format!("{user}{SEPARATOR}{number}")),
            None => Self(user.to_string()),
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Owner {
    type Err = InvalidUserName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, generation) = match text.split_once(SEPARATOR) {
            Some((name, number)) => (name, Some(number.parse().map_err(|_| InvalidUserName)?)),
            None => (text, None),
        };
        Ok(Self::new(&name.parse()?, generation))
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_parses_as_displayed_and_a_later_user_of_the_same_name_is_another_owner() {
        let ana = "ana".parse().unwrap();
        let [first, again] = [None, Some(7)].map(|generation| Owner::new(&ana, generation));
        assert_ne!(first, again);
        for owner in [first, again] {
            assert_eq!(owner.as_str().parse(), Ok(owner.clone()));
        }
        for text in ["", "#7", "ana#", "ana#x", "ana#7#8", "../x"] {
            assert_eq!(text.parse::<Owner>(), Err(InvalidUserName), "{text}");
        }
    }
}
