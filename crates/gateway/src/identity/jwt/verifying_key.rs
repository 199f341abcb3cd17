//! One key that verifies tokens, and what it requires of them.

use jsonwebtoken::{Algorithm, DecodingKey, Validation, errors::ErrorKind};
use sallyport_core::config::JwtAlgorithm;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

use super::{Issuer, TokenError};
use crate::identity::Fingerprint;

/// A key that verifies tokens, with the requirements for those tokens.
pub(super) struct VerifyingKey {
    pub(super) fingerprint: Fingerprint,
    pub(super) kid: Option<String>,
    pub(super) issuer: Issuer,
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
    pub(super) validation: Validation,
}

/// The required issuer and audience of a token, if set.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    /// The `iss`.
    pub issuer: Option<String>,
    /// The `aud`.
    pub audience: Option<String>,
}

/// The claims of a token that matter here (RFC 7519, section 4.1).
#[derive(Debug, Deserialize)]
pub(super) struct Claims {
    pub(super) sub: String,
    /// A string by RFC 8693, section 4.2; many issuers write a list.
    #[serde(default)]
    pub(super) scope: Value,
    /// The expiry, in Unix seconds, possibly with a fraction.
    pub(super) exp: f64,
    /// The start of validity.
    #[serde(default)]
    pub(super) nbf: Option<f64>,
    /// The time of issue.
    #[serde(default)]
    pub(super) iat: Option<f64>,
    /// The token's id.
    #[serde(default)]
    pub(super) jti: Option<String>,
    /// The user's id, which only tokens issued by this gateway carry.
    #[serde(default, rename = "sallyport_uid")]
    pub(super) user_id: Option<Value>,
}

/// A key file that does not match its algorithm.
#[derive(Debug, Error)]
#[error("not a PEM public key for {0:?}: {1}")]
pub struct InvalidPublicKey(JwtAlgorithm, jsonwebtoken::errors::Error);

impl VerifyingKey {
    /// Creates the key for our own secret (HS256).
    pub(super) fn own(secret: &SecretString, expected: &Expected) -> Self {
        let key = secret.expose_secret().as_bytes();
        Self {
            fingerprint: fingerprint(key, Algorithm::HS256, None, expected),
            kid: None,
            issuer: Issuer::Own,
            algorithm: Algorithm::HS256,
            key: DecodingKey::from_secret(key),
            validation: validation(Algorithm::HS256, expected),
        }
    }

    /// Creates a key from a public key in PEM format.
    pub(super) fn foreign(
        algorithm: JwtAlgorithm,
        pem: &[u8],
        kid: Option<String>,
        expected: &Expected,
    ) -> Result<Self, InvalidPublicKey> {
        let key = decoding_key(algorithm, pem).map_err(|e| InvalidPublicKey(algorithm, e))?;
        let algorithm = registered(algorithm);
        let validation = validation(algorithm, expected);
        let fingerprint = fingerprint(pem, algorithm, kid.as_deref(), expected);
        Ok(Self { fingerprint, kid, issuer: Issuer::Foreign, algorithm, key, validation })
    }

    /// Returns true if a token with this `kid` may be signed with the key.
    pub(super) fn answers_to(&self, kid: Option<&str>) -> bool {
        self.issuer == Issuer::Own || self.kid.as_deref() == kid
    }

    /// Returns the claims of a token that this key has signed.
    pub(super) fn claims(&self, token: &str) -> Result<Claims, TokenError> {
        match jsonwebtoken::decode::<Claims>(token, &self.key, &self.validation) {
            Ok(data) => Ok(data.claims),
            Err(error) => Err(fault(error.kind())),
        }
    }
}

fn decoding_key(algorithm: JwtAlgorithm, pem: &[u8]) -> Result<DecodingKey, jsonwebtoken::errors::Error> {
    match algorithm {
        JwtAlgorithm::RS256 => DecodingKey::from_rsa_pem(pem),
        JwtAlgorithm::ES256 => DecodingKey::from_ec_pem(pem),
        JwtAlgorithm::EdDSA => DecodingKey::from_ed_pem(pem),
    }
}

/// Returns the algorithm under its registered name.
const fn registered(algorithm: JwtAlgorithm) -> Algorithm {
    match algorithm {
        JwtAlgorithm::RS256 => Algorithm::RS256,
        JwtAlgorithm::ES256 => Algorithm::ES256,
        JwtAlgorithm::EdDSA => Algorithm::EdDSA,
    }
}

/// Covers every requirement for tokens of the key, so that a key with different requirements counts as a different key.
fn fingerprint(key: &[u8], algorithm: Algorithm, kid: Option<&str>, expected: &Expected) -> Fingerprint {
    let algorithm = format!("{algorithm:?}");
    let issuer = expected.issuer.as_deref().unwrap_or_default();
    let audience = expected.audience.as_deref().unwrap_or_default();
    Fingerprint::of(key, &[&algorithm, kid.unwrap_or_default(), issuer, audience])
}

/// Classifies an error. Errors about claims imply a valid signature, which is verified first.
const fn fault(kind: &ErrorKind) -> TokenError {
    match kind {
        ErrorKind::Json(_)
        | ErrorKind::MissingRequiredClaim(_)
        | ErrorKind::InvalidClaimFormat(_)
        | ErrorKind::InvalidIssuer
        | ErrorKind::InvalidAudience
        | ErrorKind::InvalidSubject => TokenError::Unusable,
        _ => TokenError::Invalid,
    }
}

/// Leaves times to `JwtVerifier::check_times`, which takes the clock as an argument.
pub(super) fn validation(algorithm: Algorithm, expected: &Expected) -> Validation {
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
