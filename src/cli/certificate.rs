//! `sallyport certificate`: issues client certificates from the instance's own certificate authority.

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use p12_keystore::{EncryptionAlgorithm, KeyStore, KeyStoreEntry, MacAlgorithm, PrivateKey, PrivateKeyChain};
use sallyport_core::{
    names::username::UserName,
    secrets::{random::random, secret_file},
};
use sallyport_gateway::{
    edge::{
        client_ca::{ClientCa, IssuedCertificate},
        tls,
    },
    store::UserRecord,
};
use serde::Serialize;

use super::{
    output::{Common, moment},
    state::State,
};

const DAY: Duration = Duration::from_hours(24);
/// Key derivation iterations, which an attacker must compute for each guess of the password.
const ITERATIONS: u32 = 100_000;

#[derive(Debug, Subcommand)]
pub(super) enum Certificate {
    /// Create a certificate for a user, as PKCS#12 for phones and browsers and as PEM.
    Create(Create),
}

#[derive(Debug, Args)]
pub(super) struct Create {
    #[command(flatten)]
    common: Common,
    /// User that the certificate identifies.
    #[arg(long)]
    user: UserName,
    /// Validity in days.
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3_650))]
    days: u32,
    /// Path of the PKCS#12 file, such as ana.p12; the PEM file is written beside it.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// The result; the password is printed once and not stored.
#[derive(Serialize)]
struct NewCertificate {
    user: String,
    pkcs12: PathBuf,
    password: String,
    pem: PathBuf,
    expires: String,
    authority: PathBuf,
    /// Whether the configuration requests client certificates of this authority.
    in_use: bool,
}

impl Certificate {
    pub(super) fn run(self) -> Result<()> {
        match self {
            Self::Create(create) => create.run(),
        }
    }
}

impl Create {
    fn run(self) -> Result<()> {
        tls::install_crypto();
        let made = self.make()?;
        self.common.output.print(&made, words)
    }

    fn make(&self) -> Result<NewCertificate> {
        let state = State::open(&self.common.config)?;
        let UserRecord { id, name: user, .. } = state.user(Some(&self.user))?;
        let (pkcs12, pem) = files(&self.out);
        if let Some(there) = [&pkcs12, &pem].into_iter().find(|path| path.exists()) {
            bail!("{} already exists; nothing was created", there.display());
        }
        let certs = state.config.base_dir.join("certs");
        std::fs::create_dir_all(&certs).with_context(|| format!("cannot create {}", certs.display()))?;
        let authority = ClientCa::new(&certs);
        let clients = state.config.tls.clients.as_ref();
        let field = clients.map(|clients| clients.user).unwrap_or_default();
        let issued = authority.issue(&user, id, field, DAY * self.days, SystemTime::now())?;
        let password = data_encoding::BASE32_NOPAD.encode(&random::<10>()).to_ascii_lowercase();
        let files = [
            (&pkcs12, sealed(&user, &issued, &password)?),
            (&pem, format!("{}{}", issued.pem, issued.key.serialize_pem()).into_bytes()),
        ];
        write_all(&files)?;
        let ends = issued.ends.duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
        Ok(NewCertificate {
            user: user.to_string(),
            pkcs12,
            password,
            pem,
            expires: moment(i64::try_from(ends)?),
            in_use: clients.is_some_and(|clients| clients.ca == *authority.authority_cert()),
            authority: authority.authority_cert().clone(),
        })
    }
}

fn words(made: &NewCertificate) -> String {
    let mut text = format!(
        "For {}, until {}:\n\n  PKCS#12    {}\n  password   {}\n  PEM        {} (certificate and key, not encrypted)\n\n\
         The password is shown only once. Anyone with one of these files can sign in as {}; delete them after you install them.",
        made.user,
        made.expires,
        made.pkcs12.display(),
        made.password,
        made.pem.display(),
        made.user,
    );
    if !made.in_use {
        let hint = "\n\nThe gateway does not request client certificates yet. To enable this, add to config.toml:\n\n  [tls.clients]\n  ca = \"certs/clients-ca.pem\"";
        text.push_str(hint);
    }
    text
}

/// Returns the paths of the PKCS#12 file and the PEM file; `out` may name either.
fn files(out: &Path) -> (PathBuf, PathBuf) {
    if out.extension().is_some_and(|e| e == "pem") {
        (out.with_extension("p12"), out.to_owned())
    } else {
        (out.to_owned(), out.with_extension("pem"))
    }
}

/// Writes all files or none.
fn write_all(files: &[(&PathBuf, Vec<u8>)]) -> Result<()> {
    for (i, (path, bytes)) in files.iter().enumerate() {
        if let Err(error) = secret_file::write_export(path, bytes) {
            for (written, _) in files.iter().take(i) {
                let _ = std::fs::remove_file(written);
            }
            return Err(error.into());
        }
    }
    Ok(())
}

/// Encrypts the key and the certificate as PKCS#12, with the only encryption that every phone reads. That encryption is old; the random password
/// compensates. The authority is left out because phones would offer to trust it for servers too.
fn sealed(user: &UserName, issued: &IssuedCertificate, password: &str) -> Result<Vec<u8>> {
    let key = PrivateKey::from_der(issued.key.serialized_der()).context("cannot store the key as PKCS#12")?;
    let certificate = p12_keystore::Certificate::from_der(&issued.der)?;
    let mut store = KeyStore::new();
    let chain = PrivateKeyChain::new(random::<8>().to_vec(), key, [certificate]);
    store.add_entry(user.as_str(), KeyStoreEntry::PrivateKeyChain(chain));
    let writer = store.writer(password).mac_algorithm(MacAlgorithm::HmacSha1).mac_iterations(ITERATIONS);
    let writer = writer.encryption_algorithm(EncryptionAlgorithm::PbeWithShaAnd3KeyTripleDesCbc);
    Ok(writer.encryption_iterations(ITERATIONS).write()?)
}
