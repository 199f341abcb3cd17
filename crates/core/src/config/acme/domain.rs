//! A domain that a certificate is issued for.

use std::{fmt, str::FromStr};

use thiserror::Error;

/// A domain that a certificate is issued for: lower-case letters, digits and hyphens, optionally with `*` as the first label.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Domain(String);

/// A text that is not such a domain.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0:?} is not a domain; write \"home.example.org\" or \"*.example.org\", and names in other scripts as xn--…")]
pub struct InvalidDomain(String);

impl FromStr for Domain {
    type Err = InvalidDomain;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let lower = text.to_ascii_lowercase();
        let name = lower.strip_prefix("*.").unwrap_or(&lower);
        let label = |label: &str| {
            let plain = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
            (1..=63).contains(&label.len()) && plain && !label.starts_with('-') && !label.ends_with('-')
        };
        // A numeric last label would make it an address (RFC 1123, section 2.1).
        let top = name.rsplit('.').next().is_some_and(|top| !top.bytes().all(|b| b.is_ascii_digit()));
        let whole = name.len() <= 253 && name.contains('.') && name.split('.').all(label) && top;
        if whole { Ok(Self(lower)) } else { Err(InvalidDomain(text.to_owned())) }
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Domain {
    /// Returns the domain as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the domain without a `*` as its first label.
    #[must_use]
    pub fn base(&self) -> &str {
        self.0.strip_prefix("*.").unwrap_or(&self.0)
    }

    /// Returns true if the first label is `*`.
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with("*.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_are_host_names_and_nothing_else() {
        for (text, name) in
            [("home.example.org", "home.example.org"), ("Home.Example.ORG", "home.example.org"), ("*.a.b", "*.a.b")]
        {
            assert_eq!(text.parse::<Domain>().unwrap().as_str(), name);
        }
        let long = format!("{}.org", "a".repeat(64));
        for text in [
            "",
            "localhost",
            ".",
            "a..b",
            "a.b.",
            "*",
            "*.",
            "*.*.b",
            "a.*.b",
            "192.0.2.1",
            "[::1]",
            "a_b.org",
            "ä.org",
            "-a.org",
            "a-.org",
            "a b.org",
            "../x.org",
            "a/b.org",
            &long,
        ] {
            assert_eq!(text.parse::<Domain>(), Err(InvalidDomain(text.to_owned())), "{text}");
        }
    }
}
