//! Signed links in the format that OfflineTube recommends: `expires`, `signature` and `user` in the query, where the signature is
//! HMAC-SHA256 in hexadecimal over `id:user:expires`.

use std::time::Duration;

use data_encoding::HEXLOWER;
use hmac::Mac;
use sallyport_core::{names::username::UserName, secrets::hmac_sha256::hmac_sha256};
use secrecy::{ExposeSecret, SecretString};

use super::{
    AddedParameter, Fingerprint,
    link::{LinkError, MalformedLink, canonical_number},
    split_query::{Presence, SplitQuery, joined, split_query},
};

/// The parameters, as presented, and the rest of the query.
#[derive(Debug, PartialEq, Eq)]
pub struct OfflineTubeQuery<'a> {
    expires: &'a str,
    signature: &'a str,
    user: &'a str,
    /// The query without them; can be empty.
    pub rest: String,
}

/// The claims of a link with a valid signature, and the secret that verified it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfflineTubeGrant {
    /// The user in whose name it acts.
    pub user: UserName,
    /// Distinguishes it from other links, since it has no id of its own.
    pub id: Box<str>,
    /// The expiry, in Unix seconds.
    pub expires: i64,
    key: Fingerprint,
}

/// The secret that is shared with the creator of such links (`secrets/offlinetube.key`).
pub struct OfflineTubeKey {
    secret: SecretString,
    max_life: Duration,
    since: i64,
    fingerprint: Fingerprint,
}

impl<'a> OfflineTubeQuery<'a> {
    /// Finds the parameters in `query`; `None` if there is no `signature`.
    ///
    /// Nothing else in the query is signed, and the parameters in `ignored` are not passed on.
    pub fn find(query: &'a str, ignored: &[AddedParameter]) -> Result<Option<Self>, MalformedLink> {
        let SplitQuery { own, others } = split_query(query, ["expires", "signature", "user"], ignored);
        match own {
            [Presence::Once(expires), Presence::Once(signature), Presence::Once(user)] => {
                let rest = joined(others.iter().filter(|other| !other.ignored));
                Ok(Some(Self { expires, signature, user, rest }))
            }
            [Presence::Absent | Presence::Once(_), Presence::Absent, Presence::Absent | Presence::Once(_)] => Ok(None),
            _ => Err(MalformedLink),
        }
    }
}

impl OfflineTubeKey {
    /// Creates a key from `secret`, whose file was written at the Unix second `since`. It accepts links that expire within
    /// `max_life`.
    #[must_use]
    pub fn new(secret: SecretString, max_life: Duration, since: i64) -> Self {
        let fingerprint = Fingerprint::of(secret.expose_secret().as_bytes(), &["offlinetube"]);
        Self { secret, max_life, since, fingerprint }
    }

    /// Returns the query parameters that grant `user` access to the object `id` until `expires`.
    #[must_use]
    pub fn sign(&self, id: &str, user: &UserName, expires: i64) -> String {
        let signature = HEXLOWER.encode(&self.mac(id, user.as_str(), expires).finalize().into_bytes());
        format!("expires={expires}&signature={signature}&user={user}")
    }

    /// Verifies a presented link to the object `id` at the time `now`.
    pub fn verify(&self, id: &str, link: &OfflineTubeQuery<'_>, now: i64) -> Result<OfflineTubeGrant, LinkError> {
        let grant = self.recognise(id, link)?;
        self.judge(&grant, now)?;
        Ok(grant)
    }

    /// Returns the claims of a presented link to the object `id` if its signature is valid, whether or not it has expired.
    ///
    /// The separator is not escaped in the signed text, so an `id` that contains one is refused.
    pub fn recognise(&self, id: &str, link: &OfflineTubeQuery<'_>) -> Result<OfflineTubeGrant, LinkError> {
        let user: UserName = link.user.parse().map_err(|_| LinkError::Forged)?;
        let expires = canonical_number(link.expires).ok_or(LinkError::Forged)?;
        let signature = HEXLOWER.decode(link.signature.as_bytes()).map_err(|_| LinkError::Forged)?;
        if id.contains(':') {
            return Err(LinkError::Forged);
        }
        self.mac(id, user.as_str(), expires).verify_slice(&signature).map_err(|_| LinkError::Forged)?;
        let id = format!("{user}:{expires}:{id}").into();
        Ok(OfflineTubeGrant { user, id, expires, key: self.fingerprint })
    }

    /// Checks that a recognised link is valid at `now`, and that its secret is still the same.
    pub fn judge(&self, link: &OfflineTubeGrant, now: i64) -> Result<(), LinkError> {
        match u64::try_from(link.expires - now) {
            Ok(left) if left > self.max_life.as_secs() => Err(LinkError::Forged),
            Ok(_) if link.key == self.fingerprint => Ok(()),
            Ok(_) | Err(_) => Err(LinkError::Expired),
        }
    }

    /// Returns the earliest time at which a link under this secret can have been created, in Unix seconds. A link does not say
    /// when it was created, and its expiry does not tell either: whoever signs may choose any.
    #[must_use]
    pub fn made_after(&self) -> i64 {
        self.since
    }

    fn mac(&self, id: &str, user: &str, expires: i64) -> hmac::Hmac<sha2::Sha256> {
        let mut mac = hmac_sha256(self.secret.expose_secret().as_bytes());
        mac.update(format!("{id}:{user}:{expires}").as_bytes());
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_signature_the_parameters_are_the_applications() {
        let find = |query| OfflineTubeQuery::find(query, &["fbclid".parse().unwrap()]);
        for none in ["", "expires=1&user=ana", "user", "x=1&signatures=1"] {
            assert_eq!(find(none), Ok(None), "{none}");
        }
        for malformed in
            ["signature=x", "signature&user=ana", "user=a&user=b", "expires=1&expires=1", "signature=x&signature=x"]
        {
            assert_eq!(find(malformed), Err(MalformedLink), "{malformed}");
        }
        let rest = find("a=1&user=ana&fbclid=x&expires=1&b&signature=x").unwrap().unwrap().rest;
        assert_eq!(rest, "a=1&b");
    }

    #[test]
    fn the_recommended_recipe_is_accepted_and_nothing_else() {
        // python3 -c 'import hmac; print(hmac.new(b"k"*32, b"v1:ana:1000", "sha256").hexdigest())'
        const SIGNATURE: &str = "fa6b0001db6f7e872050e6bde07a4af6964176059bb4c7556e5340d23d7d7252";
        let key = OfflineTubeKey::new("k".repeat(32).into(), Duration::from_mins(10), 0);
        let query = key.sign("v1", &"ana".parse().unwrap(), 1_000);
        assert_eq!(query, format!("expires=1000&signature={SIGNATURE}&user=ana"));
        let verify =
            |id: &str, q: &str, now| key.verify(id, &OfflineTubeQuery::find(q, &[]).unwrap().unwrap(), now).is_ok();
        assert!(verify("v1", &query, 1_000));
        assert!(!verify("v1", &query, 1_001));
        assert!(
            verify("v1", &query, 400) && !verify("v1", &query, 399),
            "a link that expires later than links may last is refused"
        );
        assert!(!verify("v2", &query, 1_000));
        assert!(!verify("v1", &query.replace("ana", "eve"), 1_000));
        assert!(!verify("v1", &query.replace("=1000", "=2000"), 1_000));
    }
}
