//! What commands that act on state have in common: the configuration, the database, and the running gateway.

use std::{
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use jiff::Timestamp;

use super::output::{command_line, quoted};
use crate::{
    account,
    config::{self, Config},
    gateway::control::{self, Told},
    store::{Secrets, Store, UserRecord, Withdrawal},
    username::UserName,
};

/// The state of one instance.
pub(super) struct State {
    pub(super) config: Config,
    pub(super) store: Store,
    /// To be looked at only: a secret that a command made would replace what the gateway goes by.
    pub(super) secrets: Secrets,
}

/// Where the database of an instance is.
pub(super) fn database(config: &Config) -> PathBuf {
    config.data_dir.join("state.db")
}

impl State {
    /// Opens the state of the instance that `config` describes; makes nothing.
    pub(super) fn open(config: &Path) -> Result<Self> {
        let config = config::load(config)?;
        match database(&config).try_exists() {
            Ok(true) => {}
            Ok(false) if Secrets::look(&config).has_link_keys() => bail!(lost(&config)),
            Ok(false) => bail!(no_instance(&config)),
            Err(error) => bail!(not_ours(&config.data_dir, &error)),
        }
        let secrets = Secrets::look(&config);
        let store = Store::open(&database(&config))?;
        Ok(Self { config, store, secrets })
    }

    /// Makes a change known to the running gateway, if there is one; it is in force when this returns.
    pub(super) fn announce(&self) -> Result<()> {
        match control::tell(&self.config.data_dir) {
            Ok(Told::InForce | Told::NotRunning) => Ok(()),
            Ok(Told::Partly(why)) => {
                eprintln!(
                    "warning: the running gateway could not read all of its state: {why}. The parts that it could not read are unchanged; all others are in force"
                );
                Ok(())
            }
            Err(error) => Err(error).context("the change is kept, but the running gateway could not be told"),
        }
    }

    /// The same for a change of what the gateway may fail to read while it puts all else in force.
    pub(super) fn announce_whole(&self) -> Result<()> {
        match control::tell(&self.config.data_dir) {
            Ok(Told::Partly(why)) => bail!("the change is kept, but the running gateway could not read it: {why}"),
            Ok(Told::InForce | Told::NotRunning) => Ok(()),
            Err(error) => Err(error).context("the change is kept, but the running gateway could not be told"),
        }
    }

    /// Takes something back; it is in force when this returns. False where there is no such thing.
    ///
    /// Where the disk has no room to store it, the running gateway enforces it and stores it later.
    pub(super) fn withdraw(&self, withdrawal: &Withdrawal) -> Result<bool> {
        let error = match self.store.withdraw(withdrawal) {
            Ok(true) => return self.announce().map(|()| true),
            Ok(false) => return Ok(false),
            Err(error) => error,
        };
        if !self.store.has(withdrawal)? {
            return Ok(false);
        }
        match control::withdraw(&self.config.data_dir, withdrawal) {
            Ok(Told::InForce | Told::Partly(_)) => {
                eprintln!(
                    "warning: {error}. The running gateway enforces the change and stores it once there is room. Free some space; do not stop the gateway before."
                );
                Ok(true)
            }
            Ok(Told::NotRunning) => Err(error).context("nothing was changed; free some space and try again"),
            Err(told) => {
                Err(error).context(format!("nothing was changed, and the running gateway cannot enforce it: {told}"))
            }
        }
    }

    /// The user of that name; without one, the first administrator.
    pub(super) fn user(&self, name: Option<&UserName>) -> Result<UserRecord> {
        let Some(name) = name else {
            let add = self.command("user add NAME --role admin");
            return self
                .store
                .first_admin()?
                .with_context(|| format!("this instance has no administrator; add one: {add}"));
        };
        match self.store.user(name)? {
            Some(user) => Ok(user),
            None => bail!("there is no user {name}; add them: {}", self.command(&format!("user add {name}"))),
        }
    }

    /// `sallyport WORDS` as it is to be typed for this instance.
    pub(super) fn command(&self, words: &str) -> String {
        command_line(&self.config.file, words)
    }
}

fn no_instance(config: &Config) -> String {
    let dir = quoted(&config.base_dir.to_string_lossy());
    format!(
        "{} describes an instance that does not exist yet: {} is missing. Make the instance with: sallyport init --dir {dir}",
        config.file.display(),
        database(config).display(),
    )
}

fn lost(config: &Config) -> String {
    format!(
        "{} is missing, though the instance has been made. Stop Sallyport, restore the file from a backup, and start it again",
        database(config).display(),
    )
}

fn not_ours(folder: &Path, error: &io::Error) -> String {
    let place = folder.display();
    match folder.metadata().map(|about| account::name_of(about.uid())) {
        Ok(owner) => format!("cannot look into {place}, which belongs to {owner}: run this as {owner}, or as root"),
        Err(_) => format!("cannot look into {place}: {error}"),
    }
}

/// Seconds since the Unix epoch.
pub(super) fn now() -> i64 {
    Timestamp::now().as_second()
}
