//! Tokens for the egress guard: one per job or metadata lookup, valid for the time and the bytes that it may use.

use std::time::Duration;

use sallyport_core::clock;
use uuid::Uuid;

use super::Sandbox;
use crate::egress::{EgressToken, EgressTokenKey};

const MARGIN: Duration = Duration::from_secs(2);

/// Signs egress tokens.
pub(crate) struct EgressTokens(EgressTokenKey);

impl EgressTokens {
    pub(crate) fn new(key: EgressTokenKey) -> Self {
        Self(key)
    }

    /// Returns the proxy URL for a child that runs for at most `time` and transfers at most `bytes`. Tokens expire at whole seconds, so
    /// this one expires a little after the child ends.
    pub(crate) fn proxy(&self, sandbox: &Sandbox, job: Uuid, time: Duration, bytes: u64) -> String {
        let until = clock::unix_now().saturating_add_unsigned((time + MARGIN).as_secs());
        sandbox.proxy(&self.0.sign(&EgressToken { job, until, bytes }))
    }
}
