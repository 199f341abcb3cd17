//! Signed links: one file for one user until one moment, in the query of its URL.
//!
//! `sp_user`, `sp_exp`, `sp_kid`, `sp_id` and `sp_sig` stand in the query; the signature is HMAC-SHA256 over a domain
//! label and the length-prefixed application, target (path and whatever else is in the query), user, expiry, key id
//! and link id. GET and HEAD are one thing to it; no other method is.

use data_encoding::BASE64URL_NOPAD;
use hmac::{Hmac, Mac};
use secrecy::{ExposeSecret, SecretBox};
use sha2::Sha256;
use thiserror::Error;

use super::Fingerprint;
use crate::{mac::hmac_sha256, username::UserName};

const DOMAIN: &[u8] = b"sallyport link v1\0";

/// What a link says, and what its signature covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkClaims<'a> {
    /// The application's name.
    pub app: &'a str,
    /// Path and query without the link's own parameters.
    pub target: &'a str,
    /// In whose name it acts.
    pub user: &'a str,
    /// Until when, in Unix seconds.
    pub expires: i64,
    /// The link's id, by which it is taken back.
    pub id: &'a str,
}

/// The link parameters of a query, as presented, and the rest of it.
#[derive(Debug, PartialEq, Eq)]
pub struct LinkQuery<'a> {
    user: &'a str,
    expires: &'a str,
    kid: &'a str,
    id: &'a str,
    signature: &'a str,
    /// The query without the link's parameters; empty for none.
    pub rest: String,
}

/// A link whose signature was right: what it says, and under which key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkGrant {
    /// In whose name it acts.
    pub user: UserName,
    /// The link's id.
    pub id: Box<str>,
    /// Until when, in Unix seconds.
    pub expires: i64,
    key: Fingerprint,
}

/// The keys that sign links: the first one signs, all verify, so that a new key can take over while old links live.
pub struct LinkKeys(Vec<LinkKey>);

struct LinkKey {
    id: String,
    secret: SecretBox<[u8]>,
    fingerprint: Fingerprint,
}

/// Parameters that are repeated, missing or unknown.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("the link's parameters are not those of a link")]
pub struct MalformedLink;

/// Why a link opens nothing.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum LinkError {
    /// The signature does not fit, or nothing could have signed this.
    #[error("the link's signature is wrong")]
    Forged,
    /// It was right once.
    #[error("the link has expired")]
    Expired,
}

/// A key file that is not one.
#[derive(Debug, Error)]
#[error("line {0}: not a link key; each line is a key id, a space and at least 64 hexadecimal digits")]
pub struct MalformedLinkKeys(usize);

impl<'a> LinkQuery<'a> {
    /// Finds the link parameters in `query`; None where there is not one of them.
    pub fn find(query: &'a str) -> Result<Option<Self>, MalformedLink> {
        if !query.contains("sp_") {
            return Ok(None);
        }
        let (mut own, mut rest) = ([None; 5], Vec::new());
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let slot = match name {
                "sp_user" => 0,
                "sp_exp" => 1,
                "sp_kid" => 2,
                "sp_id" => 3,
                "sp_sig" => 4,
                other if other.starts_with("sp_") => return Err(MalformedLink),
                _ => {
                    rest.push(pair);
                    continue;
                }
            };
            let slot = own.get_mut(slot).ok_or(MalformedLink)?;
            if slot.replace(value).is_some() {
                return Err(MalformedLink);
            }
        }
        match own {
            [None, None, None, None, None] => Ok(None),
            [Some(user), Some(expires), Some(kid), Some(id), Some(signature)] => {
                Ok(Some(Self { user, expires, kid, id, signature, rest: rest.join("&") }))
            }
            _ => Err(MalformedLink),
        }
    }
}

impl LinkKeys {
    /// Reads `link.keys`: a line for each key, the one that signs first.
    pub fn parse(text: &str) -> Result<Self, MalformedLinkKeys> {
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let keys: Result<Vec<_>, _> = lines.map(|(i, line)| link_key(line).ok_or(MalformedLinkKeys(i + 1))).collect();
        match keys {
            Ok(keys) if keys.is_empty() => Err(MalformedLinkKeys(1)),
            other => other.map(Self),
        }
    }

    /// The query parameters that open `claims`.
    #[must_use]
    pub fn sign(&self, claims: &LinkClaims<'_>) -> String {
        let Some(key) = self.0.first() else { return String::new() };
        let signature = BASE64URL_NOPAD.encode(&key.mac(claims).finalize().into_bytes());
        let LinkClaims { user, expires, id, .. } = claims;
        format!("sp_user={user}&sp_exp={expires}&sp_kid={}&sp_id={id}&sp_sig={signature}", key.id)
    }

    /// The query parameters that open `target` as well to whom `link`, which was verified, was made: in the same name, until
    /// the same moment, taken back with it.
    #[must_use]
    pub fn extend(&self, app: &str, link: &LinkQuery<'_>, target: &str) -> Option<String> {
        let expires = canonical_number(link.expires)?;
        Some(self.sign(&LinkClaims { app, target, user: link.user, expires, id: link.id }))
    }

    /// Verifies a presented link to `path` of `app` at `now`.
    ///
    /// # Errors
    /// `Forged` before `Expired`: only who holds a right link learns that it was one.
    pub fn verify(&self, app: &str, path: &str, link: &LinkQuery<'_>, now: i64) -> Result<LinkGrant, LinkError> {
        let grant = self.recognise(app, path, link)?;
        self.judge(&grant, now)?;
        Ok(grant)
    }

    /// What a presented link to `path` of `app` says if its signature is right, whether or not it may still be used.
    pub fn recognise(&self, app: &str, path: &str, link: &LinkQuery<'_>) -> Result<LinkGrant, LinkError> {
        let target = if link.rest.is_empty() { path.to_owned() } else { format!("{path}?{}", link.rest) };
        let expires = canonical_number(link.expires).ok_or(LinkError::Forged)?;
        let claims = LinkClaims { app, target: &target, user: link.user, expires, id: link.id };
        let key = self.0.iter().find(|k| k.id == link.kid).ok_or(LinkError::Forged)?;
        let signature = BASE64URL_NOPAD.decode(link.signature.as_bytes()).map_err(|_| LinkError::Forged)?;
        key.mac(&claims).verify_slice(&signature).map_err(|_| LinkError::Forged)?;
        let user = link.user.parse().map_err(|_| LinkError::Forged)?;
        Ok(LinkGrant { user, id: link.id.into(), expires, key: key.fingerprint })
    }

    /// Whether a link that was recognised holds at `now`, and the key that it is under as well.
    pub fn judge(&self, link: &LinkGrant, now: i64) -> Result<(), LinkError> {
        let key_stands = self.0.iter().any(|key| key.fingerprint == link.key);
        if now > link.expires || !key_stands { Err(LinkError::Expired) } else { Ok(()) }
    }
}

impl LinkKey {
    fn mac(&self, claims: &LinkClaims<'_>) -> Hmac<Sha256> {
        let mut mac = hmac_sha256(self.secret.expose_secret());
        mac.update(DOMAIN);
        let expires = claims.expires.to_string();
        for field in [claims.app, claims.target, claims.user, &expires, &self.id, claims.id] {
            mac.update(&(field.len() as u64).to_be_bytes());
            mac.update(field.as_bytes());
        }
        mac
    }
}

/// A decimal number in its one spelling: no sign, no leading zero.
pub(super) fn canonical_number(text: &str) -> Option<i64> {
    text.parse().ok().filter(|n: &i64| *n >= 0 && n.to_string() == text)
}

fn link_key(line: &str) -> Option<LinkKey> {
    let (id, secret) = line.trim().split_once(' ')?;
    let secret = data_encoding::HEXLOWER_PERMISSIVE.decode(secret.trim().as_bytes()).ok()?;
    let id_ok = (1..=16).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric());
    let fingerprint = Fingerprint::of(&secret, &["link", id]);
    (id_ok && secret.len() >= 32).then(|| LinkKey {
        id: id.to_owned(),
        secret: SecretBox::new(secret.into()),
        fingerprint,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(ids: &[&str]) -> LinkKeys {
        let lines: Vec<_> = ids.iter().map(|id| format!("{id} {}", id.repeat(64).replace('k', "a"))).collect();
        LinkKeys::parse(&lines.join("\n")).unwrap()
    }

    fn claims() -> LinkClaims<'static> {
        LinkClaims { app: "downloads", target: "/api/stream/a.mp4", user: "ana", expires: 1_000, id: "i1" }
    }

    fn verify(keys: &LinkKeys, app: &str, path: &str, query: &str, now: i64) -> Result<LinkGrant, LinkError> {
        keys.verify(app, path, &LinkQuery::find(query).unwrap().unwrap(), now)
    }

    #[test]
    fn a_link_opens_its_own_target_until_it_expires() {
        let keys = keys(&["a1"]);
        let query = keys.sign(&claims());
        assert!(verify(&keys, "downloads", "/api/stream/a.mp4", &query, 1_000).is_ok());
        assert_eq!(verify(&keys, "downloads", "/api/stream/a.mp4", &query, 1_001), Err(LinkError::Expired));
        assert_eq!(verify(&keys, "downloads", "/api/stream/b.mp4", &query, 1_000), Err(LinkError::Forged));
        assert_eq!(verify(&keys, "other", "/api/stream/a.mp4", &query, 1_000), Err(LinkError::Forged));
    }

    #[test]
    fn every_parameter_is_covered_by_the_signature() {
        let keys = keys(&["a1"]);
        let query = keys.sign(&claims());
        for (from, to) in [
            ("sp_user=ana", "sp_user=eve"),
            ("sp_exp=1000", "sp_exp=9000"),
            ("sp_exp=1000", "sp_exp=01000"),
            ("sp_kid=a1", "sp_kid=a2"),
            ("sp_id=i1", "sp_id=i2"),
            ("sp_sig=", "sp_sig=A"),
            ("sp_user", "x=1&sp_user"),
        ] {
            let changed = query.replacen(from, to, 1);
            assert_ne!(changed, query);
            assert_eq!(
                verify(&keys, "downloads", "/api/stream/a.mp4", &changed, 0),
                Err(LinkError::Forged),
                "{changed}"
            );
        }
    }

    #[test]
    fn a_link_is_extended_to_one_other_target_and_to_no_longer_life() {
        let keys = keys(&["a1"]);
        let query = keys.sign(&claims());
        let more = keys.extend("downloads", &LinkQuery::find(&query).unwrap().unwrap(), "/api/stream/b.mp4").unwrap();
        let grant = verify(&keys, "downloads", "/api/stream/b.mp4", &more, 1_000).unwrap();
        assert_eq!((grant.user.as_str(), &*grant.id, grant.expires), ("ana", "i1", 1_000));
        assert_eq!(verify(&keys, "downloads", "/api/stream/b.mp4", &more, 1_001), Err(LinkError::Expired));
        assert_eq!(verify(&keys, "downloads", "/api/stream/a.mp4", &more, 1_000), Err(LinkError::Forged));
        assert_eq!(verify(&keys, "other", "/api/stream/b.mp4", &more, 1_000), Err(LinkError::Forged));
    }

    #[test]
    fn fields_cannot_flow_into_each_other() {
        let keys = keys(&["a1"]);
        let one = keys.sign(&LinkClaims { user: "ab", id: "c", ..claims() });
        let other = keys.sign(&LinkClaims { user: "a", id: "bc", ..claims() });
        assert_ne!(one.rsplit_once('=').unwrap().1, other.rsplit_once('=').unwrap().1);
    }

    #[test]
    fn an_older_key_still_opens_links_and_a_dropped_one_does_not() {
        let old = keys(&["a1"]).sign(&claims());
        assert!(verify(&keys(&["b2", "a1"]), "downloads", "/api/stream/a.mp4", &old, 0).is_ok());
        assert_eq!(verify(&keys(&["c3", "b2"]), "downloads", "/api/stream/a.mp4", &old, 0), Err(LinkError::Forged));
    }

    #[test]
    fn repeated_missing_and_unknown_parameters_are_no_link() {
        let query = keys(&["a1"]).sign(&claims());
        assert_eq!(LinkQuery::find(&format!("{query}&sp_id=i1")), Err(MalformedLink));
        assert_eq!(LinkQuery::find(&format!("{query}&sp_more=1")), Err(MalformedLink));
        assert_eq!(LinkQuery::find("sp_sig=x"), Err(MalformedLink));
        assert_eq!(LinkQuery::find("q=sp_sig"), Ok(None));
    }
}
