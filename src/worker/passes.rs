//! Passes for the egress guard: one for each job and each look, good for as long and as much as it may take.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use uuid::Uuid;

use super::sandbox::Sandbox;
use crate::egress::{Pass, PassKey};

const MARGIN: Duration = Duration::from_secs(2);

/// Who signs them.
pub(crate) struct Passes(PassKey);

impl Passes {
    pub(crate) fn new(key: PassKey) -> Self {
        Self(key)
    }

    /// The proxy for a child that runs for `time` at most, in which `bytes` may pass. Passes end at whole seconds, so this one a
    /// little later than the child.
    pub(crate) fn proxy(&self, sandbox: &Sandbox, job: Uuid, time: Duration, bytes: u64) -> String {
        let end = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().saturating_add(time + MARGIN);
        let until = i64::try_from(end.as_secs()).unwrap_or(i64::MAX);
        sandbox.proxy(&self.0.sign(&Pass { job, until, bytes }))
    }
}
