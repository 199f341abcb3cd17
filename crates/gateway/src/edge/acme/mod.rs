//! ACME (RFC 8555): gets a certificate for each domain, renews it before it expires, and retries failures with growing delays. Nothing waits
//! for it: until it has succeeded, a certificate of the local authority is served.

mod account;
mod attempt;
mod certificate_store;
mod dns;
mod dns_hook;
mod dns_record;
mod dns_update;
mod order;
mod schedule;

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use sallyport_core::{
    config::{
        CertificatePaths,
        acme::{AcmeConfig, AcmeKeyError, Domain},
    },
    secrets::random::random,
    supervision::shutdown::stopped,
};
use tokio::{signal::unix::Signal, sync::watch, time::sleep};
use tracing::{info, warn};

pub use self::attempt::AttemptOutcome;
use self::{attempt::Attempts, schedule::Jitter};
use super::challenge_responder::ChallengeResponder;

/// The longest sleep before the clock is read again: it may have been set in the meantime, or the machine may have slept.
const LONGEST_SLEEP: Duration = Duration::from_mins(10);

/// Keeps the certificates of all domains current.
pub struct Acme {
    domains: Vec<Domain>,
    attempts: Attempts,
    shown: Arc<ChallengeResponder>,
    retry: Duration,
}

/// The schedule of one domain.
struct DomainSchedule {
    domain: Domain,
    failures: u32,
    due: SystemTime,
}

impl Acme {
    /// Reads the keys that are needed. Accounts and certificates are kept in `dir`.
    ///
    /// # Errors
    /// Fails if a key is missing, readable by others or malformed.
    pub fn open(config: &AcmeConfig, dir: &Path) -> Result<Self, AcmeKeyError> {
        let shown = Arc::default();
        let attempts = Attempts::open(config, dir, &shown)?;
        Ok(Self { domains: config.domains.clone(), attempts, shown, retry: config.retry })
    }

    /// Returns the challenge responses that the listeners must serve.
    #[must_use]
    pub(crate) fn shown(&self) -> Arc<ChallengeResponder> {
        Arc::clone(&self.shown)
    }

    /// Returns the paths of the certificates, which need not exist yet.
    pub(crate) fn certificates(&self) -> impl Iterator<Item = CertificatePaths> {
        self.domains.iter().map(|domain| self.attempts.store().paths(domain))
    }

    /// Gets and renews certificates until `stop` becomes true. Reports each outcome to `tell`; a `nudge` retries failures at once.
    pub(crate) async fn keep(self, mut nudge: Signal, mut stop: watch::Receiver<bool>, tell: impl Fn(AttemptOutcome)) {
        let mut schedules: Vec<DomainSchedule> = self.domains.iter().map(|domain| self.schedule(domain)).collect();
        loop {
            let now = SystemTime::now();
            let Some(next) = schedules.iter_mut().min_by_key(|schedule| schedule.due) else { return };
            let wait = next.due.duration_since(now).unwrap_or_default();
            if wait.is_zero() {
                tokio::select! {
                    outcome = self.advance(next) => tell(outcome),
                    () = stopped(&mut stop) => return,
                }
                continue;
            }
            tokio::select! {
                () = sleep(wait.min(LONGEST_SLEEP)) => {}
                _ = nudge.recv() => schedules.iter_mut().filter(|c| c.failures > 0).for_each(|c| c.due = now),
                () = stopped(&mut stop) => return,
            }
        }
    }

    fn schedule(&self, domain: &Domain) -> DomainSchedule {
        DomainSchedule { domain: domain.clone(), failures: 0, due: self.renewal(domain) }
    }

    /// Returns when to renew the certificate, which is at once if there is none.
    fn renewal(&self, domain: &Domain) -> SystemTime {
        let validity = self.attempts.validity(domain);
        validity.map_or(SystemTime::UNIX_EPOCH, |validity| validity.renewal(Jitter::new(random())))
    }

    async fn advance(&self, schedule: &mut DomainSchedule) -> AttemptOutcome {
        let DomainSchedule { domain, failures, due } = schedule;
        let result = self.attempts.attempt(domain).await;
        let now = SystemTime::now();
        match result {
            Ok(authority) => {
                *failures = 0;
                // Authorities limit requests, so wait even if the certificate's dates call for an earlier renewal.
                *due = self.renewal(domain).max(now + self.retry);
                info!(%domain, %authority, renewal = %jiff::Timestamp::try_from(*due).unwrap_or_default(), "got a certificate");
                AttemptOutcome::Issued
            }
            Err(error) => {
                *failures = failures.saturating_add(1);
                let outcome = error.outcome();
                let limited = outcome == AttemptOutcome::RateLimited;
                let wait = schedule::wait(*failures, self.retry, limited, Jitter::new(random()));
                *due = now + wait;
                warn!(%domain, failures, again_in = ?wait, "could not get a certificate; still serving the current one");
                outcome
            }
        }
    }
}
