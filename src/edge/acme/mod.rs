//! ACME (RFC 8555): fetches a certificate for each domain, renews it ahead of its end, and tries again ever later where
//! that fails. Nothing waits for it: until it has succeeded, a certificate of the local authority is served.

mod account;
mod attempt;
mod dns;
mod dns_hook;
mod dns_update;
mod order;
mod schedule;
mod shelf;
mod shown;

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{signal::unix::Signal, sync::watch, time::sleep};
use tracing::{info, warn};

use self::{attempt::Attempts, schedule::Chance};
pub use self::{
    attempt::Outcome,
    shown::{ACME_TLS, Shown},
};
use crate::{
    config::{
        CertificatePaths,
        acme::{AcmeConfig, AcmeKeyError, Domain},
    },
    random::random,
    stop::stopped,
};

/// The clock may have been set meanwhile, or the machine asleep.
const LONGEST_SLEEP: Duration = Duration::from_mins(10);

/// Keeps the certificates of all domains current.
pub struct Acme {
    domains: Vec<Domain>,
    attempts: Attempts,
    shown: Arc<Shown>,
    retry: Duration,
}

/// What is next for one domain.
struct Course {
    domain: Domain,
    failures: u32,
    due: SystemTime,
}

impl Acme {
    /// Reads the keys that are needed; accounts and certificates are kept in `dir`.
    ///
    /// # Errors
    /// A key that is missing, that others can read, or that is garbled.
    pub fn open(config: &AcmeConfig, dir: &Path) -> Result<Self, AcmeKeyError> {
        let shown = Arc::default();
        let attempts = Attempts::open(config, dir, &shown)?;
        Ok(Self { domains: config.domains.clone(), attempts, shown, retry: config.retry })
    }

    /// What the listeners are to show.
    #[must_use]
    pub fn shown(&self) -> Arc<Shown> {
        Arc::clone(&self.shown)
    }

    /// Where the certificates lie, or will once they are there.
    pub fn certificates(&self) -> impl Iterator<Item = CertificatePaths> {
        self.domains.iter().map(|domain| self.attempts.shelf().paths(domain))
    }

    /// Works until `stop` turns true, and tells how each attempt has ended; after a `nudge`, what has failed is tried at once.
    pub async fn keep(self, mut nudge: Signal, mut stop: watch::Receiver<bool>, tell: impl Fn(Outcome)) {
        let mut courses: Vec<Course> = self.domains.iter().map(|domain| self.course(domain)).collect();
        loop {
            let now = SystemTime::now();
            let Some(next) = courses.iter_mut().min_by_key(|course| course.due) else { return };
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
                _ = nudge.recv() => courses.iter_mut().filter(|c| c.failures > 0).for_each(|c| c.due = now),
                () = stopped(&mut stop) => return,
            }
        }
    }

    fn course(&self, domain: &Domain) -> Course {
        Course { domain: domain.clone(), failures: 0, due: self.renewal(domain) }
    }

    /// At once, where there is no certificate that could be renewed.
    fn renewal(&self, domain: &Domain) -> SystemTime {
        let validity = self.attempts.validity(domain);
        validity.map_or(SystemTime::UNIX_EPOCH, |validity| validity.renewal(Chance::new(random())))
    }

    async fn advance(&self, course: &mut Course) -> Outcome {
        let Course { domain, failures, due } = course;
        let result = self.attempts.attempt(domain).await;
        let now = SystemTime::now();
        match result {
            Ok(authority) => {
                *failures = 0;
                // Whatever its dates say, authorities count.
                *due = self.renewal(domain).max(now + self.retry);
                info!(%domain, %authority, renewal = %jiff::Timestamp::try_from(*due).unwrap_or_default(), "got a certificate");
                Outcome::Issued
            }
            Err(error) => {
                *failures = failures.saturating_add(1);
                let outcome = error.outcome();
                let limited = outcome == Outcome::RateLimited;
                let wait = schedule::wait(*failures, self.retry, limited, Chance::new(random()));
                *due = now + wait;
                warn!(%domain, failures, again_in = ?wait, "there is no new certificate; what is at hand is served on");
                outcome
            }
        }
    }
}
