//! The state of a compilation: what it depends on besides the policy, and the faults it has found.

use std::sync::Arc;

use sallyport_core::config::HostPort;

use super::faults::Faults;
use crate::policy::site::App;

/// Compiles the policy of one application. Each file of this folder has the methods for one part of a policy.
pub(super) struct Compiler<'a> {
    /// How many clients a rate remembers.
    pub(super) max_clients: usize,
    /// The private hosts that a body may name.
    pub(super) allow_private: &'a [HostPort],
    /// The application as it was before a reload.
    pub(super) old: Option<&'a App>,
    /// The text of the policy.
    pub(super) source: Arc<str>,
    pub(super) has_countries: bool,
    pub(super) faults: Faults,
}
