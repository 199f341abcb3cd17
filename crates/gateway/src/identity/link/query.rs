//! The parameters of a link in a query.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use thiserror::Error;

use crate::identity::{
    AddedParameter,
    split_query::{Other, Presence, SplitQuery, split_query},
};

/// The parameters of a link, the signature last.
const OWN: [&str; 5] = ["sp_user", "sp_exp", "sp_kid", "sp_id", "sp_sig"];

/// The link parameters of a query, as presented, and the other parameters.
#[derive(Debug, PartialEq, Eq)]
pub struct LinkQuery<'a> {
    pub(super) user: Cow<'a, str>,
    pub(super) expires: Cow<'a, str>,
    pub(super) kid: Cow<'a, str>,
    pub(super) id: Cow<'a, str>,
    pub(super) signature: Cow<'a, str>,
    /// The other parameters, in order.
    pub(super) others: Vec<Other<'a>>,
}

/// The owner of parameters whose names begin with `sp_`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Namespace {
    /// The application, unless they include a signature: the route accepts no links.
    #[default]
    Application,
    /// The gateway, if at least one of the link parameters is present.
    Gateway,
}

/// Parameters that are repeated, missing or unknown.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("the link parameters are repeated, missing or unknown")]
pub struct MalformedLink;

impl<'a> LinkQuery<'a> {
    /// Finds the link parameters in `query`; `None` if it contains no link by the rules of `namespace`. Of the other parameters, those in
    /// `ignored` count only if they were signed.
    pub fn find(
        query: &'a str,
        namespace: Namespace,
        ignored: &[AddedParameter],
    ) -> Result<Option<Self>, MalformedLink> {
        if !query.contains("sp_") {
            return Ok(None);
        }
        let SplitQuery { own, others } = split_query(query, OWN, ignored);
        let presented = match namespace {
            Namespace::Application => matches!(own, [.., Presence::Once(_) | Presence::Repeated]),
            Namespace::Gateway => own.iter().any(|presence| *presence != Presence::Absent),
        };
        if !presented {
            return Ok(None);
        }
        let unknown = others.iter().any(|other| other.text.starts_with("sp_"));
        match own.map(|presence| presence.once().map(decoded)) {
            [Some(user), Some(expires), Some(kid), Some(id), Some(signature)] if !unknown => {
                Ok(Some(Self { user, expires, kid, id, signature, others }))
            }
            _ => Err(MalformedLink),
        }
    }
}

/// Decodes the value of a parameter, in which a client may have escaped characters such as the `@` of a user name.
fn decoded(value: &str) -> Cow<'_, str> {
    percent_decode_str(value).decode_utf8_lossy()
}
