//! The local certificate authority: issues certificates for localhost, this machine's names and its addresses, without any public authority.

use std::{
    collections::BTreeSet,
    io,
    net::IpAddr,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use sallyport_core::{
    config::CertificatePaths,
    secrets::{
        random::random,
        secret_file::{self, SecretError},
    },
};
use thiserror::Error;
use tracing::info;

const DAY: Duration = Duration::from_hours(24);
const AUTHORITY_LIFE: Duration = DAY.saturating_mul(3_650);
/// With the day before it, less than the 366 days that Mozilla's intermediate profile allows.
const LEAF_LIFE: Duration = DAY.saturating_mul(364);
const RENEW_BEFORE: Duration = DAY.saturating_mul(30);

/// The files of a local authority and of the certificate that it has issued.
#[derive(Clone, Debug)]
pub struct LocalCa {
    dir: PathBuf,
}

/// The two files of an authority.
#[derive(Clone, Debug)]
pub(super) struct AuthorityFiles {
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
    /// Its name, to which a few random digits are added so that authorities can be distinguished.
    pub(super) name: &'static str,
}

/// The reasons why the local authority cannot issue a certificate.
#[derive(Debug, Error)]
pub enum LocalCaError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] SecretError),
    /// The folder or a file cannot be created or read.
    #[error("{0}: {1}")]
    Io(PathBuf, io::Error),
    /// The key or certificate cannot be created or parsed.
    #[error("{0}: {1}")]
    Certificate(PathBuf, rcgen::Error),
}

impl LocalCa {
    /// Returns the authority in `dir`, which need not exist yet.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// Returns the path of the authority's certificate, to be installed on devices.
    #[must_use]
    pub fn authority_cert(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// Returns the paths of the served chain and its key.
    #[must_use]
    pub(crate) fn served(&self) -> CertificatePaths {
        CertificatePaths { cert: self.cert(), key: self.key() }
    }

    fn cert(&self) -> PathBuf {
        self.dir.join("server.pem")
    }

    fn key(&self) -> PathBuf {
        self.dir.join("server.key")
    }

    /// Creates what is missing: the authority, and a certificate if there is none for exactly these names or it expires within a month.
    pub fn ensure(&self, names: &[String], now: SystemTime) -> Result<(), LocalCaError> {
        std::fs::create_dir_all(&self.dir).map_err(|e| LocalCaError::Io(self.dir.clone(), e))?;
        let authority = self.authority().open(now)?;
        let names = certificate_names(names);
        if self.is_current(&names, now) {
            return Ok(());
        }
        self.issue(&authority, &names, now)?;
        info!(names = %names.iter().cloned().collect::<Vec<_>>().join(" "), "issued a certificate with the local authority");
        Ok(())
    }

    fn authority(&self) -> AuthorityFiles {
        let cert = self.authority_cert();
        let key = self.dir.join("ca.key");
        AuthorityFiles { cert, key, name: "Sallyport local authority" }
    }

    fn issue(
        &self,
        authority: &Issuer<'_, KeyPair>,
        names: &BTreeSet<String>,
        now: SystemTime,
    ) -> Result<(), LocalCaError> {
        let error = |e| LocalCaError::Certificate(self.cert(), e);
        let pair = KeyPair::generate().map_err(error)?;
        let mut params = CertificateParams::new(names.iter().cloned().collect::<Vec<_>>()).map_err(error)?;
        params.distinguished_name.push(DnType::CommonName, "Sallyport");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        params.not_before = (now - DAY).into();
        params.not_after = (now + LEAF_LIFE).into();
        let made = params.signed_by(&pair, authority).map_err(error)?;
        secret_file::write(&self.key(), pair.serialize_pem().as_bytes())?;
        secret_file::write_public(&self.cert(), made.pem().as_bytes())?;
        let record =
            format!("{}\n{}\n", seconds(now + LEAF_LIFE), names.iter().cloned().collect::<Vec<_>>().join("\n"));
        Ok(secret_file::write_public(&self.record(), record.as_bytes())?)
    }

    /// Returns true if the current certificate is for these names and remains valid for another month.
    fn is_current(&self, names: &BTreeSet<String>, now: SystemTime) -> bool {
        let Ok(record) = std::fs::read_to_string(self.record()) else { return false };
        let mut lines = record.lines();
        let ends = lines.next().and_then(|l| l.parse::<u64>().ok()).unwrap_or(0);
        let same = lines.eq(names.iter().map(String::as_str));
        same && ends > seconds(now + RENEW_BEFORE) && self.cert().exists() && self.key().exists()
    }

    fn record(&self) -> PathBuf {
        self.dir.join("server.names")
    }
}

impl AuthorityFiles {
    /// Reads key and certificate; creates both if one is missing.
    pub(super) fn open(&self, now: SystemTime) -> Result<Issuer<'static, KeyPair>, LocalCaError> {
        let Self { cert, key, name } = self;
        if !key.exists() || !cert.exists() {
            let pair = KeyPair::generate().map_err(|e| LocalCaError::Certificate(key.clone(), e))?;
            let made = authority_params(name, now).and_then(|p| p.self_signed(&pair));
            let made = made.map_err(|e| LocalCaError::Certificate(cert.clone(), e))?;
            secret_file::write(key, pair.serialize_pem().as_bytes())?;
            secret_file::write_public(cert, made.pem().as_bytes())?;
        }
        let pem = |path: &Path| std::fs::read_to_string(path).map_err(|e| LocalCaError::Io(path.to_owned(), e));
        let pair = KeyPair::from_pem(&pem(key)?).map_err(|e| LocalCaError::Certificate(key.clone(), e))?;
        Issuer::from_ca_cert_pem(&pem(cert)?, pair).map_err(|e| LocalCaError::Certificate(cert.clone(), e))
    }
}

fn authority_params(name: &str, now: SystemTime) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    let id = data_encoding::HEXLOWER.encode(&random::<3>());
    params.distinguished_name.push(DnType::CommonName, format!("{name} {id}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = (now - DAY).into();
    params.not_after = (now + AUTHORITY_LIFE).into();
    Ok(params)
}

/// Returns the names of the certificate: the given ones, localhost, this machine's name and each of its addresses.
fn certificate_names(names: &[String]) -> BTreeSet<String> {
    let mut all: BTreeSet<String> = names.iter().cloned().collect();
    all.extend(["localhost", "127.0.0.1", "::1"].map(str::to_owned));
    if let Some(host) = host_name() {
        all.insert(format!("{host}.local"));
        all.insert(host);
    }
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    all.extend(interfaces.iter().map(if_addrs::Interface::ip).filter(is_usable).map(|ip| ip.to_string()));
    all
}

fn host_name() -> Option<String> {
    let name = rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase();
    let label = name.split('.').next().unwrap_or_default().to_owned();
    let ok = !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    ok.then_some(label)
}

/// Link-local addresses change with every network and cannot be written in a URL.
fn is_usable(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => !v4.is_link_local(),
        IpAddr::V6(v6) => !v6.is_unicast_link_local(),
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::edge::{certificates::CertificateFiles, tls};

    #[test]
    fn the_certificate_is_issued_once_and_again_when_names_change_or_it_expires_soon() {
        tls::install_crypto();
        let dir = tempfile::tempdir().unwrap();
        let ca = LocalCa::new(&dir.path().join("certs"));
        let now = SystemTime::now();
        let made = |names: &[&str], now| {
            ca.ensure(&names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>(), now).unwrap();
            CertificateFiles::load(&ca.served()).unwrap();
            std::fs::read(ca.cert()).unwrap()
        };
        let first = made(&["home.example"], now);
        let authority = std::fs::read(ca.authority_cert()).unwrap();
        assert_eq!(made(&["home.example"], now + 300 * DAY), first);
        let second = made(&["home.example", "b.example"], now);
        assert_ne!(second, first);
        assert_ne!(made(&["home.example", "b.example"], now + 380 * DAY), second);
        assert_eq!(std::fs::read(ca.authority_cert()).unwrap(), authority, "the authority stays");
        for key in ["ca.key", "server.key"] {
            assert_eq!(std::fs::metadata(dir.path().join("certs").join(key)).unwrap().mode() & 0o777, 0o600);
        }
    }
}
