//! Verifies links, and extends a verified one to another target.

use std::borrow::Cow;

use data_encoding::BASE64URL_NOPAD;
use hmac::Mac;

use super::{
    LinkClaims, LinkError, LinkGrant, LinkQuery, canonical_number,
    keys::{LinkKey, LinkKeys},
    target::normal_form,
};
use crate::identity::split_query::{Other, joined};

/// Up to this many extra parameters at the end of a link are treated as an addition rather than a guess.
const MAX_ADDED: usize = 8;

/// A presented link that is being verified.
struct Presented<'p> {
    key: &'p LinkKey,
    /// The claims, with the path alone as the target.
    claims: LinkClaims<'p>,
    others: &'p [Other<'p>],
    signature: Vec<u8>,
}

impl LinkKeys {
    /// Verifies a presented link to `path` of `app` at the time `now`.
    ///
    /// # Errors
    /// `Forged` and `Altered` take precedence over `Expired`, so only the holder of a genuine link learns that it has expired.
    pub fn verify(&self, app: &str, path: &str, link: &LinkQuery<'_>, now: i64) -> Result<LinkGrant, LinkError> {
        let grant = self.recognise(app, path, link)?;
        self.judge(&grant, now)?;
        Ok(grant)
    }

    /// Returns the claims of a presented link to `path` of `app` if its signature is valid, whether or not it has expired.
    pub fn recognise(&self, app: &str, path: &str, link: &LinkQuery<'_>) -> Result<LinkGrant, LinkError> {
        let presented = Presented::new(self, app, path, link)?;
        presented.signed_query()?;
        let Presented { key, claims, .. } = presented;
        let user = claims.user.parse().map_err(|_| LinkError::Forged)?;
        Ok(LinkGrant { user, id: claims.id.into(), expires: claims.expires, key: key.fingerprint })
    }

    /// Checks that a recognised link has not expired at `now`, and that its key is still there.
    pub fn judge(&self, link: &LinkGrant, now: i64) -> Result<(), LinkError> {
        let key_stands = self.all().any(|key| key.fingerprint == link.key);
        if now > link.expires || !key_stands { Err(LinkError::Expired) } else { Ok(()) }
    }

    /// Returns the part of the query, without the link's own parameters, that the signature covers: all of it, or all except the
    /// parameters that the route ignores.
    ///
    /// # Errors
    /// The signature covers neither.
    pub fn signed_query(&self, app: &str, path: &str, link: &LinkQuery<'_>) -> Result<String, LinkError> {
        Presented::new(self, app, path, link)?.signed_query()
    }

    /// Returns query parameters for another `target`, derived from the verified `link`: with the same user, expiry and id, so that it is
    /// revoked together with `link`.
    #[must_use]
    pub fn extend(&self, app: &str, link: &LinkQuery<'_>, target: &str) -> Option<String> {
        let expires = canonical_number(&link.expires)?;
        Some(self.sign(&LinkClaims { app, target, user: &link.user, expires, id: &link.id }))
    }
}

impl<'p> Presented<'p> {
    fn new(keys: &'p LinkKeys, app: &'p str, path: &'p str, link: &'p LinkQuery<'_>) -> Result<Self, LinkError> {
        let expires = canonical_number(&link.expires).ok_or(LinkError::Forged)?;
        let signature = BASE64URL_NOPAD.decode(link.signature.as_bytes()).map_err(|_| LinkError::Forged)?;
        let key = keys.all().find(|key| *key.id == *link.kid).ok_or(LinkError::Altered)?;
        let claims = LinkClaims { app, target: path, user: &link.user, expires, id: &link.id };
        Ok(Self { key, claims, others: &link.others, signature })
    }

    fn signed_query(&self) -> Result<String, LinkError> {
        let all = joined(self.others);
        if self.covers(&all) {
            return Ok(all);
        }
        let kept = joined(self.others.iter().filter(|other| !other.ignored));
        if self.covers(&kept) {
            return Ok(kept);
        }
        // A guess has no signature that covers part of the query either.
        let without = |added| joined(self.others.get(..self.others.len().saturating_sub(added)).unwrap_or_default());
        let added = (1..=MAX_ADDED.min(self.others.len())).any(|added| self.covers(&without(added)));
        Err(if added { LinkError::Altered } else { LinkError::Forged })
    }

    /// Returns true if the signature covers path and `query`, in normal form or, as older versions signed them, as spelled in the request.
    fn covers(&self, query: &str) -> bool {
        let path = self.claims.target;
        let target = if query.is_empty() { Cow::Borrowed(path) } else { format!("{path}?{query}").into() };
        let fits = |target: &str| {
            let claims = LinkClaims { target, ..self.claims };
            self.key.mac(&claims).verify_slice(&self.signature).is_ok()
        };
        let normal = normal_form(&target);
        fits(&normal) || (normal != target && fits(&target))
    }
}
