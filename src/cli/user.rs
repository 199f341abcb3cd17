//! `sallyport user`: manages the users who hold keys and own downloads.

use std::io::BufRead;

use anyhow::{Context, Result, bail};
use argon2::{Argon2, password_hash::PasswordHasher};
use clap::{
    Args, Subcommand,
    builder::{PossibleValue, PossibleValuesParser, TypedValueParser},
};
use sallyport_core::{
    clock,
    names::{role::Role, username::UserName},
};
use sallyport_gateway::store::Withdrawal;
use serde_json::json;

use super::{
    output::{Common, table},
    state::State,
};

/// OWASP ASVS 6.2.1 requires at least 8 and recommends 15; the upper limit keeps hashing cheap.
const PASSWORD_CHARS: std::ops::RangeInclusive<usize> = 8..=256;

#[derive(Debug, Subcommand)]
pub(super) enum User {
    /// Add a user.
    Add(Add),
    /// List users.
    List(List),
    /// Remove a user; this revokes their keys, links and certificates.
    Remove(Remove),
}

#[derive(Debug, Args)]
pub(super) struct Add {
    #[command(flatten)]
    common: Common,
    /// Name of the user.
    name: UserName,
    /// Role of the user.
    #[arg(long, value_parser = role_parser(), default_value = Role::User.name())]
    role: Role,
    /// Read the password from the first line of standard input.
    #[arg(long)]
    password_stdin: bool,
}

#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub(super) struct Remove {
    #[command(flatten)]
    common: Common,
    /// Name of the user.
    name: UserName,
}

impl User {
    pub(super) fn run(self) -> Result<()> {
        match self {
            Self::Add(add) => add.run(),
            Self::List(list) => list.run(),
            Self::Remove(remove) => remove.run(),
        }
    }
}

impl Add {
    fn run(self) -> Result<()> {
        let state = State::open(&self.common.config)?;
        let hash = if self.password_stdin { Some(hash_password(&read_password()?)?) } else { None };
        if !state.store.add_user(&self.name, self.role, hash.as_deref(), clock::unix_now())? {
            bail!("the user {} already exists", self.name);
        }
        state.announce()?;
        let document = json!({ "name": self.name, "role": self.role });
        self.common.output.print(&document, |_| format!("Added {} as {}.", self.name, self.role))
    }
}

impl List {
    fn run(self) -> Result<()> {
        let state = State::open(&self.common.config)?;
        let users = state.store.users()?;
        let listed: Vec<_> = users.iter().map(|u| json!({ "name": u.name, "role": u.role })).collect();
        self.common.output.print(&json!({ "users": listed }), |_| {
            table(["NAME", "ROLE"], &users.iter().map(|u| [u.name.to_string(), u.role.to_string()]).collect::<Vec<_>>())
        })
    }
}

impl Remove {
    fn run(self) -> Result<()> {
        let state = State::open(&self.common.config)?;
        let admins = state.store.users()?.into_iter().filter(|user| user.role == Role::Admin);
        if admins.map(|user| user.name).eq([self.name.clone()]) {
            bail!("{} is the only administrator; add another administrator first", self.name);
        }
        if !state.withdraw(&Withdrawal::User { name: self.name.clone(), at: clock::unix_now() })? {
            bail!("there is no user {}", self.name);
        }
        let document = json!({ "name": self.name, "removed": true });
        self.common.output.print(&document, |_| format!("Removed {}, including keys and links.", self.name))
    }
}

fn role_parser() -> impl TypedValueParser<Value = Role> {
    let described = Role::ALL.map(|role| {
        PossibleValue::new(role.name()).help(match role {
            Role::Admin => "Allows everything, on the objects of all users",
            Role::User => "Allows what keys and policies allow, on the user's own objects",
        })
    });
    PossibleValuesParser::new(described).try_map(|name| name.parse())
}

/// Hashes a password with Argon2id, in the PHC string format.
pub(super) fn hash_password(password: &str) -> Result<String> {
    if !PASSWORD_CHARS.contains(&password.chars().count()) {
        bail!("a password must have {} to {} characters", PASSWORD_CHARS.start(), PASSWORD_CHARS.end());
    }
    let hash = Argon2::default().hash_password(password.as_bytes());
    Ok(hash.map_err(|e| anyhow::anyhow!("cannot hash the password: {e}"))?.to_string())
}

fn read_password() -> Result<String> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).context("no password on standard input")?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
