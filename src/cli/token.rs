//! `sallyport token`: issues tokens signed with the instance's own secret.

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use data_encoding::HEXLOWER;
use sallyport_core::{clock, config::Duration, names::username::UserName, secrets::random::random};
use sallyport_gateway::{
    identity::{Scopes, jwt},
    store::UserRecord,
};
use serde_json::{Map, Value, json};

use super::{grant, output::Common, state::State};

#[derive(Debug, Subcommand)]
pub(super) enum Token {
    /// Issue a token (HS256).
    Issue(Issue),
}

#[derive(Debug, Args)]
pub(super) struct Issue {
    #[command(flatten)]
    common: Common,
    /// User of the token (default: the first administrator).
    #[arg(long)]
    user: Option<UserName>,
    /// Scope of the token; can be repeated (default: everything the user may do).
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// Lifetime of the token.
    #[arg(long, value_name = "DURATION", default_value = "1h")]
    expires: Duration,
}

impl Token {
    pub(super) fn run(self) -> Result<()> {
        let Self::Issue(issue) = self;
        issue.run()
    }
}

impl Issue {
    fn run(self) -> Result<()> {
        let state = State::open(&self.common.config)?;
        let user = state.user(self.user.as_ref())?;
        let scopes = grant::scopes(&state, &self.scopes)?;
        let expires = grant::end(self.expires)?;
        let secret = state.secrets.jwt_at_hand()?.with_context(|| no_secret(&state))?;
        let token = jwt::issue(&secret, &Self::claims(&state, &user, &scopes, expires))?;
        self.common.output.print(&json!({ "token": token }), |_| token.clone())
    }

    fn claims(state: &State, user: &UserRecord, scopes: &Scopes, expires: i64) -> Map<String, Value> {
        let mut claims = Map::new();
        claims.insert("sub".into(), user.name.as_str().into());
        claims.insert("sallyport_uid".into(), user.id.0.into());
        claims.insert("scope".into(), scopes.to_string().into());
        claims.insert("iat".into(), clock::unix_now().into());
        claims.insert("exp".into(), expires.into());
        claims.insert("jti".into(), HEXLOWER.encode(&random::<8>()).into());
        let jwt = &state.config.jwt;
        claims.extend(jwt.issuer.iter().map(|issuer| ("iss".into(), issuer.as_str().into())));
        claims.extend(jwt.audience.iter().map(|audience| ("aud".into(), audience.as_str().into())));
        claims
    }
}

/// Explains the missing secret. A secret created here would invalidate every token signed with the gateway's secret.
fn no_secret(state: &State) -> String {
    let file = state.config.secrets_dir().join("jwt.key");
    let variable = &state.config.jwt.secret_env;
    format!(
        "cannot sign: {} does not exist, and {variable} is not set here. Set {variable} to the gateway's value, or, if the gateway does not use it, start the gateway once to create the file",
        file.display(),
    )
}
