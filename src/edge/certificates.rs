//! One certificate and its key: read from their files, watched, and replaced while the gateway runs.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwapOption;
use rustls::{
    crypto::aws_lc_rs::sign::any_supported_type,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
    sign::CertifiedKey,
};
use thiserror::Error;
use tokio::sync::watch;
use tracing::{error, info};

use crate::{config::CertificatePaths, stop::stopped};

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

/// A chain and its key, in two files or one.
pub struct CertificateFiles {
    paths: CertificatePaths,
    current: ArcSwapOption<CertifiedKey>,
}

/// What tells one state of the files from another.
#[derive(PartialEq, Eq)]
struct Seen([Vec<u8>; 2]);

impl CertificateFiles {
    /// Reads both files.
    pub fn load(paths: &CertificatePaths) -> Result<Self, CertificateError> {
        let current = ArcSwapOption::from_pointee(certified_key(paths)?);
        Ok(Self { paths: paths.clone(), current })
    }

    /// The same of files that may not be there yet.
    #[must_use]
    pub fn awaited(paths: &CertificatePaths) -> Self {
        Self { paths: paths.clone(), current: ArcSwapOption::from_pointee(certified_key(paths).ok()) }
    }

    /// What is served now; None while files are awaited.
    #[must_use]
    pub fn current(&self) -> Option<Arc<CertifiedKey>> {
        self.current.load_full()
    }

    /// Serves what the files become until `stop` turns true; a broken change keeps the old and says so once.
    pub(super) async fn watch(&self, mut stop: watch::Receiver<bool>) {
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
            match certified_key(&self.paths) {
                Ok(new) => {
                    self.current.store(Some(Arc::new(new)));
                    info!(cert = %self.paths.cert.display(), "the certificate was replaced");
                }
                Err(error) => error!(%error, "the changed certificate cannot be used; the old one is served on"),
            }
        }
    }

    /// When the certificate ends, in seconds since the Unix epoch.
    #[must_use]
    pub fn ends(&self) -> Option<i64> {
        let current = self.current()?;
        let (_, leaf) = x509_parser::parse_x509_certificate(current.cert.first()?).ok()?;
        Some(leaf.validity().not_after.timestamp())
    }

    /// The files are small, so their contents are compared, which no clock and no copying tool can mislead.
    async fn seen(&self) -> Seen {
        let read = |path: &Path| tokio::fs::read(path.to_owned());
        Seen([read(&self.paths.cert).await.unwrap_or_default(), read(&self.paths.key).await.unwrap_or_default()])
    }
}

impl fmt::Debug for CertificateFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateFiles").field("cert", &self.paths.cert).finish_non_exhaustive()
    }
}

fn certified_key(paths: &CertificatePaths) -> Result<CertifiedKey, CertificateError> {
    let read = |path: &PathBuf| fs::read(path).map_err(|e| CertificateError::Io(path.clone(), e));
    parse(paths, &read(&paths.cert)?, &read(&paths.key)?)
}

/// What the two files hold, which are named in errors only.
pub(super) fn parse(paths: &CertificatePaths, cert: &[u8], key: &[u8]) -> Result<CertifiedKey, CertificateError> {
    let chain = CertificateDer::pem_slice_iter(cert).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|e| CertificateError::Pem(paths.cert.clone(), e))?;
    if chain.is_empty() {
        return Err(CertificateError::Empty(paths.cert.clone()));
    }
    let private = PrivateKeyDer::from_pem_slice(key).map_err(|e| CertificateError::Pem(paths.key.clone(), e))?;
    let unfit = |e| CertificateError::Key(paths.key.clone(), e);
    let certified = CertifiedKey::new(chain, any_supported_type(&private).map_err(unfit)?);
    certified.keys_match().map_err(unfit)?;
    Ok(certified)
}
