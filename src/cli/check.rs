//! `sallyport check`: what a start would find wrong.

use anyhow::{Result, bail};
use clap::Args;
use serde::Serialize;

use super::{ConfigFile, output::Output};
use crate::{
    config::{self, Config, TlsMode},
    edge::{certificates::CertificateFiles, tls},
    policy,
    store::secret_file,
};

/// Reads everything as a start would.
#[derive(Debug, Args)]
pub(super) struct Check {
    #[command(flatten)]
    file: ConfigFile,
    #[command(flatten)]
    output: Output,
}

/// What was found.
#[derive(Debug, Serialize)]
struct Report {
    ok: bool,
    faults: Vec<String>,
}

impl Check {
    pub(super) fn run(&self) -> Result<()> {
        let faults = match config::load(&self.file.config) {
            Ok(config) => faults(&config),
            Err(found) => lines(&found),
        };
        let report = Report { ok: faults.is_empty(), faults };
        self.output.print(&report, |report| if report.ok { "ok".to_owned() } else { report.faults.join("\n") })?;
        match report.faults.len() {
            0 => Ok(()),
            1 => bail!("1 fault"),
            n => bail!("{n} faults"),
        }
    }
}

fn faults(config: &Config) -> Vec<String> {
    let mut faults = Vec::new();
    if let Err(found) = policy::compile(config) {
        faults.extend(lines(&found));
    }
    for name in ["jwt.key", "link.keys", "offlinetube.key", "worker.key"] {
        faults.extend(secret_file::read(&config.secrets_dir().join(name)).err().map(|e| e.to_string()));
    }
    if let TlsMode::Files { cert, key } = &config.tls {
        tls::install_crypto();
        faults.extend(CertificateFiles::load(cert, key).err().map(|e| e.to_string()));
    }
    for key in &config.jwt.keys {
        faults.extend(std::fs::metadata(&key.file).err().map(|e| format!("{}: {e}", key.file.display())));
    }
    faults
}

fn lines(found: &config::Diagnostics) -> Vec<String> {
    found.0.iter().map(ToString::to_string).collect()
}
