//! Reads the state again after it has changed, and puts it in force; revocations and bans that are in force before they are stored.

use std::{
    net::IpAddr,
    sync::{Arc, atomic::Ordering},
};

use sallyport_core::{clock, config::Config};
use tracing::{error, info, warn};

use super::{credentials::CredentialState, error::StateError, gateway_state::GatewayState, rules::Rules};
use crate::store::Withdrawal;

/// The result of re-reading the state.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refreshed {
    /// All of it is in force.
    Whole,
    /// All of it is in force except for a part that could not be read, for this reason, and is unchanged.
    Partly(String),
    /// None of it is in force.
    Failed,
}

impl GatewayState {
    /// Applies the changes that commands have made. A part that cannot be read is unchanged and does not hold up the others.
    pub(crate) async fn refresh(self: &Arc<Self>) -> Refreshed {
        let state = Arc::clone(self);
        let refresh = move || {
            let unread = state.refresh_now(None)?;
            // If this fails, the command has written to a different file than the one that was read.
            state.store.is_in_place()?;
            Ok::<_, StateError>(unread)
        };
        match tokio::task::spawn_blocking(refresh).await {
            Ok(Ok(unread)) if unread.is_empty() => Refreshed::Whole,
            Ok(Ok(unread)) => {
                let unread = unread.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
                error!(%unread, "a part of the state could not be read and is unchanged; everything else is in force");
                Refreshed::Partly(unread)
            }
            Ok(Err(error)) => {
                error!(%error, "the state cannot be read; the previous state stays in force");
                Refreshed::Failed
            }
            Err(_) => Refreshed::Failed,
        }
    }

    /// Enforces a revocation that the command could not store.
    pub(crate) async fn withdraw(self: &Arc<Self>, withdrawal: Withdrawal) -> Refreshed {
        if self.withdrawn.add(withdrawal) { self.refresh().await } else { Refreshed::Failed }
    }

    /// Drops the ban of `network` if it is in force but not stored; returns false if there is none.
    pub(crate) async fn forget_ban(self: &Arc<Self>, network: IpAddr) -> bool {
        let state = Arc::clone(self);
        let forget = move || {
            let _alone = state.refreshing.lock();
            let withdrawn = state.withdrawn.forget_ban(network);
            state.bans.forget_unwritten(network, clock::unix_now()) || withdrawn
        };
        tokio::task::spawn_blocking(forget).await.unwrap_or(false)
    }

    /// Enforces the revocations that a predecessor could not store.
    pub(crate) fn inherit(&self, withdrawn: Vec<Withdrawal>) {
        if withdrawn.is_empty() {
            return;
        }
        for withdrawal in withdrawn {
            let _ = self.withdrawn.add(withdrawal);
        }
        if let Err(error) = self.refresh_now(None) {
            error!(%error, "cannot enforce what was revoked while the disk was full");
        }
    }

    /// Stores new bans; also called after the last request has ended, which may have led to one.
    pub(crate) async fn write_bans(self: &Arc<Self>) {
        let state = Arc::clone(self);
        let written = tokio::task::spawn_blocking(move || {
            let _alone = state.refreshing.lock();
            state.write_bans_now();
        });
        let _ = written.await;
    }

    /// Stores revocations and bans. Both are in force without being stored, so a failure stops nothing.
    fn write_bans_now(&self) {
        self.withdrawn.store(&self.store);
        let changes = self.bans.take_unwritten();
        if let Err(error) = self.store.write_bans(&changes) {
            warn!(%error, "bans are active but could not be saved");
            self.bans.put_back(changes);
        }
    }

    /// Reads the files that `config` names, as successors of the rules in force, which are `old`.
    pub(crate) fn read_rules(&self, config: Arc<Config>, old: &Rules) -> Result<Rules, StateError> {
        Rules::read(config, Some(old), &self.secrets)
    }

    /// Puts new rules in force, together with all of the state, or not at all.
    pub(crate) fn put_in_force(&self, rules: Arc<Rules>) -> Result<(), StateError> {
        self.refresh_now(Some(rules)).map(drop)
    }

    /// Re-reads the state under new rules or those in force. New rules are put in force together with all of the state, or not at all. Without
    /// new rules, a part that could not be read is unchanged, and its error is returned.
    fn refresh_now(&self, rules: Option<Arc<Rules>>) -> Result<Vec<StateError>, StateError> {
        let _alone = self.refreshing.lock();
        let version = self.store.version()?;
        let old = self.authority.load_full();
        let in_force = self.rules.load_full();
        let judged_by = rules.as_ref().unwrap_or(&in_force);
        let CredentialState { authority, link_keys, mut unread } =
            CredentialState::again(&self.store, &self.withdrawn, &self.secrets, judged_by, &old, clock::unix_now())?;
        self.write_bans_now();
        let bans = self.store.bans().map_err(|error| unread.push(error.into())).ok();
        if let Some(rules) = rules {
            if let Some(error) = unread.pop() {
                return Err(error);
            }
            // Before the first request under the new rules.
            self.metrics.know(&rules.site);
            self.rules.store(rules);
        }
        self.authority.store(Arc::new(authority));
        if let Some(bans) = bans {
            self.bans.adopt(self.withdrawn.bans(bans), clock::unix_now());
        }
        self.seen_version.store(version, Ordering::Relaxed);
        if let Some(link_keys) = link_keys {
            *self.seen_link_keys.lock() = link_keys;
        }
        if let Err(error) = self.store.touch_keys(&old.keys.take_used()) {
            warn!(%error, "cannot store when keys were last used");
        }
        info!("reloaded keys, users, links and bans");
        Ok(unread)
    }
}
