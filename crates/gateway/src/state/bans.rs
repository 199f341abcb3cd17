//! Bans in the running gateway: which denials lead to one, and which clients are refused.

use std::{
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use parking_lot::{Mutex, MutexGuard};
use sallyport_core::{
    addresses::client_network,
    config::{self, Config},
};
use tokio::sync::Notify;
use tracing::warn;

use super::browsers::asked_by_itself;
use crate::{
    identity::{Authenticator, Credential, Reads, presented},
    limits::{Acquaintance, Ban, BanBook, BanChange, InForce, RecentClients, Strike, Strikes, holds},
    policy::{Decision, Denial, Guess, Reason, RequestFacts},
};

/// The maximum number of clients whose strikes are remembered.
const MAX_CLIENTS: usize = 50_000;
/// How long an address that was authenticated keeps its own bucket in rate limits.
const ACQUAINTED_FOR: Duration = Duration::from_hours(24);
/// The maximum number of bans at a time, including those that have ended recently.
const MAX_BANS: usize = 10_000;

/// The bans, and the strikes that lead to one.
pub(crate) struct Bans {
    /// Read for every connection and every request, so it takes no lock.
    in_force: ArcSwap<InForce>,
    book: Mutex<BanBook>,
    strikes: Mutex<Strikes>,
    authenticated: RecentClients,
    hasher: RandomState,
    /// Notified when there are changes to store.
    pub(crate) unwritten: Notify,
}

/// How a denial counts towards a ban.
enum StrikeKind {
    /// One more path that has no route or is ambiguous.
    Path,
    /// One more denied request.
    Denied,
    /// Does not count.
    Nothing,
}

impl Default for Bans {
    fn default() -> Self {
        Self {
            in_force: ArcSwap::default(),
            book: Mutex::new(BanBook::new(MAX_BANS)),
            strikes: Mutex::new(Strikes::new(MAX_CLIENTS)),
            authenticated: RecentClients::default(),
            hasher: RandomState::new(),
            unwritten: Notify::new(),
        }
    }
}

impl Bans {
    /// Returns true if `client` is banned at `now` (Unix seconds).
    pub(crate) fn shut_out(&self, config: &Config, client: IpAddr, now: i64) -> bool {
        let in_force = self.in_force.load();
        let until = if in_force.is_empty() { None } else { in_force.get(&client_network(client)) };
        until.is_some_and(|until| holds(*until, now)) && config.bans.enabled && !config.never_bans(client)
    }

    /// Returns whether a client at the address of `client` was authenticated recently.
    pub(crate) fn acquaintance(&self, client: IpAddr, now: i64) -> Acquaintance {
        let known = self.authenticated.knows(client_network(client), ACQUAINTED_FOR, now);
        if known { Acquaintance::Known } else { Acquaintance::Stranger }
    }

    /// Records the decision on a request.
    pub(crate) fn note(
        &self,
        config: &Config,
        facts: &RequestFacts<'_>,
        decision: &Decision,
        authority: &Authenticator,
        now: i64,
    ) {
        if let Some(identity) = decision.identity() {
            if identity.kind().acquaintance() == Acquaintance::Known {
                self.authenticated.note(client_network(facts.client), now);
            }
            return;
        }
        let Decision::Respond(denial) = decision else { return };
        let Some(strike) = self.strike(denial, facts).filter(|_| config.bans.enabled) else { return };
        // Without a route, the decision has not checked the credential.
        if matches!(denial.reason, Reason::NoRoute | Reason::BadPath) && is_authenticated(facts, authority, now) {
            self.authenticated.note(client_network(facts.client), now);
        } else {
            self.count(config, facts.client, strike, now);
        }
    }

    /// Records a head that was refused before it became a request.
    pub(crate) fn note_unread(&self, config: &Config, client: IpAddr, reason: Reason, now: i64) {
        match StrikeKind::of(reason) {
            StrikeKind::Path | StrikeKind::Denied if config.bans.enabled => {
                self.count(config, client, Strike::Denied, now);
            }
            StrikeKind::Path | StrikeKind::Denied | StrikeKind::Nothing => {}
        }
    }

    fn strike(&self, denial: &Denial, facts: &RequestFacts<'_>) -> Option<Strike> {
        if denial.guess == Guess::Yes {
            return Some(Strike::Credential);
        }
        match StrikeKind::of(denial.reason) {
            StrikeKind::Path if denial.reason == Reason::NoRoute && asked_by_itself(facts.method, facts.path) => {
                Some(Strike::Denied)
            }
            StrikeKind::Path => Some(Strike::Path(self.hasher.hash_one(facts.path))),
            StrikeKind::Denied => Some(Strike::Denied),
            StrikeKind::Nothing => None,
        }
    }

    fn count(&self, config: &Config, client: IpAddr, strike: Strike, now: i64) {
        let bans = &config.bans;
        let network = client_network(client);
        if config.never_bans(client) || self.authenticated.knows(network, bans.spare_authenticated, now) {
            return;
        }
        let Some(offence) = lock(&self.strikes).add(network, strike, bans, now) else { return };
        let mut book = lock(&self.book);
        let Some(ban) = book.ban(network, offence.to_string(), &bans.durations, now) else { return };
        self.in_force.store(Arc::new(book.in_force(now)));
        drop(book);
        self.unwritten.notify_one();
        tell(client, &ban);
    }

    /// Drops the ban of `network` if it is not stored yet; returns false if there is none.
    pub(crate) fn forget_unwritten(&self, network: IpAddr, now: i64) -> bool {
        let mut book = lock(&self.book);
        let forgotten = book.forget_unwritten(network);
        self.in_force.store(Arc::new(book.in_force(now)));
        forgotten
    }

    /// Replaces the stored bans with `written`.
    pub(crate) fn adopt(&self, written: Vec<Ban>, now: i64) {
        let mut book = lock(&self.book);
        book.replace(written);
        self.in_force.store(Arc::new(book.in_force(now)));
    }

    /// Forgets strikes and bans that no longer count. Call it every few seconds.
    pub(crate) fn sweep(&self, config: &Config, now: i64) {
        lock(&self.strikes).sweep(&config.bans, now);
        let mut book = lock(&self.book);
        book.sweep(&config.bans.durations, now);
        self.in_force.store(Arc::new(book.in_force(now)));
        self.unwritten.notify_one();
    }

    /// Takes the changes that are not stored yet.
    pub(crate) fn take_unwritten(&self) -> Vec<BanChange> {
        lock(&self.book).take_unwritten()
    }

    /// Puts back changes that could not be stored.
    pub(crate) fn put_back(&self, changes: Vec<BanChange>) {
        lock(&self.book).put_back(changes);
    }
}

/// Returns whether a request carries a valid key, token or certificate, whatever its path. A link is valid for its own path only, so none counts.
fn is_authenticated(facts: &RequestFacts<'_>, authority: &Authenticator, now: i64) -> bool {
    let credential = presented(facts.headers, None, Reads::default());
    let shown = || facts.certificate.map(Credential::ClientCertificate);
    let Some(credential) = credential.ok().and_then(|explicit| explicit.or_else(shown)) else { return false };
    authority.verify(&credential, "", facts.path, None, now).is_ok()
}

impl StrikeKind {
    /// An expired credential was right once, and a missing one is no guess, so only a flood of either counts.
    const fn of(reason: Reason) -> Self {
        match reason {
            Reason::NoRoute | Reason::BadPath => Self::Path,
            Reason::NotAuthenticated
            | Reason::BadCredential
            | Reason::BadLink
            | Reason::ExpiredCredential
            | Reason::ExpiredLink
            | Reason::UnknownUser
            | Reason::TwoCredentials
            | Reason::ForeignOrigin
            | Reason::AddressDenied
            | Reason::TargetTooLong
            | Reason::MethodNotAllowed
            | Reason::UnknownMethod
            | Reason::RateLimited
            | Reason::BadHost
            | Reason::Misdirected => Self::Denied,
            Reason::BadFraming
            | Reason::BadBody
            | Reason::RefusedValue
            | Reason::CredentialNotAccepted
            | Reason::InsufficientScope
            | Reason::Banned
            | Reason::Forbidden
            | Reason::LinkRefused
            | Reason::TooManyLinks
            | Reason::BodyTooLarge
            | Reason::BodyTooSlow
            | Reason::HeadTooLarge
            | Reason::HeadTooSlow
            | Reason::Internal
            | Reason::UpstreamUnreachable
            | Reason::Overloaded
            | Reason::UpstreamTimeout => Self::Nothing,
        }
    }
}

/// The filters in `docs/fail2ban` and `docs/crowdsec` read this line.
fn tell(client: IpAddr, ban: &Ban) {
    let seconds = ban.until.map_or(0, |until| until.abs_diff(ban.since));
    let duration = config::Duration(Duration::from_secs(seconds));
    warn!(target: "sallyport", "banned {client} for {duration}: {}", ban.why);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock()
}
