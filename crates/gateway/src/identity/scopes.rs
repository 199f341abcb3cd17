//! Scopes: what a credential may be used for.

use std::{fmt, slice, str::FromStr};

use sallyport_core::names::role::Role;
use serde_json::Value;
use thiserror::Error;

/// A set of scopes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scopes {
    /// `*`: everything that the user may do.
    All,
    /// Only these; can be empty.
    Only(Box<[Box<str>]>),
}

/// A word that is not a scope.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0:?} is not a scope; use 1 to 64 characters of a-z 0-9 : . _ - or a single *")]
pub struct InvalidScope(String);

impl Scopes {
    /// Returns true if `scope` is in the set.
    #[must_use]
    pub fn contains(&self, scope: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(scopes) => scopes.iter().any(|s| **s == *scope),
        }
    }

    /// Returns true if all of `wanted` are in the set.
    #[must_use]
    pub fn contain_all(&self, wanted: &[Box<str>]) -> bool {
        wanted.iter().all(|scope| self.contains(scope))
    }

    /// Returns the role in which a user of `role` acts with a credential that has these scopes: an administrator acts as one only with the
    /// scope `admin`.
    #[must_use]
    pub fn limit(&self, role: Role) -> Role {
        match role {
            Role::Admin if self.contains("admin") => Role::Admin,
            Role::Admin | Role::User => Role::User,
        }
    }

    /// Reads the scopes of a token from a string or a list of strings. Issuers name scopes for many services, so words that are not
    /// scopes here are ignored.
    #[must_use]
    pub fn of_claim(claim: &Value) -> Self {
        let texts = match claim {
            Value::String(_) => slice::from_ref(claim),
            Value::Array(values) => values,
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => &[],
        };
        let words = || texts.iter().filter_map(Value::as_str).flat_map(str::split_ascii_whitespace);
        if words().any(|word| word == "*") {
            return Self::All;
        }
        Self::Only(words().filter(|word| is_scope(word)).map(Into::into).collect())
    }
}

impl FromStr for Scopes {
    type Err = InvalidScope;

    /// Parses scopes separated by spaces, as in RFC 6749, section 3.3.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        if words.contains(&"*") {
            return Ok(Self::All);
        }
        words
            .into_iter()
            .map(|w| if is_scope(w) { Ok(w.into()) } else { Err(InvalidScope(w.into())) })
            .collect::<Result<_, _>>()
            .map(Self::Only)
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::Only(scopes) => f.write_str(&scopes.join(" ")),
        }
    }
}

/// Serialises scopes for serde in their usual text form.
pub(super) mod as_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use super::Scopes;

    pub(in crate::identity) fn serialize<S: Serializer>(scopes: &Scopes, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(scopes)
    }

    pub(in crate::identity) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Scopes, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

fn is_scope(word: &str) -> bool {
    word.len() <= 64 && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b":._-".contains(&b))
}
