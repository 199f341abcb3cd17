//! `sallyport token`: tokens under the instance's own secret.

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use data_encoding::HEXLOWER;
use serde_json::{Map, Value, json};

use super::{
    grant,
    output::Common,
    state::{State, now},
};
use crate::{
    config::Duration,
    identity::{Scopes, jwt},
    random::random,
    store::UserRecord,
    username::UserName,
};

#[derive(Debug, Subcommand)]
pub(super) enum Token {
    /// Makes a token (HS256).
    Issue(Issue),
}

#[derive(Debug, Args)]
pub(super) struct Issue {
    #[command(flatten)]
    common: Common,
    /// For whom; the first administrator unless given.
    #[arg(long)]
    user: Option<UserName>,
    /// What it may be used for; everything the user may do unless given.
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// How long it works.
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
        claims.insert("iat".into(), now().into());
        claims.insert("exp".into(), expires.into());
        claims.insert("jti".into(), HEXLOWER.encode(&random::<8>()).into());
        let jwt = &state.config.jwt;
        claims.extend(jwt.issuer.iter().map(|issuer| ("iss".into(), issuer.as_str().into())));
        claims.extend(jwt.audience.iter().map(|audience| ("aud".into(), audience.as_str().into())));
        claims
    }
}

/// A secret that was made here would end every token under the one that the gateway has.
fn no_secret(state: &State) -> String {
    let (file, variable) = (state.config.secrets_dir().join("jwt.key"), &state.config.jwt.secret_env);
    format!(
        "there is no secret to sign with: {} does not exist, and {variable} is not set here. Set {variable} to the gateway's value; where the gateway has none either, start it once and it makes the file",
        file.display(),
    )
}
