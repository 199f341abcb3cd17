//! Splits a query into the parameters of a link and the other parameters.

use super::AddedParameter;

/// A query, split.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SplitQuery<'a, const N: usize> {
    /// The link's parameters, in the order of the names that were looked for.
    pub own: [Presence<'a>; N],
    /// The other parameters, in the order of the query.
    pub others: Vec<Other<'a>>,
}

/// How often a parameter of a link is in the query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence<'a> {
    Absent,
    /// Once, with this value, which may contain escapes. A parameter without `=` has an empty value.
    Once(&'a str),
    Repeated,
}

/// A parameter that is not one of the link's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Other<'a> {
    /// The name and the value, as in the query.
    pub text: &'a str,
    /// Whether the route ignores it unless it was signed.
    pub ignored: bool,
}

/// Splits `query` into the parameters with the names `own` and the others, of which the route ignores those in `ignored`.
///
/// Names are compared as spelled: a name with an escape in it is never one of the link's own.
pub(super) fn split_query<'a, const N: usize>(
    query: &'a str,
    own: [&str; N],
    ignored: &[AddedParameter],
) -> SplitQuery<'a, N> {
    let mut split = SplitQuery { own: [Presence::Absent; N], others: Vec::new() };
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        match own.iter().zip(&mut split.own).find(|(own, _)| **own == name) {
            Some((_, presence)) => presence.add(value),
            None => split.others.push(Other { text: pair, ignored: ignored.iter().any(|added| added.matches(pair)) }),
        }
    }
    split
}

/// Joins parameters to a query.
pub(super) fn joined<'o>(others: impl IntoIterator<Item = &'o Other<'o>>) -> String {
    others.into_iter().map(|other| other.text).collect::<Vec<_>>().join("&")
}

impl<'a> Presence<'a> {
    /// Returns the value of a parameter that is in the query once.
    pub(super) fn once(self) -> Option<&'a str> {
        match self {
            Self::Once(value) => Some(value),
            Self::Absent | Self::Repeated => None,
        }
    }

    fn add(&mut self, value: &'a str) {
        *self = match self {
            Self::Absent => Self::Once(value),
            Self::Once(_) | Self::Repeated => Self::Repeated,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::{
        Presence::{Absent, Once, Repeated},
        *,
    };

    #[test]
    fn a_query_is_split_into_the_links_parameters_and_the_others_in_order() {
        for (query, own, others) in [
            ("", [Absent, Absent], &[""][..]),
            ("a=1", [Once("1"), Absent], &[]),
            ("b=2&a=1", [Once("1"), Once("2")], &[]),
            ("a", [Once(""), Absent], &[]),
            ("a=", [Once(""), Absent], &[]),
            ("a=1=2", [Once("1=2"), Absent], &[]),
            ("a=%31", [Once("%31"), Absent], &[]),
            ("a=1&a=1", [Repeated, Absent], &[]),
            ("a&b=2&a=&a=1", [Repeated, Once("2")], &[]),
            ("y=2&a=1&x&&y=2", [Once("1"), Absent], &["y=2", "x", "", "y=2"]),
            ("A=1&%61=1&a[]=1&=a&aa=1", [Absent, Absent], &["A=1", "%61=1", "a[]=1", "=a", "aa=1"]),
        ] {
            let split = split_query(query, ["a", "b"], &[]);
            assert_eq!(split.own, own, "{query}");
            assert_eq!(split.others.iter().map(|other| other.text).collect::<Vec<_>>(), others, "{query}");
            assert_eq!(joined(&split.others), others.join("&"), "{query}");
        }
    }

    #[test]
    fn a_parameter_that_the_route_ignores_is_marked_unless_it_is_the_links_own() {
        let ignored = ["a", "fbclid", "utm_*"].map(|text| text.parse().unwrap());
        let split = split_query("a=1&fbclid=x&utm_id&fbclids=x&x=utm_", ["a"], &ignored);
        assert_eq!(split.own, [Once("1")]);
        let marks: Vec<_> = split.others.iter().map(|other| (other.text, other.ignored)).collect();
        assert_eq!(marks, [("fbclid=x", true), ("utm_id", true), ("fbclids=x", false), ("x=utm_", false)]);
    }
}
