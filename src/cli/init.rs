//! `sallyport init`: creates everything that a first run needs.

use std::{
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context, Result, bail};
use clap::Args;
use sallyport_core::{
    clock,
    config::{self, Config, TlsMode, Upstream},
    names::{role::Role, spelling::did_you_mean, username::UserName},
    secrets::{random::random, secret_file},
};
use sallyport_gateway::{
    edge::{local_ca::LocalCa, tls},
    identity::Scopes,
    policy,
    store::{Secrets, Store},
};
use serde::Serialize;

use super::{
    key,
    output::{Output, command_line},
    state::{State, database},
    trust::page_url,
    user::hash_password,
};

/// The commented reference configuration, from which a new instance starts.
const REFERENCE: &str = include_str!("../../config.toml");
const ADMIN: &str = "admin";

#[derive(Debug, Args)]
pub(super) struct Init {
    /// Folder of the instance.
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// Host name of the site.
    #[arg(long, value_name = "NAME")]
    domain: Option<String>,
    /// Policy of an application that already runs.
    #[arg(long, value_name = "POLICY", requires = "upstream")]
    app: Option<String>,
    /// Address of that application.
    #[arg(long, value_name = "ADDR", requires = "app")]
    upstream: Option<Upstream>,
    #[command(flatten)]
    output: Output,
}

/// The result, which is printed only once.
#[derive(Serialize)]
struct NewInstance {
    url: String,
    admin_user: String,
    admin_password: String,
    api_key: String,
    config: PathBuf,
    #[serde(skip)]
    trust_page: Option<String>,
    /// Whether the configuration already existed.
    #[serde(skip)]
    adopted: bool,
}

impl Init {
    pub(super) fn run(self) -> Result<()> {
        let made = self.make()?;
        self.output.print(&made, words)
    }

    fn make(&self) -> Result<NewInstance> {
        let path = self.dir.join("config.toml");
        if path.try_exists().with_context(|| format!("cannot access {}", self.dir.display()))? {
            return self.adopt(&path);
        }
        // Every problem with the arguments is found before anything is created.
        let policy = self.policy_text()?;
        let config = self.config_text()?;
        let fresh = !self.dir.exists();
        let made = self.write(&policy, &config).and_then(|path| fill(&path, false));
        if made.is_err() {
            // Clean up so that a failed run can be repeated.
            let _ = if fresh { std::fs::remove_dir_all(&self.dir) } else { std::fs::remove_file(&path) };
        }
        made
    }

    /// Creates the instance for an existing configuration, such as the one of a checkout.
    fn adopt(&self, path: &Path) -> Result<NewInstance> {
        let path = path.canonicalize()?;
        if self.app.is_some() || self.domain.is_some() {
            bail!(
                "{} already exists; edit it, and omit --domain, --app and --upstream. Nothing was changed",
                path.display()
            );
        }
        let config = config::load(&path)?;
        if has_users(&config)? {
            bail!("{} already contains an instance; nothing was changed", config.data_dir.display());
        }
        fill(&path, true)
    }

    /// Writes the policy and the configuration, and returns the path of the configuration.
    fn write(&self, policy: &str, config: &str) -> Result<PathBuf> {
        let policies = self.dir.join("policies");
        std::fs::create_dir_all(&policies)
            .with_context(|| format!("cannot create the folder {}", policies.display()))?;
        let policy_path = self.policy_path();
        if !policy_path.exists() {
            secret_file::write_public(&policy_path, policy.as_bytes())?;
        }
        let path = self.dir.canonicalize()?.join("config.toml");
        secret_file::write(&path, config.as_bytes())?;
        Ok(path)
    }

    fn policy_name(&self) -> &str {
        self.app.as_deref().unwrap_or("worker")
    }

    fn policy_path(&self) -> PathBuf {
        self.dir.join("policies").join(format!("{}.toml", self.policy_name()))
    }

    /// Returns the built-in policy of the application, or an empty text if its policy file already exists.
    fn policy_text(&self) -> Result<String> {
        let name = self.policy_name();
        let path = self.policy_path();
        if let Some(text) = policy::builtin(name) {
            return Ok(text.to_owned());
        }
        if path.exists() {
            return Ok(String::new());
        }
        let hint = did_you_mean(name, policy::builtin_names());
        let names = policy::builtin_names().collect::<Vec<_>>().join(", ");
        bail!(
            "there is no built-in policy {name:?}{hint} (built in: {names}). For another application, first write its policy to {}; docs/policies.md describes the format. Nothing was created",
            path.display()
        );
    }

    /// Returns the reference configuration with the arguments filled in.
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

/// Creates secrets, certificate, administrator and key for the instance that the configuration at `path` describes.
fn fill(path: &Path, adopted: bool) -> Result<NewInstance> {
    let config = config::load(path)?;
    policy::compile(&config)?;
    make_secrets(&Secrets::open(&config)?)?;
    tls::install_crypto();
    if let TlsMode::LocalCa { dir, names } = &config.tls.mode {
        LocalCa::new(dir).ensure(names, SystemTime::now())?;
    }
    drop(Store::open(&database(&config))?);
    let state = State::open(path)?;
    let (admin, password) = make_admin(&state)?;
    let grant = key::Grant { user: &admin, scopes: &Scopes::All, note: "made by init", expires: None };
    let key = grant.create(&state)?;
    // A gateway that was started before the instance existed loads the user and the key.
    state.announce()?;
    Ok(NewInstance {
        url: config.public_url.as_str().trim_end_matches('/').to_owned(),
        admin_user: admin.to_string(),
        admin_password: password,
        api_key: key.reveal().to_owned(),
        config: path.to_owned(),
        trust_page: page_url(&config),
        adopted,
    })
}

fn has_users(config: &Config) -> Result<bool> {
    let path = database(config);
    Ok(path.exists() && !Store::open(&path)?.users()?.is_empty())
}

/// Formats the result for people. It leaves the password out because nothing asks for one yet; the JSON output has it for whoever prepares a login.
fn words(made: &NewInstance) -> String {
    let mut text = format!(
        "{} {}\n\n  URL             {}\n  administrator   {}\n  API key         {}\n\n\
         The key is shown only once. Start with: {}",
        if made.adopted { "Created the instance for" } else { "Wrote" },
        made.config.display(),
        made.url,
        made.admin_user,
        made.api_key,
        command_line(&made.config, "up"),
    );
    if let Some(page) = &made.trust_page {
        text.push_str("\n\nNo browser trusts its certificate yet. To trust it on this machine, run: ");
        text.push_str(&command_line(&made.config, "trust"));
        text.push_str(". On other devices, once the instance runs, open:\n");
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
    if !state.store.add_user(&admin, Role::Admin, Some(&hash_password(&password)?), clock::unix_now())? {
        bail!("the data folder already has an administrator; nothing was changed there");
    }
    Ok((admin, password))
}
