//! `sallyport check`: what a start would find wrong.

use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::Args;
use secrecy::ExposeSecret;
use serde::Serialize;

use super::output::Common;
use crate::{
    config::{self, Config, TlsMode},
    edge::{acme::Acme, certificates::CertificateFiles, tls},
    gateway::{self, GeoIp},
    identity::link::LinkKeys,
    policy, secret_file,
    store::Secrets,
};

/// Reads everything as a start would.
#[derive(Debug, Args)]
pub(super) struct Check {
    #[command(flatten)]
    common: Common,
}

/// What was found.
#[derive(Debug, Serialize)]
struct Report {
    ok: bool,
    faults: Vec<String>,
}

impl Check {
    pub(super) fn run(&self) -> Result<()> {
        let faults = match config::load(&self.common.config) {
            Ok(config) => faults(&config),
            Err(found) => lines(&found),
        };
        let report = Report { ok: faults.is_empty(), faults };
        self.common
            .output
            .print(&report, |report| if report.ok { "ok".to_owned() } else { report.faults.join("\n") })?;
        match report.faults.len() {
            0 => Ok(()),
            1 => bail!("1 fault"),
            n => bail!("{n} faults"),
        }
    }
}

fn faults(config: &Config) -> Vec<String> {
    tls::install_crypto();
    let mut faults = Vec::new();
    if let Err(found) = policy::compile(config) {
        faults.extend(lines(&found));
    }
    faults.extend(secret_faults(config));
    faults.extend(gateway::client_authorities(config).err().map(|e| e.to_string()));
    faults.extend(config.geoip.as_deref().and_then(|path| GeoIp::load(path).err()).map(|e| e.to_string()));
    faults.extend(config.tls.files().filter_map(|files| CertificateFiles::load(files).err()).map(|e| e.to_string()));
    if let TlsMode::Acme { acme, .. } = &config.tls.mode {
        faults.extend(Acme::open(acme, &config.acme_dir()).err().map(|e| e.to_string()));
    }
    faults
}

/// Makes nothing: what is missing is made at a start.
fn secret_faults(config: &Config) -> Vec<String> {
    let dir = config.secrets_dir();
    let whole = ["offlinetube.key", "worker.key"].map(|name| whole_secret(&dir.join(name)));
    let links = secret_file::read(&dir.join("link.keys")).map_err(anyhow::Error::from).and_then(|keys| {
        let parsed = keys.map(|keys| LinkKeys::parse(keys.expose_secret())).transpose();
        parsed.context("link.keys").map(drop)
    });
    let faults = whole.into_iter().chain([links, token_keys(config)]).filter_map(Result::err);
    faults.map(|fault| format!("{fault:#}")).collect()
}

fn whole_secret(path: &Path) -> Result<()> {
    if let Some(secret) = secret_file::read(path)? {
        secret_file::long_enough(secret, &path.display().to_string())?;
    }
    Ok(())
}

/// The public keys are read with any secret.
fn token_keys(config: &Config) -> Result<()> {
    let secret = Secrets::look(config).jwt_at_hand()?.unwrap_or_default();
    gateway::jwt_verifier(config, &secret)?;
    Ok(())
}

fn lines(found: &config::Diagnostics) -> Vec<String> {
    found.0.iter().map(ToString::to_string).collect()
}
