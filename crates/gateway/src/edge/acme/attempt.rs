//! One attempt to get a certificate: tries every authority in turn, and with each of them every challenge.

use std::{path::Path, sync::Arc, time::Duration};

use instant_acme::Account;
use sallyport_core::config::acme::{AcmeConfig, AcmeKeyError, ChallengeConfig, Domain};
use thiserror::Error;
use tokio::time::timeout;
use tracing::warn;
use url::Url;

use super::{
    account::{AccountError, Authority},
    certificate_store::{CertificateStore, CertificateStoreError},
    dns::Zone,
    order::{Challenge, Issued, OrderError},
    schedule::Validity,
};
use crate::edge::challenge_responder::ChallengeResponder;

/// How long an order may take, so that an authority or a hook that hangs does not block the attempt.
const ORDER_TIMEOUT: Duration = Duration::from_mins(10);

/// The authorities, the challenges and the store of certificates.
pub(super) struct Attempts {
    authorities: Vec<Authority>,
    challenges: Vec<Challenge>,
    store: CertificateStore,
    /// How long one order may take, including the time for a domain's servers to publish a record.
    patience: Duration,
}

/// The outcome of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// There is a new certificate.
    Issued,
    /// The authority could not validate that the domain is ours.
    ValidationFailed,
    /// The authority refuses for another reason.
    Refused,
    /// The authority's rate limit is reached.
    RateLimited,
    /// The authority cannot be reached, or its response is unusable.
    Unreachable,
    /// The fault is on our side: the disk, a hook, or the domain's server.
    Own,
}

/// The reasons why an attempt fails.
#[derive(Debug, Error)]
pub(super) enum AttemptError {
    #[error("cannot get an account: {0}")]
    Account(#[from] AccountError),
    #[error(transparent)]
    Order(#[from] OrderError),
    #[error(transparent)]
    Store(#[from] CertificateStoreError),
    #[error("timed out")]
    Timeout,
    #[error("no authority and challenge to try")]
    Nobody,
}

impl AttemptOutcome {
    /// All outcomes.
    pub const ALL: [Self; 6] =
        [Self::Issued, Self::ValidationFailed, Self::Refused, Self::RateLimited, Self::Unreachable, Self::Own];

    /// Returns its name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Issued => "issued",
            Self::ValidationFailed => "not-convinced",
            Self::Refused => "refused",
            Self::RateLimited => "rate-limited",
            Self::Unreachable => "unreachable",
            Self::Own => "own-fault",
        }
    }
}

impl AttemptError {
    pub(super) fn outcome(&self) -> AttemptOutcome {
        match self {
            Self::Account(AccountError::Acme(_)) | Self::Order(OrderError::Acme(_)) => match self.problem() {
                Some("urn:ietf:params:acme:error:rateLimited") => AttemptOutcome::RateLimited,
                Some(_) => AttemptOutcome::Refused,
                None => AttemptOutcome::Unreachable,
            },
            Self::Order(OrderError::ValidationFailed(_)) => AttemptOutcome::ValidationFailed,
            Self::Order(OrderError::NotOffered) => AttemptOutcome::Refused,
            Self::Store(
                CertificateStoreError::Unusable(_) | CertificateStoreError::OtherName(_) | CertificateStoreError::Ended,
            )
            | Self::Timeout => AttemptOutcome::Unreachable,
            Self::Account(_) | Self::Order(_) | Self::Store(CertificateStoreError::Write(_)) | Self::Nobody => {
                AttemptOutcome::Own
            }
        }
    }

    /// Returns the problem type of the authority's refusal (RFC 8555, section 6.7).
    fn problem(&self) -> Option<&str> {
        match self {
            Self::Account(AccountError::Acme(instant_acme::Error::Api(problem)))
            | Self::Order(OrderError::Acme(instant_acme::Error::Api(problem))) => problem.r#type.as_deref(),
            _ => None,
        }
    }

    /// Returns true if another challenge could succeed.
    fn is_of_the_challenge(&self) -> bool {
        !matches!(self, Self::Account(_) | Self::Store(_) | Self::Order(OrderError::Acme(_)))
    }
}

impl Attempts {
    pub(super) fn open(config: &AcmeConfig, dir: &Path, shown: &Arc<ChallengeResponder>) -> Result<Self, AcmeKeyError> {
        let email = config.email.as_deref();
        let authorities = config.authorities.iter().map(|authority| Authority::new(authority.clone(), email, dir));
        let challenges = config.challenges.iter().map(|challenge| {
            Ok(match challenge {
                ChallengeConfig::TlsAlpn01 => Challenge::TlsAlpn01(Arc::clone(shown)),
                ChallengeConfig::Http01 => Challenge::Http01(Arc::clone(shown)),
                ChallengeConfig::Dns01(dns) => Challenge::Dns01(Zone::open(dns)?),
            })
        });
        let waits = config.challenges.iter().map(|challenge| match challenge {
            ChallengeConfig::Dns01(dns) => dns.wait,
            _ => Duration::ZERO,
        });
        Ok(Self {
            authorities: authorities.collect::<Result<_, _>>()?,
            challenges: challenges.collect::<Result<_, AcmeKeyError>>()?,
            store: CertificateStore::new(dir),
            patience: ORDER_TIMEOUT + waits.sum::<Duration>(),
        })
    }

    pub(super) fn store(&self) -> &CertificateStore {
        &self.store
    }

    /// Returns the validity period of the current certificate; `None` if a new one is needed.
    pub(super) fn validity(&self, domain: &Domain) -> Option<Validity> {
        let directories = self.authorities.iter().map(|authority| &authority.config.directory);
        self.store.validity(domain, directories)
    }

    /// Tries the authorities in order, and returns the directory of the one that issued a certificate.
    pub(super) async fn attempt(&self, domain: &Domain) -> Result<&Url, AttemptError> {
        let mut last = AttemptError::Nobody;
        for authority in &self.authorities {
            let directory = &authority.config.directory;
            match self.ask(authority, domain).await {
                Ok(issued) => {
                    self.store.put(domain, directory, &issued)?;
                    return Ok(directory);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Tries one authority, and once more with a new account if it no longer knows ours.
    async fn ask(&self, authority: &Authority, domain: &Domain) -> Result<Issued, AttemptError> {
        match self.ask_with_account(authority, domain).await {
            Err(error) if error.problem() == Some("urn:ietf:params:acme:error:accountDoesNotExist") => {
                authority.forget();
                self.ask_with_account(authority, domain).await
            }
            result => result,
        }
    }

    /// Tries the challenges in order.
    async fn ask_with_account(&self, authority: &Authority, domain: &Domain) -> Result<Issued, AttemptError> {
        let directory = &authority.config.directory;
        let account = self.account(authority).await.inspect_err(|error| {
            warn!(%domain, authority = %directory, %error, "ACME account registration failed");
        })?;
        let mut last = AttemptError::Nobody;
        for challenge in self.challenges.iter().filter(|challenge| challenge.is_for(domain)) {
            let order = timeout(self.patience, challenge.obtain(&account, domain)).await;
            let error = match order {
                Ok(Ok(issued)) => return Ok(issued),
                Ok(Err(error)) => AttemptError::from(error),
                Err(_) => AttemptError::Timeout,
            };
            let challenge = challenge.kind();
            let error_text = error.to_string();
            warn!(%domain, authority = %directory, ?challenge, error = error_text, "the authority did not issue a certificate");
            if !error.is_of_the_challenge() {
                return Err(error);
            }
            last = error;
        }
        Err(last)
    }

    async fn account(&self, authority: &Authority) -> Result<Account, AttemptError> {
        let account = timeout(ORDER_TIMEOUT, authority.account()).await;
        Ok(account.map_err(|_| AttemptError::Timeout)??)
    }
}
