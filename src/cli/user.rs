//! `sallyport user`: who may hold keys and own downloads.

use std::io::BufRead;

use anyhow::{Context, Result, bail};
use argon2::{Argon2, password_hash::PasswordHasher};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use super::{
    output::{Common, table},
    state::{State, now},
};
use crate::{store::Withdrawal, username::UserName};

/// OWASP ASVS 6.2.1 asks for 8 at least and advises 15; a limit above keeps hashing cheap.
const PASSWORD_CHARS: std::ops::RangeInclusive<usize> = 8..=256;

#[derive(Debug, Subcommand)]
pub(super) enum User {
    /// Adds a user.
    Add(Add),
    /// Lists users.
    List(List),
    /// Removes a user; keys, links and certificates of theirs are good for nothing from then on.
    Remove(Remove),
}

#[derive(Debug, Args)]
pub(super) struct Add {
    #[command(flatten)]
    common: Common,
    /// The name.
    name: UserName,
    /// What the user may do.
    #[arg(long, value_enum, default_value = "user")]
    role: Role,
    /// Take the password from the first line of standard input.
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
    /// The name.
    name: UserName,
}

/// What a user may do.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Role {
    /// Everything, on everybody's objects.
    Admin,
    /// What keys and policies allow, on objects of their own.
    User,
}

impl Role {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::User => "user",
        }
    }
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
        if !state.store.add_user(&self.name, self.role.name(), hash.as_deref(), now())? {
            bail!("there is a user {} already", self.name);
        }
        state.announce()?;
        let document = json!({ "name": self.name, "role": self.role.name() });
        self.common.output.print(&document, |_| format!("Added {} as {}.", self.name, self.role.name()))
    }
}

impl List {
    fn run(self) -> Result<()> {
        let state = State::open(&self.common.config)?;
        let users = state.store.users()?;
        let listed: Vec<_> = users.iter().map(|u| json!({ "name": u.name, "role": u.role })).collect();
        self.common.output.print(&json!({ "users": listed }), |_| {
            table(["NAME", "ROLE"], &users.iter().map(|u| [u.name.to_string(), u.role.clone()]).collect::<Vec<_>>())
        })
    }
}

impl Remove {
    fn run(self) -> Result<()> {
        let state = State::open(&self.common.config)?;
        let admins = state.store.users()?.into_iter().filter(|user| user.role == Role::Admin.name());
        if admins.map(|user| user.name).eq([self.name.clone()]) {
            bail!("{} is the only administrator; add another one first", self.name);
        }
        if !state.withdraw(&Withdrawal::User { name: self.name.clone(), at: now() })? {
            bail!("there is no user {}", self.name);
        }
        let document = json!({ "name": self.name, "removed": true });
        self.common.output.print(&document, |_| format!("Removed {}, with keys and links.", self.name))
    }
}

/// Argon2id, in the PHC string format.
pub(super) fn hash_password(password: &str) -> Result<String> {
    if !PASSWORD_CHARS.contains(&password.chars().count()) {
        bail!("a password has {} to {} characters", PASSWORD_CHARS.start(), PASSWORD_CHARS.end());
    }
    let hash = Argon2::default().hash_password(password.as_bytes());
    Ok(hash.map_err(|e| anyhow::anyhow!("the password cannot be hashed: {e}"))?.to_string())
}

fn read_password() -> Result<String> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).context("no password on standard input")?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
