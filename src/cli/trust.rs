//! `sallyport trust`: makes this machine and its browsers trust the local certificate authority, or undoes that.

mod browsers;
mod system;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    path::PathBuf,
};

use anyhow::{Context, Result, bail};
use clap::Args;
use sallyport_core::{
    addresses::is_local,
    config::{self, Config, TlsMode},
};
use sallyport_gateway::{
    TRUST_PAGE,
    edge::{local_ca::LocalCa, trust_anchor::TrustAnchor},
};
use serde::Serialize;

use super::output::{Common, command_line};

/// Arguments of `sallyport trust`.
#[derive(Debug, Args)]
pub(super) struct Trust {
    #[command(flatten)]
    common: Common,
    /// Stop trusting the authority.
    #[arg(long, conflicts_with = "show")]
    remove: bool,
    /// Print the fingerprint and change nothing.
    #[arg(long)]
    show: bool,
}

/// What to do with each store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TrustAction {
    Trust,
    Remove,
}

/// The certificate authority, and the file that contains it.
struct Authority {
    path: PathBuf,
    anchor: TrustAnchor,
    /// Its name in every store, which differs between two instances on one machine.
    label: String,
}

/// The result for one store.
#[derive(Debug, Serialize)]
struct Store {
    #[serde(rename = "store")]
    kind: &'static str,
    path: PathBuf,
    #[serde(flatten)]
    outcome: StoreOutcome,
}

#[derive(Debug, Serialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
enum StoreOutcome {
    /// The store is as requested.
    Done { what: &'static str },
    /// The store is not as requested; `command` would change it.
    Missing { what: String, command: String },
}

#[derive(Debug, Serialize)]
struct Report {
    name: String,
    fingerprint: String,
    certificate: PathBuf,
    stores: Vec<Store>,
}

impl Trust {
    pub(super) fn run(self) -> Result<()> {
        let authority = Authority::of(&self.common)?;
        let action = if self.remove { TrustAction::Remove } else { TrustAction::Trust };
        let stores = if self.show { Vec::new() } else { every_store(&authority, action) };
        let report = Report {
            name: authority.anchor.name().to_owned(),
            fingerprint: authority.anchor.fingerprint(),
            certificate: authority.path,
            stores,
        };
        self.common.output.print(&report, words)?;
        if !self.show && !report.stores.iter().any(|store| matches!(store.outcome, StoreOutcome::Done { .. })) {
            bail!("no store could be changed");
        }
        Ok(())
    }
}

fn every_store(authority: &Authority, action: TrustAction) -> Vec<Store> {
    let mut stores = vec![system::store(authority, action)];
    stores.extend(browsers::stores(authority, action));
    stores
}

impl Authority {
    fn of(common: &Common) -> Result<Self> {
        let config = config::load(&common.config)?;
        let TlsMode::LocalCa { dir, .. } = &config.tls.mode else {
            bail!("tls.mode is not \"local-ca\", so this instance has no certificate authority to trust");
        };
        let path = LocalCa::new(dir).authority_cert();
        let anchor = TrustAnchor::read(&path).with_context(|| {
            format!(
                "this instance has no certificate authority yet; its first start creates one: {}",
                command_line(&common.config, "up")
            )
        })?;
        let id: String = anchor.fingerprint().replace(':', "").to_lowercase().chars().take(12).collect();
        Ok(Self { path, anchor, label: format!("sallyport-{id}") })
    }
}

impl StoreOutcome {
    fn missing(what: impl Into<String>, command: impl Into<String>) -> Self {
        Self::Missing { what: what.into(), command: command.into() }
    }
}

fn words(report: &Report) -> String {
    let mut lines = vec![report.name.clone(), format!("SHA-256 {}", report.fingerprint)];
    for Store { kind, path, outcome } in &report.stores {
        lines.push(String::new());
        lines.push(format!("{kind} ({})", path.display()));
        lines.extend(match outcome {
            StoreOutcome::Done { what } => vec![format!("  {what}")],
            StoreOutcome::Missing { what, command } => vec![format!("  not done: {what}"), format!("  run: {command}")],
        });
    }
    lines.join("\n")
}

/// Returns the URL at which devices on the local network learn how to trust the authority, or None if there is no such page.
pub(super) fn page_url(config: &Config) -> Option<String> {
    let TlsMode::LocalCa { .. } = &config.tls.mode else { return None };
    let listen = config.http_listen.first()?;
    let host = if listen.ip().is_unspecified() { own_address() } else { Some(listen.ip()) };
    let at = host
        .map_or_else(|| format!("localhost:{}", listen.port()), |ip| SocketAddr::new(ip, listen.port()).to_string());
    Some(format!("http://{at}{TRUST_PAGE}"))
}

/// Returns the address from which this machine would reach other networks, found without sending a packet.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    socket.local_addr().ok().map(|address| address.ip()).filter(|ip| is_local(*ip))
}

/// Finds a program on the PATH or in the folders that only root's PATH contains.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|path| path.is_file())
}
