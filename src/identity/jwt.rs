//! JSON Web Tokens by RFC 8725: each key has one algorithm, `exp` is required, nothing in a token's header chooses a key
//! but a `kid` that only looks one up.

use std::time::Duration;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::Scopes;
use crate::{config::JwtAlgorithm, username::UserName};

/// The longest token that is looked at, in bytes.
const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// What a token says, as far as it matters here (RFC 7519, section 4.1; RFC 8693, section 4.2 for `scope`).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Claims {
    /// The user.
    pub sub: String,
    /// The scopes, separated by spaces.
    #[serde(default)]
    pub scope: String,
    /// Until when, in Unix seconds; may have a fraction.
    pub exp: f64,
    /// From when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<f64>,
    /// When it was issued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iat: Option<f64>,
    /// Who issued it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
    /// The token's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
}

/// A token that was verified.
#[derive(Debug)]
pub struct VerifiedToken {
    /// The user.
    pub user: UserName,
    /// The scopes.
    pub scopes: Scopes,
    /// Who vouches for it.
    pub issuer: Issuer,
}

/// Who vouches for a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Issuer {
    /// Whoever holds this gateway's own secret.
    Own,
    /// The holder of a public key's other half.
    Foreign,
}

/// Why a token is not believed.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum TokenError {
    /// It proves nothing: garbled, of another key or algorithm, not for us.
    #[error("the token is not valid here")]
    Invalid,
    /// It was valid once.
    #[error("the token has expired")]
    Expired,
    /// It is not valid yet.
    #[error("the token is not valid yet")]
    Early,
}

/// A key file that does not fit its algorithm.
#[derive(Debug, Error)]
#[error("not a public key for {0:?} in PEM form: {1}")]
pub struct InvalidPublicKey(JwtAlgorithm, jsonwebtoken::errors::Error);

/// Everything that verifies tokens.
pub struct JwtVerifier {
    keys: Vec<VerifyingKey>,
    leeway: f64,
}

struct VerifyingKey {
    kid: Option<String>,
    issuer: Issuer,
    algorithm: Algorithm,
    key: DecodingKey,
    validation: Validation,
}

/// Who a token must come from and be meant for, where that is set.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    /// The `iss`.
    pub issuer: Option<String>,
    /// The `aud`.
    pub audience: Option<String>,
}

impl JwtVerifier {
    /// Verifies tokens under our own secret by HS256.
    #[must_use]
    pub fn new(secret: &SecretString, expected: &Expected, leeway: Duration) -> Self {
        let own = VerifyingKey {
            kid: None,
            issuer: Issuer::Own,
            algorithm: Algorithm::HS256,
            key: DecodingKey::from_secret(secret.expose_secret().as_bytes()),
            validation: validation(Algorithm::HS256, expected),
        };
        Self { keys: vec![own], leeway: leeway.as_secs_f64() }
    }

    /// Verifies tokens under a public key as well.
    pub fn add_public_key(
        &mut self,
        algorithm: JwtAlgorithm,
        pem: &[u8],
        kid: Option<String>,
        expected: &Expected,
    ) -> Result<(), InvalidPublicKey> {
        let (key, jwa) = match algorithm {
            JwtAlgorithm::RS256 => (DecodingKey::from_rsa_pem(pem), Algorithm::RS256),
            JwtAlgorithm::ES256 => (DecodingKey::from_ec_pem(pem), Algorithm::ES256),
            JwtAlgorithm::EdDSA => (DecodingKey::from_ed_pem(pem), Algorithm::EdDSA),
        };
        let key = key.map_err(|e| InvalidPublicKey(algorithm, e))?;
        let validation = validation(jwa, expected);
        self.keys.push(VerifyingKey { kid, issuer: Issuer::Foreign, algorithm: jwa, key, validation });
        Ok(())
    }

    /// Verifies `token` at `now` (Unix seconds).
    pub fn verify(&self, token: &str, now: i64) -> Result<VerifiedToken, TokenError> {
        let header =
            Some(token).filter(|t| t.len() <= MAX_TOKEN_BYTES).and_then(|t| jsonwebtoken::decode_header(t).ok());
        let header = header.filter(is_plain).ok_or(TokenError::Invalid)?;
        let candidates = self.keys.iter().filter(|k| k.algorithm == header.alg && k.answers_to(header.kid.as_deref()));
        let mut verified = candidates.filter_map(|k| Some((k.issuer, k.claims(token)?)));
        let (issuer, claims) = verified.next().ok_or(TokenError::Invalid)?;
        self.check_times(&claims, now)?;
        Ok(VerifiedToken {
            user: claims.sub.parse().map_err(|_| TokenError::Invalid)?,
            scopes: claims.scope.parse().map_err(|_| TokenError::Invalid)?,
            issuer,
        })
    }

    #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 fit a double exactly for 285 million years")]
    fn check_times(&self, claims: &Claims, now: i64) -> Result<(), TokenError> {
        let now = now as f64;
        if !claims.exp.is_finite() || claims.exp + self.leeway < now {
            return Err(TokenError::Expired);
        }
        match claims.nbf {
            Some(nbf) if nbf.is_nan() || nbf - self.leeway > now => Err(TokenError::Early),
            _ => Ok(()),
        }
    }
}

impl VerifyingKey {
    fn answers_to(&self, kid: Option<&str>) -> bool {
        self.issuer == Issuer::Own || self.kid.as_deref() == kid
    }

    fn claims(&self, token: &str) -> Option<Claims> {
        jsonwebtoken::decode::<Claims>(token, &self.key, &self.validation).ok().map(|data| data.claims)
    }
}

/// Makes a token under our own secret.
pub fn issue(secret: &SecretString, claims: &impl Serialize) -> Result<String, jsonwebtoken::errors::Error> {
    let key = EncodingKey::from_secret(secret.expose_secret().as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &key)
}

/// True for a header that brings no key of its own and asks for nothing special (RFC 8725, sections 3.5 and 3.10).
fn is_plain(header: &Header) -> bool {
    let Header { jku, jwk, x5u, x5c, crit, enc, zip, .. } = header;
    jku.is_none() && jwk.is_none() && x5u.is_none() && x5c.is_none() && crit.is_none() && enc.is_none() && zip.is_none()
}

/// Times are judged by [`JwtVerifier::check_times`], whose clock is an argument.
fn validation(algorithm: Algorithm, expected: &Expected) -> Validation {
    let mut validation = Validation::new(algorithm);
    let mut required = vec!["exp", "sub"];
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = expected.audience.is_some();
    if let Some(audience) = &expected.audience {
        validation.set_audience(&[audience]);
        required.push("aud");
    }
    if let Some(issuer) = &expected.issuer {
        validation.set_issuer(&[issuer]);
        required.push("iss");
    }
    validation.set_required_spec_claims(&required);
    validation
}

#[cfg(test)]
#[path = "jwt_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "jwt_rfc_tests.rs"]
mod rfc_tests;
