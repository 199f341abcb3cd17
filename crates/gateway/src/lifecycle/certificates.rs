//! Opens the configured certificates and the ACME client that renews them.

use std::{path::Path, time::SystemTime};

use sallyport_core::config::{CertificatePaths, Config, TlsMode};

use super::error::GatewayError;
use crate::edge::{Certificates, acme::Acme, certificates::CertificateFiles, local_ca::LocalCa};

/// Returns the certificates to serve and, in mode "acme", the client that obtains them.
pub(crate) fn open(config: &Config) -> Result<(Certificates, Option<Acme>), GatewayError> {
    let acme = match &config.tls.mode {
        TlsMode::Acme { acme, .. } => Some(Acme::open(acme, &config.acme_dir())?),
        TlsMode::LocalCa { .. } | TlsMode::Files(_) => None,
    };
    let mut all: Vec<_> = acme.iter().flat_map(Acme::certificates).map(|p| CertificateFiles::awaited(&p)).collect();
    all.push(match &config.tls.mode {
        TlsMode::Files(paths) => own(paths)?,
        // With ACME, this serves until the first certificate arrives, and for local names and addresses, which no public authority certifies.
        TlsMode::LocalCa { dir, names } | TlsMode::Acme { dir, names, .. } => local(dir, names)?,
    });
    for paths in &config.tls.certificates {
        all.push(own(paths)?);
    }
    let shown = acme.as_ref().map(Acme::shown).unwrap_or_default();
    Ok((Certificates::new(all, shown), acme))
}

/// Loads certificate files that the operator keeps current.
fn own(paths: &CertificatePaths) -> Result<CertificateFiles, GatewayError> {
    let files = CertificateFiles::load(paths)?;
    files.tell_out_of_time();
    Ok(files)
}

fn local(dir: &Path, names: &[String]) -> Result<CertificateFiles, GatewayError> {
    let ca = LocalCa::new(dir);
    ca.ensure(names, SystemTime::now())?;
    Ok(CertificateFiles::load(&ca.served())?)
}
