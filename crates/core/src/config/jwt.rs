//! `[jwt]`: how JSON Web Tokens are verified.

use std::{path::PathBuf, time};

use serde::{Deserialize, Serialize};

use super::{
    base::Base,
    effect::{AT_ONCE, Named::Table, RESTART_GATEWAY, toml_table},
    fault::Faults,
    units::Duration,
};

const MAX_LEEWAY: time::Duration = time::Duration::from_mins(1);

toml_table! {
    /// `[jwt]`
    struct JwtToml {
        secret_env: String = "JWT_SECRET_KEY".into() => RESTART_GATEWAY;
        issuer: Option<String> = None => AT_ONCE;
        audience: Option<String> = None => AT_ONCE;
        leeway: Duration = Duration::seconds(30) => AT_ONCE;
        key: Vec<JwtKeyToml> = Vec::new() => Table(JwtKeyToml::KEYS);
    }
}

toml_table! {
    /// `[[jwt.key]]`: a public key whose tokens are accepted as well.
    struct JwtKeyToml {
        algorithm: JwtAlgorithm => AT_ONCE;
        file: PathBuf => AT_ONCE;
        id: Option<String> => AT_ONCE;
        issuer: Option<String> => AT_ONCE;
        audience: Option<String> => AT_ONCE;
    }
}

/// The signature algorithms of public keys; each key has exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum JwtAlgorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RS256,
    /// ECDSA on P-256 with SHA-256.
    ES256,
    /// Ed25519.
    EdDSA,
}

/// The settings for JSON Web Tokens.
#[derive(Clone, Debug)]
pub struct JwtConfig {
    /// The environment variable that can hold the secret.
    pub secret_env: String,
    /// The `iss` that tokens must have, if set.
    pub issuer: Option<String>,
    /// The `aud` that tokens must have, if set.
    pub audience: Option<String>,
    /// The tolerance for clock skew, at most 60 s (RFC 8725 leaves it open; RFC 7519, section 4.1.4, allows at most "a few minutes").
    pub leeway: time::Duration,
    /// Public keys whose tokens are accepted as well.
    pub keys: Vec<JwtKeyConfig>,
}

/// A public key that verifies tokens.
#[derive(Clone, Debug)]
pub struct JwtKeyConfig {
    /// The only algorithm that it is used with.
    pub algorithm: JwtAlgorithm,
    /// The PEM file.
    pub file: PathBuf,
    /// The `kid` that selects it; a key without one is tried for tokens without a `kid`.
    pub id: Option<String>,
    /// The `iss` that its tokens must have, if set.
    pub issuer: Option<String>,
    /// The `aud` that its tokens must have, if set.
    pub audience: Option<String>,
}

impl JwtConfig {
    pub(super) fn resolve(jwt: JwtToml, base: Base<'_>, faults: &mut Faults<'_>) -> Self {
        if jwt.leeway.0 > MAX_LEEWAY {
            faults.add("leeway", "must be at most \"60s\"");
        }
        Self {
            secret_env: jwt.secret_env,
            issuer: jwt.issuer,
            audience: jwt.audience,
            leeway: jwt.leeway.0,
            keys: jwt.key.into_iter().map(|key| JwtKeyConfig::resolve(key, base)).collect(),
        }
    }
}

impl JwtKeyConfig {
    fn resolve(key: JwtKeyToml, base: Base<'_>) -> Self {
        Self {
            algorithm: key.algorithm,
            file: base.path(key.file),
            id: key.id,
            issuer: key.issuer,
            audience: key.audience,
        }
    }
}
