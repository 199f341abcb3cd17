//! Reload: `config.toml`, policies and public keys are read anew when they change or at SIGHUP, and put in force as a whole.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{signal::unix::Signal, sync::watch};
use tracing::{error, info, warn};

use super::live::{Live, Rules};
use crate::{
    config::{ClientsConfig, Config},
    stop::stopped,
};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What is fixed when the gateway starts: sockets, folders, logs, and the settings of the worker, which is a process of its own.
const FIXED: [&str; 10] = [
    "data_dir",
    "gateway.listen",
    "gateway.http_listen",
    "gateway.admin_listen",
    "gateway.max_connections",
    "gateway.public_url",
    "jwt.secret_env",
    "log.",
    "tls.",
    "worker.",
];

/// What of these is not.
const LIVE: &str = "tls.clients.";

/// What a reload has changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    settings: Vec<Change>,
    policies: Vec<String>,
}

#[derive(Debug, PartialEq, Eq)]
struct Change {
    name: String,
    from: String,
    to: String,
}

/// What the files hold. They are small, so their contents are compared, which no clock and no copying tool can mislead.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Seen(Vec<(PathBuf, Vec<u8>)>);

/// Reloads until `stop` turns true.
pub(super) async fn watch(live: Arc<Live>, (seen, mut hangup): (Seen, Signal), mut stop: watch::Receiver<bool>) {
    let mut seen = Some(seen);
    loop {
        let asked = tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => false,
            _ = hangup.recv() => true,
            () = stopped(&mut stop) => return,
        };
        let now = look(&live).await;
        if asked || now != seen {
            seen = now;
            reload(&live).await;
        }
    }
}

async fn reload(live: &Arc<Live>) {
    let theirs = Arc::clone(live);
    match tokio::task::spawn_blocking(move || theirs.reload()).await {
        Ok(Ok(changes)) => changes.tell(),
        Ok(Err(error)) => error!(%error, "nothing is reloaded, what was in force stays so"),
        Err(error) => error!(%error, "the reload has failed, what was in force stays so"),
    }
}

async fn look(live: &Arc<Live>) -> Option<Seen> {
    let config = Arc::clone(&live.rules.load().config);
    tokio::task::spawn_blocking(move || Seen::of(&config)).await.ok()
}

impl Seen {
    pub(super) fn of(config: &Config) -> Self {
        let mut paths = vec![config.file.clone()];
        paths.extend(policies(&config.policies_dir));
        paths.extend(config.jwt.keys.iter().map(|key| key.file.clone()));
        paths.extend(config.tls.clients.iter().flat_map(ClientsConfig::files).cloned());
        let read = |path: PathBuf| {
            let bytes = fs::read(&path).unwrap_or_default();
            (path, bytes)
        };
        Self(paths.into_iter().map(read).collect())
    }
}

fn policies(folder: &Path) -> BTreeSet<PathBuf> {
    let files = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    files.filter(|path| path.extension().is_some_and(|e| e == "toml")).collect()
}

impl Changes {
    pub(super) fn between(old: &Rules, new: &Rules) -> Self {
        let (before, after) = (&old.config.settings, &new.config.settings);
        let names: BTreeSet<_> = before.keys().chain(after.keys()).collect();
        let value = |settings: &crate::config::Settings, name| settings.get(name).cloned().unwrap_or_default();
        let changes = names.into_iter().filter(|name| before.get(*name) != after.get(*name));
        Self {
            settings: changes
                .map(|name| Change { name: name.clone(), from: value(before, name), to: value(after, name) })
                .collect(),
            policies: new.site.changed_policies(&old.site).map(|app| app.name.to_string()).collect(),
        }
    }

    fn tell(&self) {
        for Change { name, from, to } in &self.settings {
            if !name.starts_with(LIVE) && FIXED.iter().any(|fixed| name.starts_with(fixed)) {
                warn!(setting = name, from, to, "this change waits for a restart");
            } else {
                info!(setting = name, from, to, "a setting has changed");
            }
        }
        for app in &self.policies {
            info!(app, "the policy has changed");
        }
        info!("configuration and policies were reloaded");
    }
}
