//! The egress token that admits a child to the guard: for which job, until when and for how many bytes. It is signed, so that the guard needs
//! no prior knowledge of it.

use std::{fmt, str::FromStr};

use data_encoding::BASE64URL_NOPAD;
use hmac::{Hmac, Mac};
use sallyport_core::secrets::hmac_sha256::hmac_sha256;
use secrecy::{ExposeSecret, SecretBox};
use sha2::Sha256;
use thiserror::Error;
use uuid::Uuid;

const DOMAIN: &[u8] = b"sallyport egress v1\0";

/// A permission to fetch. Its text is the user name in the proxy URL, and its signature the password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EgressToken {
    /// The job or query that it is for.
    pub job: Uuid,
    /// When it expires, in seconds since the Unix epoch.
    pub until: i64,
    /// How many bytes may be transferred, both ways together.
    pub bytes: u64,
}

/// Why an egress token is refused.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum EgressTokenError {
    /// The token is missing or malformed.
    #[error("the egress token is missing or malformed")]
    Malformed,
    /// The signature does not match.
    #[error("the signature of the egress token is wrong")]
    Forged,
    /// The token has expired.
    #[error("the egress token has expired")]
    Expired,
}

/// The key that the worker and the guard share (`secrets/egress.key`).
pub struct EgressTokenKey(SecretBox<[u8]>);

impl fmt::Display for EgressToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.job.simple(), self.until, self.bytes)
    }
}

impl FromStr for EgressToken {
    type Err = EgressTokenError;

    fn from_str(text: &str) -> Result<Self, EgressTokenError> {
        let mut parts = text.split('.');
        let token = (|| {
            let job = parts.next()?;
            let until = parts.next()?;
            let bytes = parts.next()?;
            let job = Uuid::try_parse(job).ok()?;
            Some(Self { job, until: until.parse().ok()?, bytes: bytes.parse().ok()? })
        })();
        // Accepts only one spelling, so that the parsed token is the signed one.
        token.filter(|token| token.to_string() == text).ok_or(EgressTokenError::Malformed)
    }
}

impl EgressTokenKey {
    /// Creates a key from the bytes of the secret.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        Self(SecretBox::new(secret.into()))
    }

    /// Returns `USER:PASSWORD` for a proxy URL. Neither contains a character that a URL would have to escape.
    #[must_use]
    pub fn sign(&self, token: &EgressToken) -> String {
        let mac = self.mac(&token.to_string()).finalize().into_bytes();
        format!("{token}:{}", BASE64URL_NOPAD.encode(&mac))
    }

    /// Verifies `USER:PASSWORD` at `now` (Unix seconds).
    ///
    /// # Errors
    /// Fails unless it is a token that was signed with this key and has not expired.
    pub fn verify(&self, credential: &str, now: i64) -> Result<EgressToken, EgressTokenError> {
        let (token, mac) = credential.split_once(':').ok_or(EgressTokenError::Malformed)?;
        let mac = BASE64URL_NOPAD.decode(mac.as_bytes()).map_err(|_| EgressTokenError::Malformed)?;
        self.mac(token).verify_slice(&mac).map_err(|_| EgressTokenError::Forged)?;
        let token: EgressToken = token.parse()?;
        if now >= token.until { Err(EgressTokenError::Expired) } else { Ok(token) }
    }

    fn mac(&self, token: &str) -> Hmac<Sha256> {
        let mut mac = hmac_sha256(self.0.expose_secret());
        mac.update(DOMAIN);
        mac.update(token.as_bytes());
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_valid_under_its_key_until_it_expires_and_in_one_spelling() {
        let key = EgressTokenKey::new(b"0123456789abcdef0123456789abcdef");
        let token = EgressToken { job: Uuid::from_u128(7), until: 1_000, bytes: 5 };
        let signed = key.sign(&token);
        assert_eq!(key.verify(&signed, 999), Ok(token));
        assert_eq!(key.verify(&signed, 1_000), Err(EgressTokenError::Expired));
        assert_eq!(EgressTokenKey::new(b"another").verify(&signed, 999), Err(EgressTokenError::Forged));
        assert_eq!(key.verify(&signed.replace(".5:", ".6:"), 999), Err(EgressTokenError::Forged));
        for text in ["", ":", "a:b", "a.b.c:!"] {
            assert!(key.verify(text, 999).is_err(), "{text}");
        }
        assert_eq!("00000000000000000000000000000007.+1.5".parse::<EgressToken>(), Err(EgressTokenError::Malformed));
        assert_eq!("00000000-0000-0000-0000-000000000007.1.5".parse::<EgressToken>(), Err(EgressTokenError::Malformed));
    }
}
