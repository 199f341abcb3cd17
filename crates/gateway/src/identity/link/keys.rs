//! The keys of links, and how they sign.

use std::iter;

use data_encoding::BASE64URL_NOPAD;
use hmac::{Hmac, Mac};
use sallyport_core::secrets::hmac_sha256::hmac_sha256;
use secrecy::{ExposeSecret, SecretBox};
use sha2::Sha256;
use thiserror::Error;

use super::{
    LinkClaims,
    target::{normal_form, without_empty_query},
};
use crate::identity::Fingerprint;

const DOMAIN: &[u8] = b"sallyport link v1\0";

/// The keys of links. One signs and all of them verify, so that a new key can take over while old links stay valid.
pub struct LinkKeys {
    pub(super) signing: LinkKey,
    older: Vec<LinkKey>,
}

pub(super) struct LinkKey {
    pub(super) id: String,
    secret: SecretBox<[u8]>,
    pub(super) fingerprint: Fingerprint,
}

/// A malformed file of link keys.
#[derive(Debug, Error)]
#[error("line {0}: not a link key; write a key id, a space and at least 64 hexadecimal digits")]
pub struct MalformedLinkKeys(usize);

impl LinkKeys {
    /// Parses `link.keys`: one key per line, the signing key first.
    pub fn parse(text: &str) -> Result<Self, MalformedLinkKeys> {
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let mut keys = lines.map(|(i, line)| link_key(line).ok_or(MalformedLinkKeys(i + 1)));
        let signing = keys.next().ok_or(MalformedLinkKeys(1))??;
        Ok(Self { signing, older: keys.collect::<Result<_, _>>()? })
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &LinkKey> {
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
}

impl LinkKey {
    /// Returns the message authentication code of `claims` under this key.
    pub(super) fn mac(&self, claims: &LinkClaims<'_>) -> Hmac<Sha256> {
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
}
