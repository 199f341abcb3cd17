//! JSON Web Tokens by RFC 8725: each key has one algorithm, `exp` is required, and nothing in a token's header selects a key except
//! a `kid` that looks up a configured one.

mod verifying_key;

use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use sallyport_core::{config::JwtAlgorithm, names::username::UserName};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use self::verifying_key::{Claims, VerifyingKey};
pub use self::verifying_key::{Expected, InvalidPublicKey};
use super::{Fingerprint, Scopes, UserId};

/// The longest accepted token, in bytes.
const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// The claims of a token with a valid signature, and the key that verified it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenGrant {
    /// The user.
    pub user: UserName,
    /// The user's id, if the token carries it.
    pub id: Option<UserId>,
    /// The scopes.
    #[serde(with = "super::scopes::as_text")]
    pub scopes: Scopes,
    /// The issuer.
    pub issuer: Issuer,
    /// The token's id.
    pub jti: Option<Box<str>>,
    #[serde(with = "super::fingerprint::as_text")]
    key: Fingerprint,
    exp: f64,
    nbf: Option<f64>,
    iat: Option<f64>,
}

/// The issuer of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Issuer {
    /// A holder of this gateway's own secret.
    Own,
    /// The holder of the private key for a configured public key.
    Foreign,
}

/// Why a token is refused.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum TokenError {
    /// The token proves nothing: it is malformed, uses another algorithm or has a wrong signature.
    #[error("the token is not valid")]
    Invalid,
    /// The token is genuine, but meant for others or lacks a required claim; or its key is unknown or was removed.
    #[error("the token cannot be used here")]
    Unusable,
    /// The token has expired.
    #[error("the token has expired")]
    Expired,
    /// The token is not valid yet.
    #[error("the token is not valid yet")]
    Early,
}

/// The keys and rules that verify tokens.
pub struct JwtVerifier {
    keys: Vec<VerifyingKey>,
    leeway: f64,
}

impl JwtVerifier {
    /// Creates a verifier for tokens signed with our own secret (HS256).
    #[must_use]
    pub fn new(secret: &SecretString, expected: &Expected, leeway: Duration) -> Self {
        Self { keys: vec![VerifyingKey::own(secret, expected)], leeway: leeway.as_secs_f64() }
    }

    /// Adds a public key that verifies tokens.
    pub fn add_public_key(
        &mut self,
        algorithm: JwtAlgorithm,
        pem: &[u8],
        kid: Option<String>,
        expected: &Expected,
    ) -> Result<(), InvalidPublicKey> {
        self.keys.push(VerifyingKey::foreign(algorithm, pem, kid, expected)?);
        Ok(())
    }

    /// Verifies `token` at `now` (Unix seconds).
    pub fn verify(&self, token: &str, now: i64) -> Result<TokenGrant, TokenError> {
        let grant = self.recognise(token)?;
        self.judge(&grant, now)?;
        Ok(grant)
    }

    /// Returns the claims of a token if its signature is valid, whether or not the token is still usable.
    pub fn recognise(&self, token: &str) -> Result<TokenGrant, TokenError> {
        let header =
            Some(token).filter(|t| t.len() <= MAX_TOKEN_BYTES).and_then(|t| jsonwebtoken::decode_header(t).ok());
        let header = header.filter(is_plain).ok_or(TokenError::Invalid)?;
        let of_algorithm = self.keys.iter().filter(|key| key.algorithm == header.alg);
        let mut candidates = of_algorithm.clone().filter(|key| key.answers_to(header.kid.as_deref())).peekable();
        if candidates.peek().is_none() {
            // Issuers rotate their keys. Without a candidate key no signature was checked, so this is not a guess.
            let other = of_algorithm.count() > 0 && header.kid.is_some();
            return Err(if other { TokenError::Unusable } else { TokenError::Invalid });
        }
        let mut refused = TokenError::Invalid;
        for key in candidates {
            match key.claims(token) {
                Ok(claims) => return TokenGrant::new(key, claims),
                Err(TokenError::Invalid) => {}
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }

    /// Checks that a recognised token is valid at `now`, and that its key is still configured.
    pub fn judge(&self, token: &TokenGrant, now: i64) -> Result<(), TokenError> {
        if !self.keys.iter().any(|key| key.fingerprint == token.key) {
            return Err(TokenError::Unusable);
        }
        self.check_times(token, now)
    }

    #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 fit a double exactly for 285 million years")]
    fn check_times(&self, token: &TokenGrant, now: i64) -> Result<(), TokenError> {
        let now = now as f64;
        if !token.exp.is_finite() || token.exp + self.leeway < now {
            return Err(TokenError::Expired);
        }
        match token.nbf {
            Some(nbf) if nbf.is_nan() || nbf - self.leeway > now => Err(TokenError::Early),
            _ => Ok(()),
        }
    }
}

impl TokenGrant {
    fn new(key: &VerifyingKey, claims: Claims) -> Result<Self, TokenError> {
        let id = claims.user_id.filter(|_| key.issuer == Issuer::Own).and_then(|id| id.as_i64()).map(UserId);
        Ok(Self {
            user: UserName::of_subject(&claims.sub).ok_or(TokenError::Unusable)?,
            id,
            scopes: Scopes::of_claim(&claims.scope),
            issuer: key.issuer,
            jti: claims.jti.map(Into::into),
            key: key.fingerprint,
            exp: claims.exp,
            nbf: claims.nbf,
            iat: claims.iat,
        })
    }

    /// Returns when the token expires, in whole Unix seconds.
    #[must_use]
    pub fn expires(&self) -> i64 {
        whole(self.exp)
    }

    /// Returns when the token was issued, if it says so.
    #[must_use]
    pub fn issued(&self) -> Option<i64> {
        self.iat.map(whole)
    }

    /// Serialises the grant for [`TokenGrant::from_json`].
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Parses a grant that [`TokenGrant::to_json`] has serialised.
    #[must_use]
    pub fn from_json(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the cast saturates, and NaN becomes 0")]
fn whole(seconds: f64) -> i64 {
    seconds.floor() as i64
}

/// Creates a token signed with our own secret.
pub fn issue(secret: &SecretString, claims: &impl Serialize) -> Result<String, jsonwebtoken::errors::Error> {
    let key = EncodingKey::from_secret(secret.expose_secret().as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &key)
}

/// Returns true for a header without an embedded or referenced key or special processing (RFC 8725, sections 3.5 and 3.10).
fn is_plain(header: &Header) -> bool {
    let Header { jku, jwk, x5u, x5c, crit, enc, zip, .. } = header;
    jku.is_none() && jwk.is_none() && x5u.is_none() && x5c.is_none() && crit.is_none() && enc.is_none() && zip.is_none()
}

#[cfg(test)]
#[path = "jwt_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "jwt_rfc_tests.rs"]
mod rfc_tests;
