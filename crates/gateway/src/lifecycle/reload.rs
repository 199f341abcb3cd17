//! Reload: `config.toml`, policies and public keys are re-read when they change or at SIGHUP, and applied atomically.
//!
//! A change counts once two checks in a row have found the same contents, so that a file that is still being written or replaced is left
//! alone.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sallyport_core::{
    config::{self, ClientsConfig, Config, Effect},
    files::settled::Settled,
    supervision::shutdown::stopped,
};
use tokio::{signal::unix::Signal, sync::watch};
use tracing::{error, info, warn};

use crate::state::{GatewayState, Rules, StateError};

/// How often the files are checked.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// The target of its messages. Their number is not limited, since only the owner can cause them.
const TARGET: &str = "sallyport::reload";

/// The changes of a reload.
#[derive(Debug, Default, PartialEq, Eq)]
struct Changes {
    settings: Vec<Change>,
    policies: Vec<String>,
}

#[derive(Debug, PartialEq, Eq)]
struct Change {
    name: String,
    from: String,
    to: String,
}

/// The contents of the files; `None` for a file that cannot be read. The files are small, so their contents are compared, which no clock
/// and no copying tool can mislead.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FilesSnapshot(Vec<(PathBuf, Option<Vec<u8>>)>);

/// Watches the files and reloads until `stop` becomes true.
pub(crate) async fn watch(
    state: Arc<GatewayState>,
    seen: FilesSnapshot,
    mut hangup: Signal,
    mut stop: watch::Receiver<bool>,
) {
    let mut files = Settled::new(seen);
    let mut pending = Pending::default();
    loop {
        let asked = tokio::select! {
            () = tokio::time::sleep(POLL_INTERVAL) => false,
            _ = hangup.recv() => true,
            () = stopped(&mut stop) => return,
        };
        let Some(now) = look(&state).await else { continue };
        // A SIGHUP says that the files are complete.
        let changed = if asked { Some(files.believe(now)) } else { files.look(now) };
        if changed.is_some() {
            pending = Pending::default();
        } else if pending.error.is_none() {
            continue;
        }
        pending.note(reload(&state).await);
    }
}

/// A change that could not be applied yet. The cause can be outside the watched files, so the gateway retries.
#[derive(Debug, Default)]
struct Pending {
    /// The error of the last attempt.
    error: Option<String>,
}

impl Pending {
    /// Records the result of an attempt, and logs it unless the same error was logged before.
    fn note(&mut self, attempt: Result<Changes, String>) {
        let failed = match attempt {
            Ok(changes) => {
                changes.tell();
                None
            }
            Err(error) => Some(error),
        };
        if let Some(error) = failed.as_ref().filter(|error| self.error.as_ref() != Some(error)) {
            error!(target: TARGET, %error, "reload failed; keeping the current configuration and retrying every second");
        }
        self.error = failed;
    }
}

async fn reload(state: &Arc<GatewayState>) -> Result<Changes, String> {
    let state = Arc::clone(state);
    let attempt = tokio::task::spawn_blocking(move || reload_now(&state)).await;
    attempt.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}

/// Re-reads `config.toml`, the policies and the public keys, and puts all of them in force, or none.
fn reload_now(state: &GatewayState) -> Result<Changes, StateError> {
    let old = state.rules.load_full();
    let before = FilesSnapshot::of(&old.config);
    let config = Arc::new(config::load(&old.config.file)?);
    let new = Arc::new(state.read_rules(config, &old)?);
    if FilesSnapshot::of(&old.config) != before {
        return Err(StateError::Unsteady);
    }
    let changes = Changes::between(&old, &new);
    state.put_in_force(new)?;
    Ok(changes)
}

async fn look(state: &Arc<GatewayState>) -> Option<FilesSnapshot> {
    let config = Arc::clone(&state.rules.load().config);
    tokio::task::spawn_blocking(move || FilesSnapshot::of(&config)).await.ok()
}

impl FilesSnapshot {
    pub(crate) fn of(config: &Config) -> Self {
        let mut paths = vec![config.file.clone()];
        paths.extend(policies(&config.policies_dir));
        paths.extend(config.jwt.keys.iter().map(|key| key.file.clone()));
        paths.extend(config.tls.clients.iter().flat_map(ClientsConfig::files).cloned());
        let read = |path: PathBuf| {
            let bytes = fs::read(&path).ok();
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
    fn between(old: &Rules, new: &Rules) -> Self {
        let before = &old.config.settings;
        let after = &new.config.settings;
        let names: BTreeSet<_> = before.keys().chain(after.keys()).collect();
        let value = |settings: &sallyport_core::config::Settings, name| settings.get(name).cloned().unwrap_or_default();
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
            let effect = Effect::of(name);
            match effect {
                Effect::AtOnce => info!(target: TARGET, setting = name, from, to, "{effect}"),
                Effect::AtOnceInPolicies | Effect::AfterRestart(_) => {
                    warn!(target: TARGET, setting = name, from, to, "{effect}");
                }
            }
        }
        for app in &self.policies {
            info!(target: TARGET, app, "the policy has changed");
        }
        info!(target: TARGET, "configuration and policies were reloaded");
    }
}
