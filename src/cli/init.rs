//! `sallyport init`: everything that a first run needs.

use std::{
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Serialize;

use super::{
    key,
    output::Output,
    state::{State, now},
    trust::page_url,
    user::{Role, hash_password},
};
use crate::{
    config::{self, TlsMode, Upstream},
    edge::{local_ca::LocalCa, tls},
    identity::Scopes,
    policy,
    random::random,
    secret_file,
    store::Secrets,
    username::UserName,
};

/// The commented reference, which is also what a new instance starts with.
const REFERENCE: &str = include_str!("../../config.toml");
const ADMIN: &str = "admin";

#[derive(Debug, Args)]
pub(super) struct Init {
    /// Where the instance lives.
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// The name by which it is reached.
    #[arg(long, value_name = "NAME")]
    domain: Option<String>,
    /// The policy of an application that is there already.
    #[arg(long, value_name = "POLICY", requires = "upstream")]
    app: Option<String>,
    /// Where that application listens.
    #[arg(long, value_name = "ADDR", requires = "app")]
    upstream: Option<Upstream>,
    #[command(flatten)]
    output: Output,
}

/// What is printed once and never again.
#[derive(Serialize)]
struct Made {
    url: String,
    admin_user: String,
    admin_password: String,
    api_key: String,
    config: PathBuf,
    #[serde(skip)]
    trust_page: Option<String>,
}

impl Init {
    pub(super) fn run(self) -> Result<()> {
        let made = self.make()?;
        self.output.print(&made, words)
    }

    fn make(&self) -> Result<Made> {
        std::fs::create_dir_all(&self.dir).with_context(|| format!("{} cannot be made", self.dir.display()))?;
        let dir = self.dir.canonicalize()?;
        let path = dir.join("config.toml");
        if path.exists() {
            bail!("{} is there already; nothing was changed", path.display());
        }
        self.write_policies(&dir)?;
        secret_file::write(&path, self.config_text()?.as_bytes())?;
        Self::fill(&path).inspect_err(|_| {
            // What could not be finished can be begun again.
            let _ = std::fs::remove_file(&path);
        })
    }

    fn fill(path: &Path) -> Result<Made> {
        let config = config::load(path)?;
        policy::compile(&config)?;
        make_secrets(&Secrets::open(&config)?)?;
        tls::install_crypto();
        if let TlsMode::LocalCa { dir, names } = &config.tls.mode {
            LocalCa::new(dir).ensure(names, SystemTime::now())?;
        }
        let state = State::open(path)?;
        let (admin, password) = make_admin(&state)?;
        let grant = key::Grant { user: &admin, scopes: &Scopes::All, note: "made by init", expires: None };
        let key = grant.create(&state)?;
        Ok(Made {
            url: config.public_url.as_str().trim_end_matches('/').to_owned(),
            admin_user: admin.to_string(),
            admin_password: password,
            api_key: key.reveal().to_owned(),
            config: path.to_owned(),
            trust_page: page_url(&config),
        })
    }

    fn write_policies(&self, dir: &Path) -> Result<()> {
        let name = self.app.as_deref().unwrap_or("worker");
        let path = dir.join("policies").join(format!("{name}.toml"));
        if path.exists() {
            return Ok(());
        }
        let Some(text) = policy::builtin(name) else {
            bail!("there is no built-in policy {name:?}; write it to {} first", path.display());
        };
        std::fs::create_dir_all(dir.join("policies"))?;
        Ok(secret_file::write_public(&path, text.as_bytes())?)
    }

    /// The reference with what was asked for filled in.
    fn config_text(&self) -> Result<String> {
        let mut text = REFERENCE.to_owned();
        if let Some(domain) = &self.domain {
            url::Host::parse(domain).with_context(|| format!("{domain:?} is not a host name"))?;
            text = text.replace("\nnames = []", &format!("\nnames = [{domain:?}]"));
        }
        if let (Some(policy), Some(upstream)) = (&self.app, &self.upstream) {
            let upstream = match upstream {
                Upstream::Tcp(address) => address.to_string(),
                Upstream::Unix(path) => format!("unix:{}", path.display()),
            };
            text = text
                .replace("\nname = \"downloads\"", &format!("\nname = {policy:?}"))
                .replace("\npolicy = \"worker\"", &format!("\npolicy = {policy:?}"))
                .replace("\nupstream = \"127.0.0.1:8001\"", &format!("\nupstream = {upstream:?}"));
        }
        Ok(text)
    }
}

fn words(made: &Made) -> String {
    let mut text = format!(
        "Wrote {}\n\n  URL             {}\n  administrator   {}\n  password        {}\n  API key         {}\n\n\
         Password and key are shown this once only. Start with: sallyport up --config {}",
        made.config.display(),
        made.url,
        made.admin_user,
        made.admin_password,
        made.api_key,
        made.config.display()
    );
    if let Some(page) = &made.trust_page {
        text.push_str("\n\nNo browser knows its certificate yet. For this machine: sallyport trust. For other devices, once it runs:\n");
        text.push_str(page);
    }
    text
}

fn make_secrets(secrets: &Secrets) -> Result<()> {
    secrets.jwt()?;
    secrets.link_keys()?;
    secrets.offlinetube()?;
    secrets.worker()?;
    Ok(())
}

fn make_admin(state: &State) -> Result<(UserName, String)> {
    let admin: UserName = ADMIN.parse()?;
    let password = data_encoding::BASE32_NOPAD.encode(&random::<15>()).to_ascii_lowercase();
    if !state.store.add_user(&admin, Role::Admin.name(), Some(&hash_password(&password)?), now())? {
        bail!("the data folder has an administrator already; nothing was changed there");
    }
    Ok((admin, password))
}
