//! Reads a key that an authority or a DNS server issued.

use std::{
    io,
    path::{Path, PathBuf},
};

use data_encoding::DecodeError;
use secrecy::{ExposeSecret, SecretBox};
use thiserror::Error;

use crate::secrets::secret_file::{self, SecretError};

/// Why a key for ACME cannot be used.
#[derive(Debug, Error)]
pub enum AcmeKeyError {
    /// The file is not suitable for a secret.
    #[error(transparent)]
    File(#[from] SecretError),
    /// The file does not exist.
    #[error("{0}: {1}")]
    Missing(PathBuf, io::Error),
    /// The text in it is not base64.
    #[error("{0}: {1}; write the key exactly as it was issued")]
    Encoding(PathBuf, DecodeError),
}

/// Reads the key in the file at `path`.
pub(super) fn read(
    path: &Path,
    decode: impl FnOnce(&str) -> Result<Vec<u8>, DecodeError>,
) -> Result<SecretBox<Vec<u8>>, AcmeKeyError> {
    let missing = || AcmeKeyError::Missing(path.to_owned(), io::ErrorKind::NotFound.into());
    let text = secret_file::read(path)?.ok_or_else(missing)?;
    let key = decode(text.expose_secret()).map_err(|e| AcmeKeyError::Encoding(path.to_owned(), e))?;
    Ok(SecretBox::new(Box::new(key)))
}
