//! The state of the running gateway: the compiled site, and the keys, users, links and bans that commands change while it runs.

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use sallyport_core::{
    config::{self, Config, Diagnostics},
    files::settled::Settled,
    secrets::secret_file::SecretError,
    statement::StatementKey,
    supervision::shutdown::stopped,
};
use secrecy::{ExposeSecret, SecretString};
use thiserror::Error;
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::{
    bans::Bans,
    credentials::CredentialState,
    geoip::{GeoIp, GeoIpError},
    links::{LinkRefusal, LinkRequest, MadeLink},
    withdrawn::Withdrawn,
};
use crate::{
    identity::{
        Authenticator, ClientAuthorities, InvalidAuthorities,
        jwt::{Expected, InvalidPublicKey, JwtVerifier},
        link::MalformedLinkKeys,
    },
    lifecycle::reload::{Changes, Seen},
    observe::{access_log::AccessLog, metrics::Metrics},
    policy::{self, Reason, Site},
    store::{Secrets, SecretsError, Store, StoreError, Withdrawal},
};

/// How often the gateway checks whether other processes have changed state without telling it.
const POLL_EVERY: Duration = Duration::from_secs(1);
/// How often the time of each key's last use is stored.
const TOUCH_EVERY: Duration = Duration::from_mins(1);
/// How often rate limits drop clients that no longer matter.
const SWEEP_EVERY: Duration = Duration::from_secs(10);
/// How often expired links are removed.
const TIDY_EVERY: Duration = Duration::from_mins(10);

/// Everything that decisions and answers depend on.
pub struct GatewayState {
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
    store: Store,
    secrets: Secrets,
    seen_version: AtomicI64,
    seen_link_keys: Mutex<SecretString>,
    /// Whether the open database is still the file at its path.
    in_place: Mutex<Settled<bool>>,
    /// Held while state is read and put in force, so that an older reading never replaces a newer one.
    refreshing: Mutex<()>,
}

/// The contents of `config.toml` and the policies, replaced as a whole.
pub struct Rules {
    /// The configuration.
    pub config: Arc<Config>,
    /// The applications and their policies.
    pub site: Site,
    /// The country database, if one is configured.
    pub countries: Option<GeoIp>,
    /// The authorities of client certificates, if any are requested.
    pub client_authorities: Option<Arc<ClientAuthorities>>,
    pub(crate) jwt: Arc<JwtVerifier>,
    token_secret: TokenSecret,
}

/// Where the secret of the gateway's own tokens comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TokenSecret {
    InItsFile,
    InTheEnvironment,
}

/// The result of re-reading the state.
#[derive(Debug, PartialEq, Eq)]
pub enum Refreshed {
    /// All of it is in force.
    Whole,
    /// All of it is in force except for a part that could not be read, for this reason, and is unchanged.
    Partly(String),
    /// None of it is in force.
    Failed,
}

impl Rules {
    fn read(config: Arc<Config>, old: Option<&Self>, secrets: &Secrets) -> Result<Self, StateError> {
        let site = match old {
            Some(old) => policy::compile_after(&config, &old.site)?,
            None => policy::compile(&config)?,
        };
        let countries = config.geoip.as_deref().map(GeoIp::load).transpose()?;
        let known = old.and_then(|old| old.client_authorities.as_ref());
        let client_authorities = client_authorities(&config)?.map(Arc::new).map(|new| match known {
            // TLS sessions can be resumed as long as the authorities are the same.
            Some(known) if known.is_same(&new) => Arc::clone(known),
            _ => new,
        });
        // Replacing a secret whose file is missing would invalidate every token.
        let secret = match old.map(|old| old.token_secret) {
            Some(TokenSecret::InItsFile) if !secrets.has_jwt_file() => return Err(secrets.gone("jwt.key").into()),
            Some(_) => secrets.jwt_at_hand()?.ok_or_else(|| secrets.gone("jwt.key"))?,
            None => secrets.jwt()?,
        };
        let token_secret = if secrets.has_jwt_file() { TokenSecret::InItsFile } else { TokenSecret::InTheEnvironment };
        let jwt = Arc::new(jwt_verifier(&config, &secret)?);
        Ok(Self { config, site, countries, client_authorities, jwt, token_secret })
    }
}

/// Why the gateway cannot start.
#[derive(Debug, Error)]
pub enum StateError {
    /// A policy is invalid.
    #[error("{0}")]
    Policy(#[from] Diagnostics),
    /// The country database is invalid.
    #[error(transparent)]
    GeoIp(#[from] GeoIpError),
    /// A secret is invalid.
    #[error(transparent)]
    Secrets(#[from] SecretsError),
    /// The state database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The keys of signed links are invalid.
    #[error("secrets/link.keys: {0}")]
    LinkKeys(#[from] MalformedLinkKeys),
    /// A public key is invalid.
    #[error("{0}: {1}")]
    PublicKey(std::path::PathBuf, InvalidPublicKey),
    /// The authorities of client certificates, or their revocation lists, are invalid.
    #[error("{0} and its revocation lists: {1}")]
    ClientAuthorities(std::path::PathBuf, InvalidAuthorities),
    /// Files changed while they were read.
    #[error("a file changed while it was being read; it will be read again once it stops changing")]
    Unsteady,
    /// A file cannot be read or written.
    #[error("{0}: {1}")]
    Io(std::path::PathBuf, std::io::Error),
}

impl From<SecretError> for StateError {
    fn from(error: SecretError) -> Self {
        Self::Secrets(error.into())
    }
}

impl GatewayState {
    /// Reads everything that the configuration names, and creates missing secrets.
    pub fn open(config: &Arc<Config>) -> Result<Self, StateError> {
        let secrets = Secrets::open(config)?;
        let store = Store::open(&config.data_dir.join("state.db"))?;
        let rules = Rules::read(Arc::clone(config), None, &secrets)?;
        // Read before the state itself, so that no change is missed in between.
        let seen_version = AtomicI64::new(store.version()?);
        let withdrawn = Withdrawn::default();
        let CredentialState { authority, link_keys, .. } =
            CredentialState::first(&store, &withdrawn, &secrets, &rules, now())?;
        let bans = Bans::default();
        bans.adopt(store.bans()?, now());
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

    /// Applies the changes that commands have made. A part that cannot be read is unchanged and does not hold up the others.
    pub async fn refresh(self: &Arc<Self>) -> Refreshed {
        let live = Arc::clone(self);
        let refresh = move || {
            let unread = live.refresh_now(None)?;
            // If this fails, the command has written to a different file than the one that was read.
            live.store.is_in_place()?;
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
        let live = Arc::clone(self);
        let forget = move || {
            let _alone = live.refreshing.lock().unwrap_or_else(PoisonError::into_inner);
            let withdrawn = live.withdrawn.forget_ban(network);
            live.bans.forget_unwritten(network, now()) || withdrawn
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

    /// Returns true if this client is banned.
    pub(crate) fn is_banned(&self, client: IpAddr) -> bool {
        self.bans.shut_out(&self.rules.load().config, client, now())
    }

    /// Records a head that was refused before it became a request.
    pub(crate) fn note_unread(&self, client: IpAddr, reason: Reason) {
        self.bans.note_unread(&self.rules.load().config, client, reason, now());
    }

    /// Creates a signed link and stores it in the list.
    pub async fn make_link(self: &Arc<Self>, request: LinkRequest) -> Result<MadeLink, LinkRefusal> {
        let live = Arc::clone(self);
        let made = tokio::task::spawn_blocking(move || live.make_link_now(request));
        made.await.unwrap_or(Err(LinkRefusal::Internal))
    }

    fn make_link_now(&self, mut request: LinkRequest) -> Result<MadeLink, LinkRefusal> {
        // State that was read before the link is stored must not be put in force afterwards.
        let _alone = self.refreshing.lock().unwrap_or_else(PoisonError::into_inner);
        let (rules, authority) = (self.rules.load(), self.authority.load());
        if let Some(maker) = request.maker.take() {
            if !authority.is_still_valid(&maker, now()) {
                return Err(LinkRefusal::Forbidden);
            }
            request.maker = Some(authority.to_be_kept(maker, now()).ok_or(LinkRefusal::LargeMaker)?);
        }
        let user = authority.people.users.get(&request.user);
        if user.is_none() && authority.people.removed.contains_key(&request.user) {
            return Err(LinkRefusal::BadUser);
        }
        request.owner = user.map(|user| user.id);
        let (made, record) = request.make(&rules.config, &rules.site, &authority.links, &self.store, now())?;
        authority.made_links.add(&record, request.made_with());
        Ok(made)
    }

    /// Runs the periodic work until `stop` becomes true: applies changes by other processes, stores last uses, and sweeps limits and links.
    pub async fn keep_house(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
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
        let live = Arc::clone(self);
        let forgotten = tokio::task::spawn_blocking(move || {
            live.authority.load().made_links.sweep(now());
            live.store.forget_links(now())
        });
        if let Ok(Err(error)) = forgotten.await {
            warn!(%error, "cannot remove expired links");
        }
    }

    async fn sweep(self: &Arc<Self>) {
        let rules = self.rules.load_full();
        rules.site.sweep();
        self.bans.sweep(&rules.config, now());
        let live = Arc::clone(self);
        let _ = tokio::task::spawn_blocking(move || live.store.keep_reserve()).await;
    }

    /// Stores new bans; also called after the last request has ended, which may have led to one.
    pub(crate) async fn write_bans(self: &Arc<Self>) {
        let live = Arc::clone(self);
        let written = tokio::task::spawn_blocking(move || {
            let _alone = live.refreshing.lock().unwrap_or_else(PoisonError::into_inner);
            live.write_bans_now();
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

    async fn poll(self: &Arc<Self>) {
        let live = Arc::clone(self);
        let look = move || {
            live.look_for_the_database();
            live.store_withdrawn();
            live.has_changed()
        };
        if let Ok(true) = tokio::task::spawn_blocking(look).await {
            self.refresh().await;
        }
    }

    fn store_withdrawn(&self) {
        let _alone = self.refreshing.lock().unwrap_or_else(PoisonError::into_inner);
        self.withdrawn.store(&self.store);
    }

    /// Logs, once, that the database is no longer the one that commands open.
    fn look_for_the_database(&self) {
        let found = self.store.is_in_place();
        let mut in_place = self.in_place.lock().unwrap_or_else(PoisonError::into_inner);
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
        let seen = self.seen_link_keys.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = self.secrets.link_keys_at_hand().ok().flatten();
        let other_keys = keys.is_some_and(|keys| keys.expose_secret() != seen.expose_secret());
        other_keys || self.store.version().is_ok_and(|v| v != self.seen_version.load(Ordering::Relaxed))
    }

    async fn touch(self: &Arc<Self>) {
        let used = self.authority.load().keys.take_used();
        if used.is_empty() {
            return;
        }
        let live = Arc::clone(self);
        let touched = tokio::task::spawn_blocking(move || live.store.touch_keys(&used)).await;
        if let Ok(Err(error)) = touched {
            warn!(%error, "cannot store when keys were last used");
        }
    }

    /// Re-reads `config.toml`, the policies and the public keys, and puts all of them in force, or none.
    pub fn reload(&self) -> Result<Changes, StateError> {
        let old = self.rules.load_full();
        let before = Seen::of(&old.config);
        let config = Arc::new(config::load(&old.config.file)?);
        let new = Arc::new(Rules::read(config, Some(&old), &self.secrets)?);
        if Seen::of(&old.config) != before {
            return Err(StateError::Unsteady);
        }
        let changes = Changes::between(&old, &new);
        self.refresh_now(Some(new))?;
        Ok(changes)
    }

    /// Re-reads the state under new rules or those in force. New rules are put in force together with all of the state, or not at all. Without
    /// new rules, a part that could not be read is unchanged, and its error is returned.
    fn refresh_now(&self, rules: Option<Arc<Rules>>) -> Result<Vec<StateError>, StateError> {
        let _alone = self.refreshing.lock().unwrap_or_else(PoisonError::into_inner);
        let version = self.store.version()?;
        let (old, in_force) = (self.authority.load_full(), self.rules.load_full());
        let judged_by = rules.as_ref().unwrap_or(&in_force);
        let CredentialState { authority, link_keys, mut unread } =
            CredentialState::again(&self.store, &self.withdrawn, &self.secrets, judged_by, &old, now())?;
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
            self.bans.adopt(self.withdrawn.bans(bans), now());
        }
        self.seen_version.store(version, Ordering::Relaxed);
        if let Some(link_keys) = link_keys {
            *self.seen_link_keys.lock().unwrap_or_else(PoisonError::into_inner) = link_keys;
        }
        if let Err(error) = self.store.touch_keys(&old.keys.take_used()) {
            warn!(%error, "cannot store when keys were last used");
        }
        info!("reloaded keys, users, links and bans");
        Ok(unread)
    }
}

/// Seconds since the Unix epoch.
pub(crate) fn now() -> i64 {
    Timestamp::now().as_second()
}

/// Reads the authorities of client certificates, if any are requested.
pub fn client_authorities(config: &Config) -> Result<Option<ClientAuthorities>, StateError> {
    let Some(clients) = &config.tls.clients else { return Ok(None) };
    let read = |path: &std::path::PathBuf| std::fs::read(path).map_err(|e| StateError::Io(path.clone(), e));
    let lists = clients.crl.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let authorities = ClientAuthorities::new(&read(&clients.ca)?, &lists, clients.user);
    authorities.map(Some).map_err(|e| StateError::ClientAuthorities(clients.ca.clone(), e))
}

/// Returns the verifier of tokens that are signed with `secret` or with a configured public key.
pub fn jwt_verifier(config: &Config, secret: &SecretString) -> Result<JwtVerifier, StateError> {
    let jwt = &config.jwt;
    let expected = Expected { issuer: jwt.issuer.clone(), audience: jwt.audience.clone() };
    let mut verifier = JwtVerifier::new(secret, &expected, jwt.leeway);
    for key in &jwt.keys {
        let pem = std::fs::read(&key.file).map_err(|e| StateError::Io(key.file.clone(), e))?;
        let expected = Expected { issuer: key.issuer.clone(), audience: key.audience.clone() };
        let added = verifier.add_public_key(key.algorithm, &pem, key.id.clone(), &expected);
        added.map_err(|e| StateError::PublicKey(key.file.clone(), e))?;
    }
    Ok(verifier)
}
