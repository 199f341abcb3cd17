//! The certificate that is served: read from its files, watched, and replaced while the gateway runs.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use crate::stop::stopped;
use arc_swap::ArcSwap;
use rustls::{
    crypto::aws_lc_rs::sign::any_supported_type,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use thiserror::Error;
use tokio::sync::watch;
use tracing::{error, info};

/// How often the files are looked at.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// Why files are no usable certificate.
#[derive(Debug, Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("{0}: {1}")]
    Io(PathBuf, io::Error),
    /// A file is not what it should be, in PEM form.
    #[error("{0}: {1}")]
    Pem(PathBuf, pem::Error),
    /// No certificate in the file.
    #[error("{0}: holds no certificate")]
    Empty(PathBuf),
    /// The key cannot be used, or is not the certificate's.
    #[error("{0}: {1}")]
    Key(PathBuf, rustls::Error),
}

/// A chain and its key, in two files.
pub struct CertificateFiles {
    cert: PathBuf,
    key: PathBuf,
    current: ArcSwap<CertifiedKey>,
}

/// What tells one state of the files from another.
#[derive(PartialEq, Eq)]
struct Seen([Vec<u8>; 2]);

impl CertificateFiles {
    /// Reads both files.
    pub fn load(cert: &Path, key: &Path) -> Result<Self, CertificateError> {
        let current = ArcSwap::from_pointee(certified_key(cert, key)?);
        Ok(Self { cert: cert.to_owned(), key: key.to_owned(), current })
    }

    /// Serves what the files become until `stop` turns true; a broken change keeps the old and says so once.
    pub async fn watch(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let mut seen = self.seen().await;
        loop {
            tokio::select! {
                () = tokio::time::sleep(WATCH_EVERY) => {}
                () = stopped(&mut stop) => return,
            }
            let now = self.seen().await;
            if now == seen {
                continue;
            }
            seen = now;
            match certified_key(&self.cert, &self.key) {
                Ok(new) => {
                    self.current.store(Arc::new(new));
                    info!(cert = %self.cert.display(), "the certificate was replaced");
                }
                Err(error) => error!(%error, "the changed certificate cannot be used; the old one is served on"),
            }
        }
    }

    /// The files are small, so their contents are compared, which no clock and no copying tool can mislead.
    async fn seen(&self) -> Seen {
        let read = |path: &Path| tokio::fs::read(path.to_owned());
        Seen([read(&self.cert).await.unwrap_or_default(), read(&self.key).await.unwrap_or_default()])
    }
}

impl ResolvesServerCert for CertificateFiles {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

impl fmt::Debug for CertificateFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateFiles").field("cert", &self.cert).finish_non_exhaustive()
    }
}

fn certified_key(cert: &Path, key: &Path) -> Result<CertifiedKey, CertificateError> {
    let chain = CertificateDer::pem_file_iter(cert).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(|e| pem_error(cert, e))?;
    if chain.is_empty() {
        return Err(CertificateError::Empty(cert.to_owned()));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|e| pem_error(key, e))?;
    let private = any_supported_type(&private).map_err(|e| CertificateError::Key(key.to_owned(), e))?;
    let certified = CertifiedKey::new(chain, private);
    certified.keys_match().map_err(|e| CertificateError::Key(key.to_owned(), e))?;
    Ok(certified)
}

fn pem_error(path: &Path, error: pem::Error) -> CertificateError {
    match error {
        pem::Error::Io(e) => CertificateError::Io(path.to_owned(), e),
        other => CertificateError::Pem(path.to_owned(), other),
    }
}
