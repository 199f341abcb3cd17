//! The gateway's account at an ACME authority: created once, kept in its own file, and bound to an external account if the authority requires it.

use std::{
    io,
    path::{Path, PathBuf},
};

use instant_acme::{Account, AccountBuilder, AccountCredentials, ExternalAccountKey, NewAccount};
use sallyport_core::{
    config::acme::{AcmeKeyError, AuthorityConfig, ExternalAccountConfig},
    secrets::secret_file::{self, SecretError},
};
use secrecy::{ExposeSecret, SecretBox};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

/// An ACME authority, with everything needed for an account there.
pub(super) struct Authority {
    pub(super) config: AuthorityConfig,
    external_key: Option<SecretBox<Vec<u8>>>,
    file: PathBuf,
    contact: Option<String>,
}

/// The reasons why there is no account.
#[derive(Debug, Error)]
pub(super) enum AccountError {
    /// Its file cannot be read or written.
    #[error(transparent)]
    File(#[from] SecretError),
    /// Its file is damaged.
    #[error("{0}: {1}; remove the file to register a new account")]
    Parse(PathBuf, serde_json::Error),
    /// The folder cannot be created or written.
    #[error("{0}: {1}")]
    Folder(PathBuf, io::Error),
    /// The authority did not grant one.
    #[error(transparent)]
    Acme(#[from] instant_acme::Error),
}

/// The contents of the account's file.
#[derive(Deserialize, Serialize)]
struct AccountFile {
    contact: Option<String>,
    credentials: AccountCredentials,
}

impl Authority {
    /// Prepares the authority of `config`, whose account is kept in `dir`.
    pub(super) fn new(config: AuthorityConfig, email: Option<&str>, dir: &Path) -> Result<Self, AcmeKeyError> {
        let external_key = config.external_account.as_ref().map(ExternalAccountConfig::key).transpose()?;
        let id = Sha256::digest(config.directory.as_str());
        let id: String = data_encoding::HEXLOWER.encode(&id).chars().take(16).collect();
        let file = dir.join(format!("account-{id}.json"));
        Ok(Self { config, external_key, file, contact: email.map(|email| format!("mailto:{email}")) })
    }

    /// Returns the stored account, or registers a new one.
    pub(super) async fn account(&self) -> Result<Account, AccountError> {
        self.prepare_folder()?;
        match self.kept()? {
            Some(kept) => self.restored(kept).await,
            None => self.made().await,
        }
    }

    /// Forgets the account, for example because the authority no longer knows it.
    pub(super) fn forget(&self) {
        let _ = std::fs::remove_file(&self.file);
    }

    /// Checks that the folder can be written before anything is requested that could not be stored: authorities limit requests.
    fn prepare_folder(&self) -> Result<(), AccountError> {
        let dir = self.file.parent().unwrap_or(Path::new("."));
        secret_file::create_private_dir(dir).map_err(|e| AccountError::Folder(dir.to_owned(), e))?;
        let probe = dir.join(".writable");
        secret_file::write(&probe, b"")?;
        std::fs::remove_file(&probe).map_err(|e| AccountError::Folder(dir.to_owned(), e))
    }

    fn kept(&self) -> Result<Option<AccountFile>, AccountError> {
        let Some(text) = secret_file::read(&self.file)? else { return Ok(None) };
        let kept = serde_json::from_str(text.expose_secret());
        kept.map(Some).map_err(|e| AccountError::Parse(self.file.clone(), e))
    }

    async fn restored(&self, kept: AccountFile) -> Result<Account, AccountError> {
        let known = kept.contact == self.contact;
        let copy = (!known).then(|| serde_json::to_value(&kept.credentials)).transpose();
        let copy = copy.map_err(|e| AccountError::Parse(self.file.clone(), e))?;
        let account = self.builder()?.from_credentials(kept.credentials).await?;
        if let Some(credentials) = copy {
            account.update_contacts(&self.contacts()).await?;
            let credentials =
                serde_json::from_value(credentials).map_err(|e| AccountError::Parse(self.file.clone(), e))?;
            self.keep(credentials)?;
        }
        Ok(account)
    }

    async fn made(&self) -> Result<Account, AccountError> {
        let new = NewAccount { contact: &self.contacts(), terms_of_service_agreed: true, only_return_existing: false };
        let external = self.config.external_account.as_ref().zip(self.external_key.as_ref());
        let external =
            external.map(|(account, key)| ExternalAccountKey::new(account.key_id.clone(), key.expose_secret()));
        let directory = self.config.directory.to_string();
        let (account, credentials) = self.builder()?.create(&new, directory, external.as_ref()).await?;
        self.keep(credentials)?;
        Ok(account)
    }

    fn keep(&self, credentials: AccountCredentials) -> Result<(), AccountError> {
        let kept = AccountFile { contact: self.contact.clone(), credentials };
        let text = serde_json::to_vec(&kept).map_err(|e| AccountError::Parse(self.file.clone(), e))?;
        Ok(secret_file::write(&self.file, &text)?)
    }

    fn builder(&self) -> Result<AccountBuilder, instant_acme::Error> {
        match &self.config.ca {
            Some(ca) => Account::builder_with_root(ca),
            None => Account::builder(),
        }
    }

    fn contacts(&self) -> Vec<&str> {
        self.contact.as_deref().into_iter().collect()
    }
}
