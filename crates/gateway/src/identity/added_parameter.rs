//! Query parameters that others add to URLs, such as `fbclid`, which a route may ignore in links.

use std::str::FromStr;

use thiserror::Error;

/// A query parameter that others add to URLs: a name, or a prefix such as `utm_*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddedParameter {
    /// The parameter with this name.
    Named(Box<str>),
    /// All parameters with this prefix.
    Beginning(Box<str>),
}

/// A text that does not name such a parameter.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0:?} is not the name of a parameter; write a name such as \"fbclid\", or a prefix such as \"utm_*\"")]
pub struct InvalidParameter(String);

impl FromStr for AddedParameter {
    type Err = InvalidParameter;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, parameter) = match text.strip_suffix('*') {
            Some(beginning) => (beginning, Self::Beginning(beginning.into())),
            None => (text, Self::Named(text.into())),
        };
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
        let ours = name.starts_with("sp_") || (text.ends_with('*') && "sp_".starts_with(name));
        if !name.is_empty() && name.bytes().all(plain) && !ours {
            Ok(parameter)
        } else {
            Err(InvalidParameter(text.to_owned()))
        }
    }
}

impl AddedParameter {
    /// Returns true if this `name=value` pair is the parameter.
    pub(super) fn matches(&self, pair: &str) -> bool {
        let name = pair.split('=').next().unwrap_or(pair);
        match self {
            Self::Named(named) => **named == *name,
            Self::Beginning(beginning) => name.starts_with(&**beginning),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn added_parameters_have_valid_names_that_are_never_the_gateways() {
        for text in ["fbclid", "utm_*", "_ga", "mc.cid", "s*"] {
            assert_eq!(text.parse::<AddedParameter>().is_ok(), text != "s*", "{text}");
        }
        for text in ["", "*", "sp_sig", "sp_*", "sp*", "a*b", "a b", "a=b", "a%20", "é"] {
            assert!(text.parse::<AddedParameter>().is_err(), "{text}");
        }
    }
}
