//! One order: proves control over a domain with one challenge and gets the certificate for it (RFC 8555, section 7.4).

use std::{sync::Arc, time::Duration};

use instant_acme::{
    Account, AuthorizationHandle, AuthorizationStatus, ChallengeHandle, ChallengeType, Identifier, NewOrder, Order,
    OrderStatus, Problem, RetryPolicy,
};
use sallyport_core::config::acme::{ChallengeKind, Domain};
use sha2::{Digest, Sha256};
use thiserror::Error;
use tracing::warn;

use super::{
    dns::{DnsError, Zone},
    dns_record::ChallengeRecord,
};
use crate::edge::challenge_responder::{ChallengeCertificateError, ChallengeResponder, ServedChallenge};

/// How long an authority has for validating and for signing, each.
const POLL_POLICY: RetryPolicy =
    RetryPolicy::new().initial_delay(Duration::from_millis(500)).backoff(1.5).timeout(Duration::from_mins(2));

/// A challenge that proves control of a domain, ready for use.
pub(super) enum Challenge {
    TlsAlpn01(Arc<ChallengeResponder>),
    Http01(Arc<ChallengeResponder>),
    Dns01(Zone),
}

/// A certificate chain and its key, in PEM.
pub(super) struct Issued {
    pub(super) chain: String,
    pub(super) key: String,
}

/// The published response to a challenge.
enum ChallengeProof<'z> {
    Shown { _until_dropped: ServedChallenge },
    Record(&'z Zone, ChallengeRecord),
}

/// The reasons why an order fails.
#[derive(Debug, Error)]
pub(super) enum OrderError {
    /// The authority refuses, or cannot be reached.
    #[error(transparent)]
    Acme(#[from] instant_acme::Error),
    /// The authority has checked the response and rejected it.
    #[error("the authority could not validate the domain: {0}")]
    ValidationFailed(String),
    /// The authority does not support this challenge.
    #[error("the authority does not offer this challenge")]
    NotOffered,
    /// The record cannot be written.
    #[error(transparent)]
    Dns(#[from] DnsError),
    /// The certificate for the challenge cannot be created.
    #[error(transparent)]
    ChallengeCertificate(#[from] ChallengeCertificateError),
}

impl Challenge {
    pub(super) fn kind(&self) -> ChallengeKind {
        match self {
            Self::TlsAlpn01(_) => ChallengeKind::TlsAlpn01,
            Self::Http01(_) => ChallengeKind::Http01,
            Self::Dns01(_) => ChallengeKind::Dns01,
        }
    }

    /// Returns whether the challenge can be used for `domain`: a wildcard requires a DNS record.
    pub(super) fn is_for(&self, domain: &Domain) -> bool {
        !domain.is_wildcard() || self.kind() == ChallengeKind::Dns01
    }

    fn acme_type(&self) -> ChallengeType {
        match self {
            Self::TlsAlpn01(_) => ChallengeType::TlsAlpn01,
            Self::Http01(_) => ChallengeType::Http01,
            Self::Dns01(_) => ChallengeType::Dns01,
        }
    }

    /// Orders a certificate for `domain`.
    pub(super) async fn obtain(&self, account: &Account, domain: &Domain) -> Result<Issued, OrderError> {
        let identifiers = [Identifier::Dns(domain.to_string())];
        let mut order = account.new_order(&NewOrder::new(&identifiers)).await?;
        if let Some(proof) = self.answer(&mut order, domain).await? {
            let ready = order.poll_ready(&POLL_POLICY).await;
            proof.withdraw().await;
            if !matches!(ready, Ok(OrderStatus::Ready)) {
                return Err(self.failure_reason(&mut order, ready).await);
            }
        }
        let key = order.finalize().await?;
        let chain = order.poll_certificate(&POLL_POLICY).await?;
        Ok(Issued { chain, key })
    }

    /// Publishes the response to the challenge and tells the authority; `None` if the domain is validated already.
    async fn answer(&self, order: &mut Order, domain: &Domain) -> Result<Option<ChallengeProof<'_>>, OrderError> {
        let mut authorizations = order.authorizations();
        let Some(authorization) = authorizations.next().await else { return Ok(None) };
        let mut authorization = authorization?;
        if authorization.status == AuthorizationStatus::Valid {
            return Ok(None);
        }
        let mut challenge = authorization.challenge(self.acme_type()).ok_or(OrderError::NotOffered)?;
        let proof = self.show(&challenge, domain).await?;
        if let Err(error) = challenge.set_ready().await {
            proof.withdraw().await;
            return Err(error.into());
        }
        Ok(Some(proof))
    }

    async fn show(&self, challenge: &ChallengeHandle<'_>, domain: &Domain) -> Result<ChallengeProof<'_>, OrderError> {
        let authorization = challenge.key_authorization();
        let showing = match self {
            Self::Http01(shown) => shown.show_answer(challenge.token.clone(), authorization.as_str().to_owned()),
            Self::TlsAlpn01(shown) => {
                let digest = Sha256::digest(authorization.as_str());
                shown.show_certificate(domain.as_str(), &digest.into())?
            }
            Self::Dns01(zone) => {
                let record = ChallengeRecord::new(domain, authorization.dns_value());
                let proof = ChallengeProof::Record(zone, record);
                return proof.written().await;
            }
        };
        Ok(ChallengeProof::Shown { _until_dropped: showing })
    }

    /// Returns why validation failed, which the authorization says and not the order.
    async fn failure_reason(&self, order: &mut Order, ready: Result<OrderStatus, instant_acme::Error>) -> OrderError {
        let mut authorizations = order.authorizations();
        if let Some(Ok(mut authorization)) = authorizations.next().await
            && let Some(problem) = complaint(&mut authorization).await
        {
            return OrderError::ValidationFailed(problem.detail.unwrap_or_else(|| "it gave no reason".to_owned()));
        }
        match ready {
            Err(error) => error.into(),
            Ok(status) => OrderError::ValidationFailed(format!("the order is {status:?}")),
        }
    }
}

impl ChallengeProof<'_> {
    async fn written(self) -> Result<Self, OrderError> {
        if let Self::Record(zone, record) = &self
            && let Err(error) = zone.add(record).await
        {
            // The record may have been written nevertheless.
            self.withdraw().await;
            return Err(error.into());
        }
        Ok(self)
    }

    async fn withdraw(self) {
        if let Self::Record(zone, record) = self
            && let Err(error) = zone.remove(&record).await
        {
            warn!(name = record.name, %error, "cannot remove a challenge's record; it stays in the domain");
        }
    }
}

async fn complaint(authorization: &mut AuthorizationHandle<'_>) -> Option<Problem> {
    authorization.refresh().await.ok()?.challenges.iter().find_map(|challenge| challenge.error.clone())
}
