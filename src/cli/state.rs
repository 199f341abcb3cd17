//! What commands that act on state have in common: the configuration, the database and the running gateway.

use std::{
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use sallyport_core::{
    config::{self, Config},
    names::{account, username::UserName},
};
use sallyport_gateway::{
    lifecycle::control::{self, Notified},
    store::{Secrets, Store, UserRecord, Withdrawal},
};

use super::output::{command_line, quoted};

/// The state of one instance.
pub(super) struct State {
    pub(super) config: Config,
    pub(super) store: Store,
    /// Read-only: a secret that a command created would replace the one that the gateway uses.
    pub(super) secrets: Secrets,
}

/// Returns the path of an instance's database.
pub(super) fn database(config: &Config) -> PathBuf {
    config.data_dir.join("state.db")
}

impl State {
    /// Opens the state of the instance that `config` describes; creates nothing.
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

    /// Tells the running gateway, if there is one, to load a change, and waits until the change is in force.
    pub(super) fn announce(&self) -> Result<()> {
        match control::tell(&self.config.data_dir) {
            Ok(Notified::InForce | Notified::NotRunning) => Ok(()),
            Ok(Notified::Partly(why)) => {
                eprintln!(
                    "warning: the running gateway could not load all of its state: {why}. The parts that it could not load are unchanged; the others are in force"
                );
                Ok(())
            }
            Err(error) => Err(error).context("the change is saved, but the running gateway could not be notified"),
        }
    }

    /// Like [`Self::announce`], but fails if the gateway could not load everything, since the change is in the part that may fail.
    pub(super) fn announce_whole(&self) -> Result<()> {
        match control::tell(&self.config.data_dir) {
            Ok(Notified::Partly(why)) => bail!("the change is saved, but the running gateway could not load it: {why}"),
            Ok(Notified::InForce | Notified::NotRunning) => Ok(()),
            Err(error) => Err(error).context("the change is saved, but the running gateway could not be notified"),
        }
    }

    /// Revokes something, and waits until the revocation is in force. Returns false if there is no such thing.
    ///
    /// If the disk is too full to store it, the running gateway enforces it and stores it later.
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
            Ok(Notified::InForce | Notified::Partly(_)) => {
                eprintln!(
                    "warning: {error}. The running gateway enforces the change and stores it once there is space. Free some space before you stop the gateway."
                );
                Ok(true)
            }
            Ok(Notified::NotRunning) => Err(error).context("nothing was changed; free some space and try again"),
            Err(refused) => {
                Err(error).context(format!("nothing was changed, and the running gateway cannot enforce it: {refused}"))
            }
        }
    }

    /// Returns the user of that name, or the first administrator if no name is given.
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

    /// Returns `sallyport WORDS` as the user must type it for this instance.
    pub(super) fn command(&self, words: &str) -> String {
        command_line(&self.config.file, words)
    }
}

fn no_instance(config: &Config) -> String {
    let dir = quoted(&config.base_dir.to_string_lossy());
    format!(
        "{} describes an instance that does not exist yet: {} is missing. Create the instance with: sallyport init --dir {dir}",
        config.file.display(),
        database(config).display(),
    )
}

fn lost(config: &Config) -> String {
    format!(
        "{} is missing, although the instance was created. Stop Sallyport, restore the file from a backup, and start it again",
        database(config).display(),
    )
}

fn not_ours(folder: &Path, error: &io::Error) -> String {
    let place = folder.display();
    match folder.metadata().map(|about| account::name_of(about.uid())) {
        Ok(owner) => format!("cannot access {place}, which belongs to {owner}; run this as {owner} or as root"),
        Err(_) => format!("cannot access {place}: {error}"),
    }
}
