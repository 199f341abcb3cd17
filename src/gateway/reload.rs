//! Reload: `config.toml`, policies and public keys are read anew when they change or at SIGHUP, and put in force as a whole.
//!
//! A change is believed when two looks in a row have found the same, so that a file that is just being written or replaced is
//! left alone.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{signal::unix::Signal, sync::watch};
use tracing::{error, info, warn};

use super::{
    effect::Effect,
    live::{Live, Rules},
};
use crate::{
    config::{ClientsConfig, Config},
    settled::Settled,
    stop::stopped,
};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
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

/// What the files hold; None for one that cannot be read. They are small, so their contents are compared, which no clock and no
/// copying tool can mislead.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Seen(Vec<(PathBuf, Option<Vec<u8>>)>);

/// Reloads until `stop` turns true.
pub(super) async fn watch(live: Arc<Live>, (seen, mut hangup): (Seen, Signal), mut stop: watch::Receiver<bool>) {
    let mut files = Settled::new(seen);
    loop {
        let asked = tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => false,
            _ = hangup.recv() => true,
            () = stopped(&mut stop) => return,
        };
        let Some(now) = look(&live).await else { continue };
        // A SIGHUP says that the files are as they should be.
        let changed = if asked { Some(files.believe(now)) } else { files.look(now) };
        if changed.is_some() {
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
            let effect = Effect::of(name);
            match effect {
                Effect::AtOnce => info!(setting = name, from, to, "{effect}"),
                Effect::AtOnceInPolicies | Effect::AfterRestart(_) => warn!(setting = name, from, to, "{effect}"),
            }
        }
        for app in &self.policies {
            info!(app, "the policy has changed");
        }
        info!("configuration and policies were reloaded");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_believed_when_two_looks_have_found_the_same() {
        let seen = |text: &str| Seen(vec![("a".into(), Some(text.into()))]);
        let gone = || Seen(vec![("a".into(), None)]);
        let mut watch = Watch { believed: seen("old"), doubted: None };
        let looks = [seen("ne"), seen("new p"), seen("new"), gone(), seen("new"), seen("new"), seen("new")];
        assert_eq!(looks.map(|now| watch.look(now)), [false, false, false, false, false, true, false]);
        let moment = [gone(), seen("new"), gone(), seen("new")];
        assert_eq!(moment.map(|now| watch.look(now)), [false; 4], "what is there again was never gone");
        assert_eq!([gone(), gone(), gone()].map(|now| watch.look(now)), [false, true, false]);
    }
}
