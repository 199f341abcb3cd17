//! Writes the DNS record of a challenge, in one of two ways.

use std::time::Duration;

use sallyport_core::config::acme::{AcmeKeyError, DnsConfig, DnsWriter};
use thiserror::Error;

use super::{
    dns_hook::{Hook, HookError},
    dns_record::{ChallengeRecord, Change},
    dns_update::{UpdateError, Updates},
};

/// Writes records into a domain.
pub(super) struct Zone {
    writer: Writer,
    wait: Duration,
}

enum Writer {
    Hook(Hook),
    Updates(Updates),
}

/// The reasons why a record cannot be changed.
#[derive(Debug, Error)]
pub(super) enum DnsError {
    /// The hook failed.
    #[error(transparent)]
    Hook(#[from] HookError),
    /// The update failed.
    #[error(transparent)]
    Update(#[from] UpdateError),
}

impl Zone {
    /// Reads the key, if there is one.
    pub(super) fn open(config: &DnsConfig) -> Result<Self, AcmeKeyError> {
        let writer = match &config.writer {
            DnsWriter::Hook(program, arguments) => Writer::Hook(Hook::new(program, arguments)),
            DnsWriter::Update(update) => Writer::Updates(Updates::open(update)?),
        };
        Ok(Self { writer, wait: config.wait })
    }

    /// Writes the record, and waits until every server of the domain should have it.
    pub(super) async fn add(&self, record: &ChallengeRecord) -> Result<(), DnsError> {
        self.change(Change::Add, record).await?;
        tokio::time::sleep(self.wait).await;
        Ok(())
    }

    /// Removes the record.
    pub(super) async fn remove(&self, record: &ChallengeRecord) -> Result<(), DnsError> {
        self.change(Change::Remove, record).await
    }

    async fn change(&self, change: Change, record: &ChallengeRecord) -> Result<(), DnsError> {
        match &self.writer {
            Writer::Hook(hook) => Ok(hook.run(change, record).await?),
            Writer::Updates(updates) => Ok(updates.send(change, record).await?),
        }
    }
}
