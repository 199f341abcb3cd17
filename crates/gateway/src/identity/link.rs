//! Signed links: a URL whose query grants access to one target, in the name of one user, until it expires.
//!
//! The query contains `sp_user`, `sp_exp`, `sp_kid`, `sp_id` and `sp_sig`. The signature is HMAC-SHA256 over a domain label and the
//! length-prefixed application, target (the path and the rest of the query, in the normal form of `link_target.rs`), user, expiry,
//! key id and link id. A link is valid for GET and HEAD, and for no other method.

use std::{borrow::Cow, iter};

use data_encoding::BASE64URL_NOPAD;
use hmac::{Hmac, Mac};
use percent_encoding::percent_decode_str;
use sallyport_core::{names::username::UserName, secrets::hmac_sha256::hmac_sha256};
use secrecy::{ExposeSecret, SecretBox};
use sha2::Sha256;
use thiserror::Error;

use super::{
    AddedParameter, Fingerprint,
    link_target::normal_form,
    split_query::{Other, Presence, SplitQuery, joined, split_query},
};

/// Up to this many extra parameters at the end of a link are treated as an addition rather than a guess.
const MAX_ADDED: usize = 8;

const DOMAIN: &[u8] = b"sallyport link v1\0";

/// The claims of a link, which its signature covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkClaims<'a> {
    /// The application's name.
    pub app: &'a str,
    /// Path and query without the link's own parameters.
    pub target: &'a str,
    /// The user in whose name it acts.
    pub user: &'a str,
    /// The expiry, in Unix seconds.
    pub expires: i64,
    /// The link's id, by which it is revoked.
    pub id: &'a str,
}

/// The link parameters of a query, as presented, and the other parameters.
#[derive(Debug, PartialEq, Eq)]
pub struct LinkQuery<'a> {
    user: Cow<'a, str>,
    expires: Cow<'a, str>,
    kid: Cow<'a, str>,
    id: Cow<'a, str>,
    signature: Cow<'a, str>,
    /// The other parameters, in order.
    others: Vec<Other<'a>>,
}

/// The claims of a link with a valid signature, and the key that verified it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkGrant {
    /// The user in whose name it acts.
    pub user: UserName,
    /// The link's id.
    pub id: Box<str>,
    /// The expiry, in Unix seconds.
    pub expires: i64,
    key: Fingerprint,
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

/// The keys of links. One signs and all of them verify, so that a new key can take over while old links stay valid.
pub struct LinkKeys {
    signing: LinkKey,
    older: Vec<LinkKey>,
}

struct LinkKey {
    id: String,
    secret: SecretBox<[u8]>,
    fingerprint: Fingerprint,
}

/// Parameters that are repeated, missing or unknown.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("the link parameters are repeated, missing or unknown")]
pub struct MalformedLink;

/// Why a link is refused.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum LinkError {
    /// The signature does not match, or the link could never have been signed.
    #[error("the link's signature is wrong")]
    Forged,
    /// Parameters were added to an otherwise valid link, or its key was removed.
    #[error("parameters were added to the link, or its key was removed")]
    Altered,
    /// The link was valid but has expired.
    #[error("the link has expired")]
    Expired,
}

/// A malformed file of link keys.
#[derive(Debug, Error)]
#[error("line {0}: not a link key; write a key id, a space and at least 64 hexadecimal digits")]
pub struct MalformedLinkKeys(usize);

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

/// The parameters of a link, the signature last.
const OWN: [&str; 5] = ["sp_user", "sp_exp", "sp_kid", "sp_id", "sp_sig"];

/// Decodes the value of a parameter, in which a client may have escaped characters such as the `@` of a user name.
fn decoded(value: &str) -> Cow<'_, str> {
    percent_decode_str(value).decode_utf8_lossy()
}

impl LinkKeys {
    /// Parses `link.keys`: one key per line, the signing key first.
    pub fn parse(text: &str) -> Result<Self, MalformedLinkKeys> {
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let mut keys = lines.map(|(i, line)| link_key(line).ok_or(MalformedLinkKeys(i + 1)));
        let signing = keys.next().ok_or(MalformedLinkKeys(1))??;
        Ok(Self { signing, older: keys.collect::<Result<_, _>>()? })
    }

    fn all(&self) -> impl Iterator<Item = &LinkKey> {
        iter::once(&self.signing).chain(&self.older)
    }

    /// Returns the query parameters that grant `claims`.
    #[must_use]
    pub fn sign(&self, claims: &LinkClaims<'_>) -> String {
        let key = &self.signing;
        let normal = LinkClaims { target: &normal_form(without_empty_query(claims.target)), ..*claims };
        let signature = BASE64URL_NOPAD.encode(&key.mac(&normal).finalize().into_bytes());
        let LinkClaims { user, expires, id, .. } = claims;
        format!("sp_user={user}&sp_exp={expires}&sp_kid={}&sp_id={id}&sp_sig={signature}", key.id)
    }

    /// Returns query parameters for another `target`, derived from the verified `link`: with the same user, expiry and id, so that it is
    /// revoked together with `link`.
    #[must_use]
    pub fn extend(&self, app: &str, link: &LinkQuery<'_>, target: &str) -> Option<String> {
        let expires = canonical_number(&link.expires)?;
        Some(self.sign(&LinkClaims { app, target, user: &link.user, expires, id: &link.id }))
    }

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
        self.signed_query(app, path, link)?;
        let Presented { key, claims, .. } = Presented::new(self, app, path, link)?;
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
        let presented = Presented::new(self, app, path, link)?;
        let all = joined(&link.others);
        if presented.covers(&all) {
            return Ok(all);
        }
        let kept = joined(link.others.iter().filter(|other| !other.ignored));
        if presented.covers(&kept) {
            return Ok(kept);
        }
        // A guess has no signature that covers part of the query either.
        let without = |added| joined(link.others.get(..link.others.len().saturating_sub(added)).unwrap_or_default());
        let added = (1..=MAX_ADDED.min(link.others.len())).any(|added| presented.covers(&without(added)));
        Err(if added { LinkError::Altered } else { LinkError::Forged })
    }
}

/// A presented link that is being verified.
struct Presented<'p> {
    key: &'p LinkKey,
    claims: LinkClaims<'p>,
    signature: Vec<u8>,
}

impl<'p> Presented<'p> {
    /// Starts with the path alone as the target.
    fn new(keys: &'p LinkKeys, app: &'p str, path: &'p str, link: &'p LinkQuery<'_>) -> Result<Self, LinkError> {
        let expires = canonical_number(&link.expires).ok_or(LinkError::Forged)?;
        let signature = BASE64URL_NOPAD.decode(link.signature.as_bytes()).map_err(|_| LinkError::Forged)?;
        let key = keys.all().find(|key| *key.id == *link.kid).ok_or(LinkError::Altered)?;
        let claims = LinkClaims { app, target: path, user: &link.user, expires, id: &link.id };
        Ok(Self { key, claims, signature })
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

/// Returns the target without an empty query: once the link parameters are appended, `/a?` and `/a` are the same target.
#[must_use]
pub fn without_empty_query(target: &str) -> &str {
    match target.split_once('?') {
        Some((path, "")) => path,
        Some(_) | None => target,
    }
}

/// Parses a decimal number in canonical form: no sign, no leading zero.
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
        keys.verify(app, path, &find(query).unwrap().unwrap(), now)
    }

    fn find(query: &str) -> Result<Option<LinkQuery<'_>>, MalformedLink> {
        LinkQuery::find(query, Namespace::Gateway, &["fbclid", "utm_*"].map(|text| text.parse().unwrap()))
    }

    #[test]
    fn a_link_opens_only_its_own_target_until_it_expires() {
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
            ("sp_id=i1", "sp_id=i2"),
            ("sp_sig=", "sp_sig=A"),
        ] {
            let changed = query.replacen(from, to, 1);
            assert_ne!(changed, query);
            assert_eq!(
                verify(&keys, "downloads", "/api/stream/a.mp4", &changed, 0),
                Err(LinkError::Forged),
                "{changed}"
            );
        }
        for changed in [query.replace("sp_kid=a1", "sp_kid=a2"), format!("x=1&{query}"), format!("{query}&x=1&y")] {
            let refused = verify(&keys, "downloads", "/api/stream/a.mp4", &changed, 0);
            assert_eq!(refused, Err(LinkError::Altered), "refused, but not a guess: {changed}");
        }
    }

    #[test]
    fn ignored_parameters_are_removed_unless_they_were_signed() {
        let keys = keys(&["a1"]);
        let signed = |target| keys.sign(&LinkClaims { target, ..claims() });
        let query = |link: &str| keys.signed_query("downloads", "/zip", &find(link).unwrap().unwrap());
        let (bare, ids, own) = (signed("/zip"), signed("/zip?ids=1,2"), signed("/zip?utm_id=1"));
        assert_eq!(query(&format!("{bare}&fbclid=x&utm_source=y")).as_deref(), Ok(""));
        assert_eq!(query(&format!("ids=1,2&{ids}&fbclid=x")).as_deref(), Ok("ids=1,2"));
        assert_eq!(query(&format!("fbclid=x&ids=1%2c2&{ids}")).as_deref(), Ok("ids=1%2c2"), "as sent");
        assert_eq!(query(&format!("utm_id=1&{own}")).as_deref(), Ok("utm_id=1"));
        assert_eq!(query(&own), Err(LinkError::Forged), "a signed parameter is missing");
        assert_eq!(query(&format!("ids=1,2,3&{ids}")), Err(LinkError::Forged));
        assert_eq!(query(&format!("ids=1,2&{ids}&gclid=x")), Err(LinkError::Altered));
    }

    #[test]
    fn a_link_opens_every_spelling_of_its_target_and_an_older_link_the_signed_one() {
        let keys = keys(&["a1"]);
        let query = keys.sign(&LinkClaims { target: "/x/[a]%7e.mp4", user: "ana@b.example", ..claims() });
        for path in ["/x/[a]%7e.mp4", "/x/%5Ba%5D~.mp4", "/x/%5ba%5d%7E.mp4"] {
            assert!(verify(&keys, "downloads", path, &query, 0).is_ok(), "{path}");
            assert!(verify(&keys, "downloads", path, &query.replace('@', "%40"), 0).is_ok(), "{path}");
        }
        assert_eq!(verify(&keys, "downloads", "/x/[a]%257e.mp4", &query, 0), Err(LinkError::Forged));
        let raw = LinkClaims { target: "/x/[a].mp4", ..claims() };
        let signature = BASE64URL_NOPAD.encode(&keys.signing.mac(&raw).finalize().into_bytes());
        let old = format!("sp_user=ana&sp_exp=1000&sp_kid=a1&sp_id=i1&sp_sig={signature}");
        assert!(verify(&keys, "downloads", "/x/[a].mp4", &old, 0).is_ok());
    }

    #[test]
    fn a_link_is_extended_to_one_other_target_with_the_same_expiry() {
        let keys = keys(&["a1"]);
        let query = keys.sign(&claims());
        let more = keys.extend("downloads", &find(&query).unwrap().unwrap(), "/api/stream/b.mp4").unwrap();
        let grant = verify(&keys, "downloads", "/api/stream/b.mp4", &more, 1_000).unwrap();
        assert_eq!((grant.user.as_str(), &*grant.id, grant.expires), ("ana", "i1", 1_000));
        assert_eq!(verify(&keys, "downloads", "/api/stream/b.mp4", &more, 1_001), Err(LinkError::Expired));
        assert_eq!(verify(&keys, "downloads", "/api/stream/a.mp4", &more, 1_000), Err(LinkError::Forged));
        assert_eq!(verify(&keys, "other", "/api/stream/b.mp4", &more, 1_000), Err(LinkError::Forged));
    }

    #[test]
    fn a_target_with_an_empty_query_equals_the_one_without() {
        let keys = keys(&["a1"]);
        for (target, path, query) in [
            ("/x?", "/x", ""),
            ("/x", "/x", ""),
            ("/x?&", "/x", "&&"),
            ("/x??", "/x", "?&"),
            ("/x?a=1&", "/x", "a=1&&"),
            ("/x?a", "/x", "a&"),
        ] {
            let query = format!("{query}{}", keys.sign(&LinkClaims { target, ..claims() }));
            assert!(verify(&keys, "downloads", path, &query, 0).is_ok(), "{target}");
        }
    }

    #[test]
    fn adjacent_fields_cannot_be_confused() {
        let keys = keys(&["a1"]);
        let one = keys.sign(&LinkClaims { user: "ab", id: "c", ..claims() });
        let other = keys.sign(&LinkClaims { user: "a", id: "bc", ..claims() });
        assert_ne!(one.rsplit_once('=').unwrap().1, other.rsplit_once('=').unwrap().1);
    }

    #[test]
    fn an_older_key_still_verifies_links_and_a_removed_one_does_not() {
        let old = keys(&["a1"]).sign(&claims());
        assert!(verify(&keys(&["b2", "a1"]), "downloads", "/api/stream/a.mp4", &old, 0).is_ok());
        assert_eq!(verify(&keys(&["c3", "b2"]), "downloads", "/api/stream/a.mp4", &old, 0), Err(LinkError::Altered));
    }

    #[test]
    fn a_file_without_a_key_or_with_a_malformed_one_is_refused() {
        let key = format!("a1 {}", "01".repeat(32));
        let refused = |text: &str| LinkKeys::parse(text).err().map(|error| error.0);
        for (text, line) in
            [("", Some(1)), ("\n \n", Some(1)), ("a1", Some(1)), (&*format!("{key}\n\nb2 01"), Some(3)), (&*key, None)]
        {
            assert_eq!(refused(text), line, "{text:?}");
        }
    }

    #[test]
    fn repeated_missing_and_unknown_parameters_are_malformed() {
        let query = keys(&["a1"]).sign(&claims());
        assert_eq!(find(&format!("{query}&sp_id=i1")), Err(MalformedLink));
        assert_eq!(find(&format!("{query}&sp_more=1")), Err(MalformedLink));
        for part in ["sp_sig=x", "sp_user=ana", "sp_id=1&sp_id=2"] {
            assert_eq!(find(part), Err(MalformedLink), "{part}");
        }
        for none in ["q=sp_sig", "sp_page=2", "sp_sigs=x&sp_lang=en"] {
            assert_eq!(find(none), Ok(None), "{none}");
        }
        let elsewhere = |query| LinkQuery::find(query, Namespace::Application, &[]);
        for none in ["sp_page=2", "sp_id=1&sp_id=2", "sp_user=ana&sp_exp=1", "sp_more"] {
            assert_eq!(elsewhere(none), Ok(None), "{none}");
        }
        assert_eq!(
            elsewhere("sp_sig=x&sp_page=2"),
            Err(MalformedLink),
            "a signature is never passed on to the application"
        );
        assert_eq!(elsewhere("sp_id=1&sp_id=2&sp_sig=x&sp_user=a&sp_exp=1&sp_kid=k"), Err(MalformedLink));
        assert!(elsewhere(&query).unwrap().is_some());
    }
}
