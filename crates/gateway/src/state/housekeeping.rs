//! The periodic work: applies changes by other processes, stores when keys were last used, and drops what no longer counts.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use sallyport_core::{clock, supervision::shutdown::stopped};
use secrecy::ExposeSecret;
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::gateway_state::GatewayState;

/// How often the gateway checks whether other processes have changed state without telling it.
const POLL_EVERY: Duration = Duration::from_secs(1);
/// How often the time of each key's last use is stored.
const TOUCH_EVERY: Duration = Duration::from_mins(1);
/// How often rate limits drop clients that no longer matter.
const SWEEP_EVERY: Duration = Duration::from_secs(10);
/// How often expired links are removed.
const TIDY_EVERY: Duration = Duration::from_mins(10);

impl GatewayState {
    /// Runs the periodic work until `stop` becomes true: applies changes by other processes, stores last uses, and sweeps limits and links.
    pub(crate) async fn keep_house(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let mut poll = tokio::time::interval(POLL_EVERY);
        let mut touch = tokio::time::interval(TOUCH_EVERY);
        let mut sweep = tokio::time::interval(SWEEP_EVERY);
        let mut tidy = tokio::time::interval(TIDY_EVERY);
        loop {
            tokio::select! {
                _ = poll.tick() => self.poll().await,
                _ = touch.tick() => self.touch().await,
                _ = sweep.tick() => self.sweep().await,
                _ = tidy.tick() => self.forget_links().await,
                () = self.bans.unwritten.notified() => self.write_bans().await,
                () = stopped(&mut stop) => break,
            }
        }
        self.touch().await;
    }

    async fn forget_links(self: &Arc<Self>) {
        let state = Arc::clone(self);
        let forgotten = tokio::task::spawn_blocking(move || {
            state.authority.load().made_links.sweep(clock::unix_now());
            state.store.forget_links(clock::unix_now())
        });
        if let Ok(Err(error)) = forgotten.await {
            warn!(%error, "cannot remove expired links");
        }
    }

    async fn sweep(self: &Arc<Self>) {
        let rules = self.rules.load_full();
        rules.site.sweep();
        self.bans.sweep(&rules.config, clock::unix_now());
        let state = Arc::clone(self);
        let _ = tokio::task::spawn_blocking(move || state.store.keep_reserve()).await;
    }

    async fn poll(self: &Arc<Self>) {
        let state = Arc::clone(self);
        let look = move || {
            state.look_for_the_database();
            state.store_withdrawn();
            state.has_changed()
        };
        if let Ok(true) = tokio::task::spawn_blocking(look).await {
            self.refresh().await;
        }
    }

    fn store_withdrawn(&self) {
        let _alone = self.refreshing.lock();
        self.withdrawn.store(&self.store);
    }

    /// Logs, once, that the database is no longer the one that commands open.
    fn look_for_the_database(&self) {
        let found = self.store.is_in_place();
        let mut in_place = self.in_place.lock();
        let Some(changed) = in_place.look(found.is_ok()) else { return };
        match (changed, found) {
            (false, Err(error)) => {
                error!(%error, "commands do not reach this gateway; the previous state stays in force");
            }
            (_, Ok(())) | (true, Err(_)) => info!("the state database is back in place"),
        }
    }

    /// Returns true if another process has changed the database or the keys of links. A file that cannot be read counts as unchanged.
    fn has_changed(&self) -> bool {
        let seen = self.seen_link_keys.lock();
        let keys = self.secrets.link_keys_at_hand().ok().flatten();
        let other_keys = keys.is_some_and(|keys| keys.expose_secret() != seen.expose_secret());
        other_keys || self.store.version().is_ok_and(|v| v != self.seen_version.load(Ordering::Relaxed))
    }

    async fn touch(self: &Arc<Self>) {
        let used = self.authority.load().keys.take_used();
        if used.is_empty() {
            return;
        }
        let state = Arc::clone(self);
        let touched = tokio::task::spawn_blocking(move || state.store.touch_keys(&used)).await;
        if let Ok(Err(error)) = touched {
            warn!(%error, "cannot store when keys were last used");
        }
    }
}
