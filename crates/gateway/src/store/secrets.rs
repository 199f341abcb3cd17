//! The secrets of an instance, from the places that the configuration names. The gateway creates missing ones; a command never does.

use std::{env, path::PathBuf};

use sallyport_core::{
    config::Config,
    secrets::{
        random::random,
        secret_file::{self, SecretError, long_enough},
    },
};
use secrecy::{ExposeSecret, SecretString};
use thiserror::Error;

/// The number of link keys that are kept: the one that signs, and the previous one.
const LINK_KEYS: usize = 2;

/// The locations of an instance's secrets.
pub struct Secrets {
    dir: PathBuf,
    jwt_env: String,
}

/// A secret with the time at which its file was last written. Nothing can have been signed with it before.
pub struct DatedSecret {
    /// The secret.
    pub secret: SecretString,
    /// That time, in Unix seconds.
    pub since: i64,
}

/// Why the secrets of an instance are not usable.
#[derive(Debug, Error)]
pub enum SecretsError {
    /// One of them is not usable.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The folder cannot be created.
    #[error("data_dir: {0}: {1}")]
    Dir(PathBuf, std::io::Error),
}

impl Secrets {
    /// Opens the secrets of this configuration; creates their folder with mode 0700.
    pub fn open(config: &Config) -> Result<Self, SecretsError> {
        let dir = config.secrets_dir();
        let made =
            secret_file::create_private_dir(&config.data_dir).and_then(|()| secret_file::create_private_dir(&dir));
        made.map_err(|e| SecretsError::Dir(dir.clone(), e))?;
        Ok(Self::look(config))
    }

    /// Like [`Self::open`], but creates nothing.
    #[must_use]
    pub fn look(config: &Config) -> Self {
        Self { dir: config.secrets_dir(), jwt_env: config.jwt.secret_env.clone() }
    }

    /// Returns the token secret, from its file or from the variable that the configuration names. If neither exists, creates and stores one.
    pub fn jwt(&self) -> Result<SecretString, SecretError> {
        match self.jwt_at_hand()? {
            Some(secret) => Ok(secret),
            None => secret_file::read_or_create(&self.dir.join("jwt.key")),
        }
    }

    /// Whether the token secret is stored in a file.
    #[must_use]
    pub fn has_jwt_file(&self) -> bool {
        self.dir.join("jwt.key").exists()
    }

    /// Returns the token secret if it exists.
    pub fn jwt_at_hand(&self) -> Result<Option<SecretString>, SecretError> {
        let path = self.dir.join("jwt.key");
        if let Some(secret) = secret_file::read(&path)? {
            return long_enough(secret, &path.display().to_string()).map(Some);
        }
        let source = format!("the environment variable {}", self.jwt_env);
        match env::var(&self.jwt_env) {
            Ok(text) => long_enough(SecretString::from(text.trim()), &source).map(Some),
            Err(env::VarError::NotUnicode(_)) => Err(SecretError::Short(source, 0)),
            Err(env::VarError::NotPresent) => Ok(None),
        }
    }

    /// Returns the keys that sign links, in the format of `identity::link::LinkKeys`; creates them if they do not exist.
    pub fn link_keys(&self) -> Result<SecretString, SecretError> {
        match self.link_keys_at_hand()? {
            Some(keys) => Ok(keys),
            None => self.rotate_link_keys(),
        }
    }

    /// Returns the keys that sign links if they exist.
    pub fn link_keys_at_hand(&self) -> Result<Option<SecretString>, SecretError> {
        secret_file::read(&self.dir.join("link.keys"))
    }

    /// Whether the instance has keys that sign links, which every instance has from its creation on.
    #[must_use]
    pub fn has_link_keys(&self) -> bool {
        self.dir.join("link.keys").exists()
    }

    /// Creates a new key to sign links. Links signed with the previous key stay valid; older ones end.
    pub fn rotate_link_keys(&self) -> Result<SecretString, SecretError> {
        let path = self.dir.join("link.keys");
        let old = secret_file::read(&path)?.unwrap_or_default();
        let id = hex(&random::<4>());
        let secret = hex(&random::<32>());
        let kept = old.expose_secret().lines().take(LINK_KEYS - 1).map(str::to_owned);
        let lines: Vec<String> = std::iter::once(format!("{id} {secret}")).chain(kept).collect();
        let text = lines.join("\n");
        secret_file::write(&path, text.as_bytes())?;
        Ok(SecretString::from(text))
    }

    /// Returns the secret of links in OfflineTube's style; creates it if its file is missing.
    pub fn offlinetube(&self) -> Result<DatedSecret, SecretError> {
        secret_file::read_or_create(&self.offlinetube_path())?;
        self.offlinetube_at_hand()?.ok_or_else(|| self.gone("offlinetube.key"))
    }

    /// Returns the secret of links in OfflineTube's style, or None if its file is missing.
    pub fn offlinetube_at_hand(&self) -> Result<Option<DatedSecret>, SecretError> {
        let path = self.offlinetube_path();
        // The time comes first: if the file is replaced in between, the new secret seems too old, never the old one too new.
        let Some(since) = secret_file::changed(&path)? else { return Ok(None) };
        let Some(secret) = secret_file::read(&path)? else { return Ok(None) };
        Ok(Some(DatedSecret { secret: long_enough(secret, &path.display().to_string())?, since }))
    }

    /// Returns the path of the file that holds the secret of links in OfflineTube's style.
    #[must_use]
    pub fn offlinetube_path(&self) -> PathBuf {
        self.dir.join("offlinetube.key")
    }

    /// Returns the error for a secret that existed and is now missing.
    #[must_use]
    pub fn gone(&self, name: &str) -> SecretError {
        SecretError::Gone(self.dir.join(name))
    }

    /// Returns the secret that gateway and worker share; creates it if it does not exist.
    pub fn worker(&self) -> Result<SecretString, SecretError> {
        secret_file::read_or_create(&self.dir.join("worker.key"))
    }
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}
