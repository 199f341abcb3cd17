//! Signed links: one file for one user until one moment, in the query of its URL.
//!
//! `sp_user`, `sp_exp`, `sp_kid`, `sp_id` and `sp_sig` stand in the query; the signature is HMAC-SHA256 over a domain
//! label and the length-prefixed application, target (path and whatever else is in the query, in the one spelling of
//! `link_target.rs`), user, expiry, key id and link id. GET and HEAD are one thing to it; no other method is.

use std::{borrow::Cow, str::FromStr};

use data_encoding::BASE64URL_NOPAD;
use hmac::{Hmac, Mac};
use percent_encoding::percent_decode_str;
use secrecy::{ExposeSecret, SecretBox};
use sha2::Sha256;
use thiserror::Error;

use super::{Fingerprint, link_target::normal_form};
use crate::{mac::hmac_sha256, username::UserName};

/// So many parameters at the end of a link are taken for an addition rather than for a guess.
const MAX_ADDED: usize = 8;

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
    user: Cow<'a, str>,
    expires: Cow<'a, str>,
    kid: Cow<'a, str>,
    id: Cow<'a, str>,
    signature: Cow<'a, str>,
    /// The other parameters, in their order.
    rest: Vec<Other<'a>>,
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

/// A parameter beside the link's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Other<'a> {
    text: &'a str,
    /// True where the route ignores it unless it was signed.
    ignored: bool,
}

/// Whose the parameters are whose names begin with `sp_`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Namespace {
    /// The application's, unless there is a signature with them: the route takes no links.
    #[default]
    Application,
    /// The gateway's, as soon as there is one of a link's.
    Gateway,
}

/// A query parameter that others add to URLs: a name, or the beginning of names, such as `utm_*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddedParameter {
    /// This one.
    Named(Box<str>),
    /// Those that begin so.
    Beginning(Box<str>),
}

/// A text that is no such parameter.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "{0:?} is not the name of a parameter; write one such as \"fbclid\", or the beginning of several such as \"utm_*\""
)]
pub struct InvalidParameter(String);

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
    /// It is right but for what somebody has added to it, or its key is gone.
    #[error("the link was added to, or its key is gone")]
    Altered,
    /// It was right once.
    #[error("the link has expired")]
    Expired,
}

/// A key file that is not one.
#[derive(Debug, Error)]
#[error("line {0}: not a link key; each line is a key id, a space and at least 64 hexadecimal digits")]
pub struct MalformedLinkKeys(usize);

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
    /// True for a `name=value` of this name.
    pub(super) fn matches(&self, pair: &str) -> bool {
        let name = pair.split('=').next().unwrap_or(pair);
        match self {
            Self::Named(named) => **named == *name,
            Self::Beginning(beginning) => name.starts_with(&**beginning),
        }
    }
}

impl<'a> LinkQuery<'a> {
    /// Finds the link parameters in `query`; None where there is no link by the rules of `namespace`. Of the others `ignored` do
    /// not count unless they were signed.
    pub fn find(
        query: &'a str,
        namespace: Namespace,
        ignored: &[AddedParameter],
    ) -> Result<Option<Self>, MalformedLink> {
        if !query.contains("sp_") {
            return Ok(None);
        }
        let (mut own, mut rest, mut garbled) = ([None; 5], Vec::new(), false);
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let Some(slot) = OWN.iter().position(|own| *own == name) else {
                garbled |= name.starts_with("sp_");
                rest.push(Other { text: pair, ignored: ignored.iter().any(|parameter| parameter.matches(pair)) });
                continue;
            };
            garbled |= own.get_mut(slot).ok_or(MalformedLink)?.replace(value).is_some();
        }
        let presented = match namespace {
            Namespace::Application => own.last().is_some_and(Option::is_some),
            Namespace::Gateway => own.iter().any(Option::is_some),
        };
        match own.map(|value| value.map(decoded)) {
            _ if !presented => Ok(None),
            [Some(user), Some(expires), Some(kid), Some(id), Some(signature)] if !garbled => {
                Ok(Some(Self { user, expires, kid, id, signature, rest }))
            }
            _ => Err(MalformedLink),
        }
    }

    fn rest(&self, keep: impl Fn(&Other<'a>) -> bool) -> String {
        self.rest.iter().filter(|other| keep(other)).map(|other| other.text).collect::<Vec<_>>().join("&")
    }
}

/// The parameters of a link, the signature last.
const OWN: [&str; 5] = ["sp_user", "sp_exp", "sp_kid", "sp_id", "sp_sig"];

/// The value of a parameter, which a client may have escaped: the `@` of a user's name, say.
fn decoded(value: &str) -> Cow<'_, str> {
    percent_decode_str(value).decode_utf8_lossy()
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
        let normal = LinkClaims { target: &normal_form(without_empty_query(claims.target)), ..*claims };
        let signature = BASE64URL_NOPAD.encode(&key.mac(&normal).finalize().into_bytes());
        let LinkClaims { user, expires, id, .. } = claims;
        format!("sp_user={user}&sp_exp={expires}&sp_kid={}&sp_id={id}&sp_sig={signature}", key.id)
    }

    /// The query parameters that open `target` as well to whom `link`, which was verified, was made: in the same name, until
    /// the same moment, taken back with it.
    #[must_use]
    pub fn extend(&self, app: &str, link: &LinkQuery<'_>, target: &str) -> Option<String> {
        let expires = canonical_number(&link.expires)?;
        Some(self.sign(&LinkClaims { app, target, user: &link.user, expires, id: &link.id }))
    }

    /// Verifies a presented link to `path` of `app` at `now`.
    ///
    /// # Errors
    /// `Forged` and `Altered` before `Expired`: only who holds a right link learns that it was one.
    pub fn verify(&self, app: &str, path: &str, link: &LinkQuery<'_>, now: i64) -> Result<LinkGrant, LinkError> {
        let grant = self.recognise(app, path, link)?;
        self.judge(&grant, now)?;
        Ok(grant)
    }

    /// What a presented link to `path` of `app` says if its signature is right, whether or not it may still be used.
    pub fn recognise(&self, app: &str, path: &str, link: &LinkQuery<'_>) -> Result<LinkGrant, LinkError> {
        self.signed_query(app, path, link)?;
        let Presented { key, claims, .. } = Presented::new(self, app, path, link)?;
        let user = claims.user.parse().map_err(|_| LinkError::Forged)?;
        Ok(LinkGrant { user, id: claims.id.into(), expires: claims.expires, key: key.fingerprint })
    }

    /// Whether a link that was recognised holds at `now`, and the key that it is under as well.
    pub fn judge(&self, link: &LinkGrant, now: i64) -> Result<(), LinkError> {
        let key_stands = self.0.iter().any(|key| key.fingerprint == link.key);
        if now > link.expires || !key_stands { Err(LinkError::Expired) } else { Ok(()) }
    }

    /// What the signature covers of the query beside the link's own parameters: all of it, or all but what the route ignores.
    ///
    /// # Errors
    /// The signature covers neither.
    pub fn signed_query(&self, app: &str, path: &str, link: &LinkQuery<'_>) -> Result<String, LinkError> {
        let presented = Presented::new(self, app, path, link)?;
        let all = link.rest(|_| true);
        if presented.covers(&all) {
            return Ok(all);
        }
        let kept = link.rest(|other| !other.ignored);
        if presented.covers(&kept) {
            return Ok(kept);
        }
        // Whoever guesses has no signature that fits a part of it.
        let cut = |added| link.rest.get(..link.rest.len().saturating_sub(added)).unwrap_or_default();
        let text = |others: &[Other<'_>]| others.iter().map(|other| other.text).collect::<Vec<_>>().join("&");
        let added = (1..=MAX_ADDED.min(link.rest.len())).any(|added| presented.covers(&text(cut(added))));
        Err(if added { LinkError::Altered } else { LinkError::Forged })
    }
}

/// A presented link on its way to being verified.
struct Presented<'p> {
    key: &'p LinkKey,
    claims: LinkClaims<'p>,
    signature: Vec<u8>,
}

impl<'p> Presented<'p> {
    /// With the path alone for its target.
    fn new(keys: &'p LinkKeys, app: &'p str, path: &'p str, link: &'p LinkQuery<'_>) -> Result<Self, LinkError> {
        let expires = canonical_number(&link.expires).ok_or(LinkError::Forged)?;
        let signature = BASE64URL_NOPAD.decode(link.signature.as_bytes()).map_err(|_| LinkError::Forged)?;
        let key = keys.0.iter().find(|key| *key.id == *link.kid).ok_or(LinkError::Altered)?;
        let claims = LinkClaims { app, target: path, user: &link.user, expires, id: &link.id };
        Ok(Self { key, claims, signature })
    }

    /// True where path and `query` were signed, in their normal form or, by older versions, as they are spelt here.
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

/// The target as a link has it: with parameters of the link behind it, `/a?` is no other target than `/a`.
#[must_use]
pub fn without_empty_query(target: &str) -> &str {
    match target.split_once('?') {
        Some((path, "")) => path,
        Some(_) | None => target,
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
        keys.verify(app, path, &find(query).unwrap().unwrap(), now)
    }

    fn find(query: &str) -> Result<Option<LinkQuery<'_>>, MalformedLink> {
        LinkQuery::find(query, Namespace::Gateway, &["fbclid", "utm_*"].map(|text| text.parse().unwrap()))
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
            assert_eq!(refused, Err(LinkError::Altered), "no guess, and yet no way in: {changed}");
        }
    }

    #[test]
    fn what_a_route_ignores_is_left_out_unless_it_was_signed() {
        let keys = keys(&["a1"]);
        let signed = |target| keys.sign(&LinkClaims { target, ..claims() });
        let query = |link: &str| keys.signed_query("downloads", "/zip", &find(link).unwrap().unwrap());
        let (bare, ids, own) = (signed("/zip"), signed("/zip?ids=1,2"), signed("/zip?utm_id=1"));
        assert_eq!(query(&format!("{bare}&fbclid=x&utm_source=y")).as_deref(), Ok(""));
        assert_eq!(query(&format!("ids=1,2&{ids}&fbclid=x")).as_deref(), Ok("ids=1,2"));
        assert_eq!(query(&format!("fbclid=x&ids=1%2c2&{ids}")).as_deref(), Ok("ids=1%2c2"), "as it was sent");
        assert_eq!(query(&format!("utm_id=1&{own}")).as_deref(), Ok("utm_id=1"));
        assert_eq!(query(&own), Err(LinkError::Forged), "what was signed is missing");
        assert_eq!(query(&format!("ids=1,2,3&{ids}")), Err(LinkError::Forged));
        assert_eq!(query(&format!("ids=1,2&{ids}&gclid=x")), Err(LinkError::Altered));
    }

    #[test]
    fn a_link_opens_every_spelling_of_its_target_and_older_links_their_own() {
        let keys = keys(&["a1"]);
        let query = keys.sign(&LinkClaims { target: "/x/[a]%7e.mp4", user: "ana@b.example", ..claims() });
        for path in ["/x/[a]%7e.mp4", "/x/%5Ba%5D~.mp4", "/x/%5ba%5d%7E.mp4"] {
            assert!(verify(&keys, "downloads", path, &query, 0).is_ok(), "{path}");
            assert!(verify(&keys, "downloads", path, &query.replace('@', "%40"), 0).is_ok(), "{path}");
        }
        assert_eq!(verify(&keys, "downloads", "/x/[a]%257e.mp4", &query, 0), Err(LinkError::Forged));
        let raw = LinkClaims { target: "/x/[a].mp4", ..claims() };
        let signature = BASE64URL_NOPAD.encode(&keys.0[0].mac(&raw).finalize().into_bytes());
        let old = format!("sp_user=ana&sp_exp=1000&sp_kid=a1&sp_id=i1&sp_sig={signature}");
        assert!(verify(&keys, "downloads", "/x/[a].mp4", &old, 0).is_ok());
    }

    #[test]
    fn names_of_added_parameters_are_names_and_never_the_gateways() {
        for text in ["fbclid", "utm_*", "_ga", "mc.cid", "s*"] {
            assert_eq!(text.parse::<AddedParameter>().is_ok(), text != "s*", "{text}");
        }
        for text in ["", "*", "sp_sig", "sp_*", "sp*", "a*b", "a b", "a=b", "a%20", "é"] {
            assert!(text.parse::<AddedParameter>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_link_is_extended_to_one_other_target_and_to_no_longer_life() {
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
    fn a_target_with_an_empty_query_is_the_one_without() {
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
        assert_eq!(verify(&keys(&["c3", "b2"]), "downloads", "/api/stream/a.mp4", &old, 0), Err(LinkError::Altered));
    }

    #[test]
    fn repeated_missing_and_unknown_parameters_are_no_link() {
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
        assert_eq!(elsewhere("sp_sig=x&sp_page=2"), Err(MalformedLink), "a signature goes nowhere but here");
        assert_eq!(elsewhere("sp_id=1&sp_id=2&sp_sig=x&sp_user=a&sp_exp=1&sp_kid=k"), Err(MalformedLink));
        assert!(elsewhere(&query).unwrap().is_some());
    }
}
