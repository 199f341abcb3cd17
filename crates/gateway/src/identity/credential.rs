//! Extracts the credential that a request presents, before it is verified.

use std::sync::Arc;

use data_encoding::BASE64;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use thiserror::Error;

use super::{
    AddedParameter, ClientCertificate, api_key,
    kind::{CredentialKind, CredentialKinds},
    link::{LinkQuery, Namespace},
    offlinetube::OfflineTubeQuery,
};

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// A credential, as presented.
#[derive(Debug)]
pub enum Credential<'a> {
    /// `X-API-Key`, `Authorization: Bearer sp_…`, or Basic with the key as password.
    ApiKey(std::borrow::Cow<'a, str>),
    /// `Authorization: Bearer …`.
    Jwt(&'a str),
    /// `sp_…` in the query.
    Link(LinkQuery<'a>),
    /// `expires`, `signature` and `user` in the query, if the route accepts them.
    OfflineTubeLink(OfflineTubeQuery<'a>),
    /// The client certificate of the connection, if the request itself presents nothing.
    ClientCertificate(&'a Arc<ClientCertificate>),
}

/// Where a route reads credentials from.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reads<'r> {
    /// The accepted kinds. OfflineTube's link parameters have common names, so only routes that accept such links look for them;
    /// parameters that begin with `sp_` belong to the application on routes that accept no links.
    pub kinds: CredentialKinds,
    /// Headers that are left to the application.
    pub app_headers: &'r [HeaderName],
    /// Parameters that others may add to a link.
    pub ignored: &'r [AddedParameter],
}

/// A presented credential that cannot be verified.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PresentationError {
    /// More than one explicit credential, so it is unclear which one is meant.
    #[error("two credentials")]
    Two,
    /// An `Authorization` header with an unknown scheme or a malformed value.
    #[error("an unreadable credential")]
    Unreadable,
    /// Link parameters that are repeated, missing or malformed.
    #[error("an unreadable link")]
    UnreadableLink,
}

impl Credential<'_> {
    /// Returns the kind of the credential.
    #[must_use]
    pub const fn kind(&self) -> CredentialKind {
        match self {
            Self::ApiKey(_) => CredentialKind::ApiKey,
            Self::Jwt(_) => CredentialKind::Jwt,
            Self::Link(_) => CredentialKind::Link,
            Self::OfflineTubeLink(_) => CredentialKind::OfflineTubeLink,
            Self::ClientCertificate(_) => CredentialKind::ClientCertificate,
        }
    }
}

/// Returns the explicit credential of a request, or `None` if there is none.
///
/// # Errors
/// There are two credentials, or one that cannot be read; it never falls through silently to another.
pub fn presented<'a>(
    headers: &'a HeaderMap,
    query: Option<&'a str>,
    reads: Reads<'_>,
) -> Result<Option<Credential<'a>>, PresentationError> {
    let mut found = None;
    let mut add = |credential| match found.replace(credential) {
        Some(_) => Err(PresentationError::Two),
        None => Ok(()),
    };
    for value in values(headers, &X_API_KEY, reads.app_headers) {
        add(Credential::ApiKey(text(value)?.into()))?;
    }
    for value in values(headers, &header::AUTHORIZATION, reads.app_headers) {
        add(authorization(text(value)?)?)?;
    }
    if let Some(query) = query {
        if let Some(link) = reads.link(query)? {
            add(Credential::Link(link))?;
        }
        if let Some(link) = reads.offlinetube_link(query)? {
            add(Credential::OfflineTubeLink(link))?;
        }
    }
    Ok(found)
}

impl Reads<'_> {
    fn link<'a>(&self, query: &'a str) -> Result<Option<LinkQuery<'a>>, PresentationError> {
        let ours = self.kinds.contains(CredentialKind::Link);
        let namespace = if ours { Namespace::Gateway } else { Namespace::Application };
        LinkQuery::find(query, namespace, self.ignored).map_err(|_| PresentationError::UnreadableLink)
    }

    fn offlinetube_link<'a>(&self, query: &'a str) -> Result<Option<OfflineTubeQuery<'a>>, PresentationError> {
        if !self.kinds.contains(CredentialKind::OfflineTubeLink) {
            return Ok(None);
        }
        OfflineTubeQuery::find(query, self.ignored).map_err(|_| PresentationError::UnreadableLink)
    }
}

fn values<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
    app_headers: &[HeaderName],
) -> impl Iterator<Item = &'a HeaderValue> {
    let ours = !app_headers.contains(name);
    headers.get_all(name).into_iter().filter(move |_| ours)
}

fn authorization(value: &str) -> Result<Credential<'_>, PresentationError> {
    let (scheme, rest) = value.split_once(' ').ok_or(PresentationError::Unreadable)?;
    let rest = rest.trim_matches(' ');
    if scheme.eq_ignore_ascii_case("bearer") {
        return Ok(if rest.starts_with(api_key::PREFIX) {
            Credential::ApiKey(rest.into())
        } else {
            Credential::Jwt(rest)
        });
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(PresentationError::Unreadable);
    }
    let pair = BASE64.decode(rest.as_bytes()).ok().and_then(|b| String::from_utf8(b).ok());
    let pair = pair.ok_or(PresentationError::Unreadable)?;
    let (_, password) = pair.split_once(':').ok_or(PresentationError::Unreadable)?;
    Ok(Credential::ApiKey(password.to_owned().into()))
}

fn text(value: &HeaderValue) -> Result<&str, PresentationError> {
    value.to_str().map_err(|_| PresentationError::Unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(
        headers: &[(&'static str, &str)],
        query: Option<&'static str>,
    ) -> Result<Option<CredentialKind>, PresentationError> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        presented(&map, query, Reads::default()).map(|c| c.map(|c| c.kind()))
    }

    #[test]
    fn every_way_to_send_a_credential_is_found() {
        use CredentialKind::{ApiKey, Jwt};
        assert_eq!(find(&[], None), Ok(None));
        assert_eq!(find(&[("x-api-key", "sp_x")], None), Ok(Some(ApiKey)));
        assert_eq!(find(&[("authorization", "Bearer sp_x")], None), Ok(Some(ApiKey)));
        assert_eq!(find(&[("authorization", "bearer a.b.c")], None), Ok(Some(Jwt)));
        assert_eq!(find(&[("authorization", "Basic eDpzcF94")], None), Ok(Some(ApiKey)));
    }

    #[test]
    fn two_credentials_are_refused_even_when_they_are_the_same() {
        assert_eq!(find(&[("x-api-key", "a"), ("x-api-key", "a")], None), Err(PresentationError::Two));
        assert_eq!(find(&[("x-api-key", "a"), ("authorization", "Bearer b")], None), Err(PresentationError::Two));
        assert_eq!(
            find(&[("authorization", "Bearer a"), ("authorization", "Bearer b")], None),
            Err(PresentationError::Two)
        );
        let link = "sp_user=a&sp_exp=1&sp_kid=k&sp_id=i&sp_sig=AAAA";
        assert_eq!(find(&[("x-api-key", "a")], Some(link)), Err(PresentationError::Two));
    }

    #[test]
    fn an_unknown_scheme_is_an_invalid_credential_rather_than_none() {
        for value in ["Digest x", "Bearer", "Basic !", "Basic eA==", "xyz"] {
            assert_eq!(find(&[("authorization", value)], None), Err(PresentationError::Unreadable), "{value}");
        }
    }
}
