//! What commands that act on state have in common: the configuration, the database, and the running gateway.

use std::path::Path;

use anyhow::{Context, Result, bail};
use jiff::Timestamp;

use crate::{
    config::{self, Config},
    gateway::control::{self, Told},
    store::{Secrets, Store, UserRecord},
    username::UserName,
};

/// The state of one instance.
pub(super) struct State {
    pub(super) config: Config,
    pub(super) store: Store,
    pub(super) secrets: Secrets,
}

impl State {
    /// Opens the state of the instance that `config` describes.
    pub(super) fn open(config: &Path) -> Result<Self> {
        let config = config::load(config)?;
        let secrets = Secrets::open(&config)?;
        let store = Store::open(&config.data_dir.join("state.db"))?;
        Ok(Self { config, store, secrets })
    }

    /// Makes a change known to the running gateway, if there is one; it is in force when this returns.
    pub(super) fn announce(&self) -> Result<()> {
        match control::tell(&self.config.data_dir) {
            Ok(Told::InForce | Told::NotRunning) => Ok(()),
            Err(error) => Err(error).context("the change is kept, but the running gateway could not be told"),
        }
    }

    /// The user of that name; without one, the first administrator.
    pub(super) fn user(&self, name: Option<&UserName>) -> Result<UserRecord> {
        let Some(name) = name else {
            return self.store.first_admin()?.context("there is no administrator; `sallyport init` makes one");
        };
        match self.store.user(name)? {
            Some(user) => Ok(user),
            None => bail!("there is no user {name}; `sallyport user add {name}` makes one"),
        }
    }
}

/// Seconds since the Unix epoch.
pub(super) fn now() -> i64 {
    Timestamp::now().as_second()
}
