//! The state of the running gateway: the compiled site, and the keys, users, links and bans that commands change while it runs.

use std::{
    net::IpAddr,
    sync::{Arc, atomic::AtomicI64},
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use sallyport_core::{clock, config::Config, files::settled::Settled, statement::StatementKey};
use secrecy::{ExposeSecret, SecretString};

use super::{
    bans::Bans,
    credentials::CredentialState,
    error::StateError,
    links::{LinkRefusal, LinkRequest, MadeLink},
    rules::Rules,
    withdrawn::Withdrawn,
};
use crate::{
    identity::Authenticator,
    observe::{access_log::AccessLog, metrics::Metrics},
    policy::Reason,
    store::{Secrets, Store},
};

/// Everything that decisions and responses depend on.
pub(crate) struct GatewayState {
    /// The contents of the files, as of the last reload.
    pub rules: ArcSwap<Rules>,
    /// The verifiers, as of the last change of state.
    pub authority: ArcSwap<Authenticator>,
    /// Signs statements for the worker.
    pub statement_key: StatementKey,
    /// The access log.
    pub access_log: AccessLog,
    /// The metrics for Prometheus.
    pub metrics: Metrics,
    /// The bans.
    pub(crate) bans: Bans,
    /// Revocations that are not stored yet.
    pub(crate) withdrawn: Withdrawn,
    pub(super) store: Store,
    pub(super) secrets: Secrets,
    pub(super) seen_version: AtomicI64,
    pub(super) seen_link_keys: Mutex<SecretString>,
    /// Whether the open database is still the file at its path.
    pub(super) in_place: Mutex<Settled<bool>>,
    /// Held while state is read and put in force, so that an older reading never replaces a newer one.
    pub(super) refreshing: Mutex<()>,
}

impl GatewayState {
    /// Reads everything that the configuration names, and creates missing secrets.
    pub(crate) fn open(config: &Arc<Config>) -> Result<Self, StateError> {
        let secrets = Secrets::open(config)?;
        let store = Store::open(&config.data_dir.join("state.db"))?;
        let rules = Rules::read(Arc::clone(config), None, &secrets)?;
        // Read before the state itself, so that no change is missed in between.
        let seen_version = AtomicI64::new(store.version()?);
        let withdrawn = Withdrawn::default();
        let CredentialState { authority, link_keys, .. } =
            CredentialState::first(&store, &withdrawn, &secrets, &rules, clock::unix_now())?;
        let bans = Bans::default();
        bans.adopt(store.bans()?, clock::unix_now());
        let metrics = Metrics::new(&rules.site);
        let access_log = AccessLog::open(&config.log, metrics.access_log())
            .map_err(|e| StateError::Io(config.log.access.clone(), e))?;
        Ok(Self {
            statement_key: StatementKey::new(secrets.worker()?.expose_secret().as_bytes()),
            seen_version,
            seen_link_keys: Mutex::new(link_keys.unwrap_or_default()),
            in_place: Mutex::new(Settled::new(true)),
            refreshing: Mutex::new(()),
            authority: ArcSwap::from_pointee(authority),
            metrics,
            rules: ArcSwap::from_pointee(rules),
            access_log,
            bans,
            withdrawn,
            store,
            secrets,
        })
    }

    /// Returns true if this client is banned.
    pub(crate) fn is_banned(&self, client: IpAddr) -> bool {
        self.bans.shut_out(&self.rules.load().config, client, clock::unix_now())
    }

    /// Records a head that was refused before it became a request.
    pub(crate) fn note_unread(&self, client: IpAddr, reason: Reason) {
        self.bans.note_unread(&self.rules.load().config, client, reason, clock::unix_now());
    }

    /// Creates a signed link and stores it in the list.
    pub(crate) async fn make_link(self: &Arc<Self>, request: LinkRequest) -> Result<MadeLink, LinkRefusal> {
        let state = Arc::clone(self);
        let made = tokio::task::spawn_blocking(move || state.make_link_now(request));
        made.await.unwrap_or(Err(LinkRefusal::Internal))
    }

    fn make_link_now(&self, mut request: LinkRequest) -> Result<MadeLink, LinkRefusal> {
        // State that was read before the link is stored must not be put in force afterwards.
        let _alone = self.refreshing.lock();
        let rules = self.rules.load();
        let authority = self.authority.load();
        if let Some(maker) = request.maker.take() {
            if !authority.is_still_valid(&maker, clock::unix_now()) {
                return Err(LinkRefusal::MakerRevoked);
            }
            request.maker = Some(authority.to_be_kept(maker, clock::unix_now()).ok_or(LinkRefusal::LargeMaker)?);
        }
        let user = authority.people.users.get(&request.user);
        if user.is_none() && authority.people.removed.contains_key(&request.user) {
            return Err(LinkRefusal::BadUser);
        }
        request.owner = user.map(|user| user.id);
        let (made, record) =
            request.make(&rules.config, &rules.site, &authority.links, &self.store, clock::unix_now())?;
        authority.made_links.add(&record, request.made_with());
        Ok(made)
    }
}
