//! The secrets of an instance, each from where the configuration says. The gateway makes those that are missing; a command never does.

use std::{env, path::PathBuf};

use secrecy::{ExposeSecret, SecretString};
use thiserror::Error;

use crate::{
    config::Config,
    random::random,
    secret_file::{self, SecretError, long_enough},
};

/// How many link keys are kept: the one that signs, and the one before it.
const LINK_KEYS: usize = 2;

/// Where the secrets of an instance are.
pub struct Secrets {
    dir: PathBuf,
    jwt_env: String,
}

/// A secret, and when its file was last written, in Unix seconds. Nothing can have been signed with it before.
pub struct DatedSecret {
    /// The secret.
    pub secret: SecretString,
    /// The moment.
    pub since: i64,
}

/// Why an instance has no usable secrets.
#[derive(Debug, Error)]
pub enum SecretsError {
    /// One of them cannot be used.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The folder cannot be made.
    #[error("data_dir: {0}: {1}")]
    Dir(PathBuf, std::io::Error),
}

impl Secrets {
    /// The secrets of this configuration; makes their folder (0700).
    pub fn open(config: &Config) -> Result<Self, SecretsError> {
        let dir = config.secrets_dir();
        let made =
            secret_file::create_private_dir(&config.data_dir).and_then(|()| secret_file::create_private_dir(&dir));
        made.map_err(|e| SecretsError::Dir(dir.clone(), e))?;
        Ok(Self::look(config))
    }

    /// The same without making anything.
    #[must_use]
    pub fn look(config: &Config) -> Self {
        Self { dir: config.secrets_dir(), jwt_env: config.jwt.secret_env.clone() }
    }

    /// The token secret: its file; else the variable that the configuration names; else a new one, which is kept.
    pub fn jwt(&self) -> Result<SecretString, SecretError> {
        match self.jwt_at_hand()? {
            Some(secret) => Ok(secret),
            None => secret_file::read_or_create(&self.dir.join("jwt.key")),
        }
    }

    /// Whether the token secret has a file.
    #[must_use]
    pub fn has_jwt_file(&self) -> bool {
        self.dir.join("jwt.key").exists()
    }

    /// The token secret where there is one already.
    pub fn jwt_at_hand(&self) -> Result<Option<SecretString>, SecretError> {
        let path = self.dir.join("jwt.key");
        if let Some(secret) = secret_file::read(&path)? {
            return long_enough(secret, &path.display().to_string()).map(Some);
        }
        let source = format!("the variable {}", self.jwt_env);
        match env::var(&self.jwt_env) {
            Ok(text) => long_enough(SecretString::from(text.trim()), &source).map(Some),
            Err(env::VarError::NotUnicode(_)) => Err(SecretError::Short(source, 0)),
            Err(env::VarError::NotPresent) => Ok(None),
        }
    }

    /// The keys that sign links, as `identity::link::LinkKeys` reads them.
    pub fn link_keys(&self) -> Result<SecretString, SecretError> {
        match self.link_keys_at_hand()? {
            Some(keys) => Ok(keys),
            None => self.rotate_link_keys(),
        }
    }

    /// The keys that sign links where there are any already.
    pub fn link_keys_at_hand(&self) -> Result<Option<SecretString>, SecretError> {
        secret_file::read(&self.dir.join("link.keys"))
    }

    /// Whether the instance has keys that sign links, as every instance has once it is made.
    #[must_use]
    pub fn has_link_keys(&self) -> bool {
        self.dir.join("link.keys").exists()
    }

    /// Lets a new key sign links; links under the key before it live on, older ones end.
    pub fn rotate_link_keys(&self) -> Result<SecretString, SecretError> {
        let path = self.dir.join("link.keys");
        let old = secret_file::read(&path)?.unwrap_or_default();
        let (id, secret) = (hex(&random::<4>()), hex(&random::<32>()));
        let kept = old.expose_secret().lines().take(LINK_KEYS - 1).map(str::to_owned);
        let lines: Vec<String> = std::iter::once(format!("{id} {secret}")).chain(kept).collect();
        let text = lines.join("\n");
        secret_file::write(&path, text.as_bytes())?;
        Ok(SecretString::from(text))
    }

    /// The secret of links in OfflineTube's style; creates it if its file is missing.
    pub fn offlinetube(&self) -> Result<DatedSecret, SecretError> {
        let path = self.offlinetube_path();
        let secret = secret_file::read_or_create(&path)?;
        Ok(DatedSecret { secret, since: secret_file::changed(&path)? })
    }

    /// The secret of links in OfflineTube's style, or None if its file is missing.
    pub fn offlinetube_at_hand(&self) -> Result<Option<DatedSecret>, SecretError> {
        let path = self.offlinetube_path();
        let Some(secret) = secret_file::read(&path)? else { return Ok(None) };
        let secret = long_enough(secret, &path.display().to_string())?;
        Ok(Some(DatedSecret { secret, since: secret_file::changed(&path)? }))
    }

    /// The file that holds the secret of links in OfflineTube's style.
    #[must_use]
    pub fn offlinetube_path(&self) -> PathBuf {
        self.dir.join("offlinetube.key")
    }

    /// The error for a secret that was there and is not any more.
    #[must_use]
    pub fn gone(&self, name: &str) -> SecretError {
        SecretError::Gone(self.dir.join(name))
    }

    /// The secret between gateway and worker.
    pub fn worker(&self) -> Result<SecretString, SecretError> {
        secret_file::read_or_create(&self.dir.join("worker.key"))
    }
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}
