//! The steps of a decision, kept for the log and for explaining it later.

use std::sync::Arc;

use arrayvec::ArrayVec;

use super::denial::Reason;
use crate::identity::CredentialKind;

/// One step; what it says is cheap to keep, since every request keeps its steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The host and prefix chose this application.
    App(Arc<str>),
    /// Path and method chose this route.
    Route(Arc<str>),
    /// The address is one that the route allows.
    AddressAllowed,
    /// The origin is one that the route allows.
    OriginAllowed,
    /// The address was within its rate.
    AddressRate,
    /// This kind of credential was presented.
    Presented(CredentialKind),
    /// It was verified.
    Authenticated,
    /// The route needs none.
    Anonymous,
    /// The scopes suffice.
    Scopes,
    /// The user or key was within its rate.
    UserRate,
    /// The body follows its rule.
    Body,
    /// It ended here.
    Denied(Reason),
}

/// All steps of one decision, in order. Each kind comes once at most, so that they always fit, whatever a policy says.
pub type Steps = ArrayVec<Step, 12>;
