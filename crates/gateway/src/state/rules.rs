//! The contents of `config.toml` and the policies, compiled, and the verifiers of tokens and client certificates that they name.

use std::{path::PathBuf, sync::Arc};

use sallyport_core::config::Config;
use secrecy::SecretString;

use super::{error::StateError, geoip::GeoIp};
use crate::{
    identity::{
        ClientAuthorities,
        jwt::{Expected, JwtVerifier},
    },
    policy::{self, Site},
    store::Secrets,
};

/// The contents of `config.toml` and the policies, replaced as a whole.
pub(crate) struct Rules {
    /// The configuration.
    pub config: Arc<Config>,
    /// The applications and their policies.
    pub site: Site,
    /// The country database, if one is configured.
    pub countries: Option<GeoIp>,
    /// The authorities of client certificates, if any are requested.
    pub client_authorities: Option<Arc<ClientAuthorities>>,
    pub(crate) jwt: Arc<JwtVerifier>,
    token_secret: TokenSecret,
}

/// Where the secret of the gateway's own tokens comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TokenSecret {
    InItsFile,
    InTheEnvironment,
}

impl Rules {
    pub(super) fn read(config: Arc<Config>, old: Option<&Self>, secrets: &Secrets) -> Result<Self, StateError> {
        let site = match old {
            Some(old) => policy::compile_after(&config, &old.site)?,
            None => policy::compile(&config)?,
        };
        let countries = config.geoip.as_deref().map(GeoIp::load).transpose()?;
        let known = old.and_then(|old| old.client_authorities.as_ref());
        let client_authorities = client_authorities(&config)?.map(Arc::new).map(|new| match known {
            // TLS sessions can be resumed as long as the authorities are the same.
            Some(known) if known.is_same(&new) => Arc::clone(known),
            _ => new,
        });
        // Replacing a secret whose file is missing would invalidate every token.
        let secret = match old.map(|old| old.token_secret) {
            Some(TokenSecret::InItsFile) if !secrets.has_jwt_file() => return Err(secrets.gone("jwt.key").into()),
            Some(_) => secrets.jwt_at_hand()?.ok_or_else(|| secrets.gone("jwt.key"))?,
            None => secrets.jwt()?,
        };
        let token_secret = if secrets.has_jwt_file() { TokenSecret::InItsFile } else { TokenSecret::InTheEnvironment };
        let jwt = Arc::new(jwt_verifier(&config, &secret)?);
        Ok(Self { config, site, countries, client_authorities, jwt, token_secret })
    }
}

/// Reads the authorities of client certificates, if any are requested.
pub fn client_authorities(config: &Config) -> Result<Option<ClientAuthorities>, StateError> {
    let Some(clients) = &config.tls.clients else { return Ok(None) };
    let read = |path: &PathBuf| std::fs::read(path).map_err(|e| StateError::Io(path.clone(), e));
    let lists = clients.crl.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let authorities = ClientAuthorities::new(&read(&clients.ca)?, &lists, clients.user);
    authorities.map(Some).map_err(|e| StateError::ClientAuthorities(clients.ca.clone(), e))
}

/// Returns the verifier of tokens that are signed with `secret` or with a configured public key.
pub fn jwt_verifier(config: &Config, secret: &SecretString) -> Result<JwtVerifier, StateError> {
    let jwt = &config.jwt;
    let expected = Expected { issuer: jwt.issuer.clone(), audience: jwt.audience.clone() };
    let mut verifier = JwtVerifier::new(secret, &expected, jwt.leeway);
    for key in &jwt.keys {
        let pem = std::fs::read(&key.file).map_err(|e| StateError::Io(key.file.clone(), e))?;
        let expected = Expected { issuer: key.issuer.clone(), audience: key.audience.clone() };
        let added = verifier.add_public_key(key.algorithm, &pem, key.id.clone(), &expected);
        added.map_err(|e| StateError::PublicKey(key.file.clone(), e))?;
    }
    Ok(verifier)
}
