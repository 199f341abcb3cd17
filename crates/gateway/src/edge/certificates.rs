//! One certificate and its key: read from their files, watched, and replaced at run time.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwapOption;
use jiff::Timestamp;
use rustls::{
    InconsistentKeys,
    crypto::aws_lc_rs::sign::any_supported_type,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use sallyport_core::{config::CertificatePaths, files::settled::Settled, supervision::shutdown::stopped};
use thiserror::Error;
use tokio::sync::watch;
use tracing::{error, info};

use super::pem_file::{PemContent, fault};

/// How often the files are checked.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// The reasons why files are not a usable certificate.
#[derive(Debug, Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("{0}: {1}")]
    Io(PathBuf, io::Error),
    /// The certificate's file is something else; says what, and how to fix it.
    #[error("{0} {1}")]
    Certificate(PathBuf, &'static str),
    /// The key's file is something else, or its key is not the certificate's.
    #[error("{0} {1}")]
    Key(PathBuf, &'static str),
}

impl CertificateError {
    /// Returns the configuration key that names the file, such as "cert".
    #[must_use]
    pub fn at(&self) -> &'static str {
        match self {
            Self::Key(..) => "key",
            Self::Io(..) | Self::Certificate(..) => "cert",
        }
    }
}

/// A chain and its key, in two files or one.
pub struct CertificateFiles {
    paths: CertificatePaths,
    current: ArcSwapOption<CertifiedKey>,
}

/// The contents of the two files; `None` for a file that cannot be read.
#[derive(PartialEq, Eq)]
struct FileContents {
    cert: Option<Vec<u8>>,
    key: Option<Vec<u8>>,
}

impl CertificateFiles {
    /// Reads both files.
    pub fn load(paths: &CertificatePaths) -> Result<Self, CertificateError> {
        let current = ArcSwapOption::from_pointee(certified_key(paths)?);
        Ok(Self { paths: paths.clone(), current })
    }

    /// Logs an error if the certificate has expired or is not valid yet.
    pub(crate) fn tell_out_of_time(&self) {
        if let Some(fault) = self.out_of_time(Timestamp::now()) {
            error!("{fault}");
        }
    }

    /// Describes an expired or early certificate, and how to fix it.
    #[must_use]
    pub fn out_of_time(&self, now: Timestamp) -> Option<String> {
        let current = self.current()?;
        let (_, leaf) = x509_parser::parse_x509_certificate(current.cert.first()?).ok()?;
        let begins = leaf.validity().not_before.timestamp();
        let ends = leaf.validity().not_after.timestamp();
        let shown = |time| Timestamp::from_second(time).unwrap_or(Timestamp::MAX);
        let cert = self.paths.cert.display();
        if ends < now.as_second() {
            let when = shown(ends);
            return Some(format!("{cert} expired on {when}, so clients reject it; renew the certificate"));
        }
        let when = shown(begins);
        (begins > now.as_second()).then(|| {
            format!("{cert} is not valid before {when}, so clients reject it until then; correct the clock, or use another certificate")
        })
    }

    /// Reads files that may not exist yet.
    #[must_use]
    pub(crate) fn awaited(paths: &CertificatePaths) -> Self {
        Self { paths: paths.clone(), current: ArcSwapOption::from_pointee(certified_key(paths).ok()) }
    }

    /// Returns the certificate that is served now; `None` while its files do not exist yet.
    #[must_use]
    pub(crate) fn current(&self) -> Option<Arc<CertifiedKey>> {
        self.current.load_full()
    }

    /// Applies changes of the files until `stop` becomes true. A broken change is logged once, and the old certificate stays.
    pub(super) async fn watch(&self, mut stop: watch::Receiver<bool>) {
        let mut files = Settled::new(self.seen().await);
        loop {
            tokio::select! {
                () = tokio::time::sleep(WATCH_EVERY) => {}
                () = stopped(&mut stop) => return,
            }
            if let Some(changed) = files.look(self.seen().await) {
                self.replace(changed);
            }
        }
    }

    fn replace(&self, changed: &FileContents) {
        match changed.certified_key(&self.paths) {
            Ok(new) => {
                self.current.store(Some(Arc::new(new)));
                info!(cert = %self.paths.cert.display(), "the certificate was replaced");
                self.tell_out_of_time();
            }
            Err(error) => error!(%error, "the changed certificate cannot be used; still serving the old one"),
        }
    }

    /// Returns when the certificate expires, in seconds since the Unix epoch.
    #[must_use]
    pub(crate) fn ends(&self) -> Option<i64> {
        let current = self.current()?;
        let (_, leaf) = x509_parser::parse_x509_certificate(current.cert.first()?).ok()?;
        Some(leaf.validity().not_after.timestamp())
    }

    /// The files are small, so their contents are compared, which no clock and no copying tool can mislead.
    async fn seen(&self) -> FileContents {
        let read = |path: &Path| tokio::fs::read(path.to_owned());
        FileContents { cert: read(&self.paths.cert).await.ok(), key: read(&self.paths.key).await.ok() }
    }
}

impl FileContents {
    fn certified_key(&self, paths: &CertificatePaths) -> Result<CertifiedKey, CertificateError> {
        match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => parse(paths, cert, key),
            // Reading again reports why it cannot be read.
            (None, _) | (_, None) => certified_key(paths),
        }
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

/// Parses the contents of the two files; `paths` are only used in errors.
pub(super) fn parse(paths: &CertificatePaths, cert: &[u8], key: &[u8]) -> Result<CertifiedKey, CertificateError> {
    let of_cert = |what| CertificateError::Certificate(paths.cert.clone(), what);
    let of_key = |what| CertificateError::Key(paths.key.clone(), what);
    fault(cert, PemContent::Certificate).map_or(Ok(()), |what| Err(of_cert(what)))?;
    fault(key, PemContent::Key).map_or(Ok(()), |what| Err(of_key(what)))?;
    let chain = CertificateDer::pem_slice_iter(cert).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|_| of_cert(DAMAGED))?;
    let private = PrivateKeyDer::from_pem_slice(key).map_err(|_| of_key(DAMAGED))?;
    let signing = any_supported_type(&private).map_err(|_| of_key(UNSUPPORTED))?;
    let certified = CertifiedKey::new(chain, signing);
    match certified.keys_match() {
        Ok(()) => Ok(certified),
        Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) if is_of_a_later_one(&certified) => {
            Err(of_cert(WRONG_ORDER))
        }
        Err(rustls::Error::InconsistentKeys(_)) => Err(of_key(MISMATCH)),
        Err(_) => Err(of_cert(DAMAGED)),
    }
}

const DAMAGED: &str = "is damaged: the data between its BEGIN and END lines is invalid; copy the file again";
const UNSUPPORTED: &str =
    "holds a key of an unsupported type; use ECDSA (P-256, P-384, P-521), Ed25519, or RSA with at least 2048 bits";
const MISMATCH: &str = "is not the key of this certificate; configure the certificate and key that belong together";
const WRONG_ORDER: &str = "has its certificates in the wrong order; put the server's own certificate first, then the one that signed it, and so on";

/// Returns true if the key belongs to a certificate other than the first one.
fn is_of_a_later_one(certified: &CertifiedKey) -> bool {
    let later = certified.cert.iter().skip(1);
    later
        .map(|cert| CertifiedKey::new(vec![cert.clone()], Arc::clone(&certified.key)))
        .any(|one| one.keys_match().is_ok())
}
