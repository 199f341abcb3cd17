//! The steps of a decision, recorded for the log and to explain it later.

use std::sync::Arc;

use arrayvec::ArrayVec;

use super::reason::Reason;
use crate::identity::CredentialKind;

/// One step. Its contents are cheap to store, because every request stores its steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Host and prefix selected this application.
    App(Arc<str>),
    /// Path and method selected this route.
    Route(Arc<str>),
    /// The route's rules allow the address.
    AddressAllowed,
    /// The route allows the origin.
    OriginAllowed,
    /// The address was within its rate.
    AddressRate,
    /// This kind of credential was presented.
    Presented(CredentialKind),
    /// The credential was verified.
    Authenticated,
    /// No credential was presented.
    Anonymous,
    /// The credential has the required scopes.
    Scopes,
    /// The user or key was within its rate.
    UserRate,
    /// The body follows the route's rule.
    Body,
    /// The request was denied.
    Denied(Reason),
}

/// All steps of one decision, in order. Each kind occurs at most once, so they always fit, whatever the policy.
pub type Trace = ArrayVec<Step, 12>;
