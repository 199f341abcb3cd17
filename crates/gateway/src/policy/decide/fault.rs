//! Why a judgement ends: a reason on its way to a denial, from each error that a step can have.

use crate::{
    identity::{PresentationError, Rejection},
    limits::Exceeded,
    policy::{Guess, Reason},
};

/// A reason on its way to a denial.
#[derive(Clone, Copy)]
pub(super) struct Fault {
    pub(super) reason: Reason,
    pub(super) exceeded: Option<Exceeded>,
    pub(super) guess: Guess,
}

impl Fault {
    const fn guess(reason: Reason) -> Self {
        Self { reason, exceeded: None, guess: Guess::Yes }
    }
}

impl From<Reason> for Fault {
    fn from(reason: Reason) -> Self {
        Self { reason, exceeded: None, guess: Guess::No }
    }
}

impl From<Exceeded> for Fault {
    fn from(exceeded: Exceeded) -> Self {
        Self { reason: Reason::RateLimited, exceeded: Some(exceeded), guess: Guess::No }
    }
}

impl From<PresentationError> for Fault {
    fn from(error: PresentationError) -> Self {
        match error {
            PresentationError::Two => Reason::TwoCredentials.into(),
            PresentationError::Unreadable => Self::guess(Reason::BadCredential),
            // The link was cut off or has a repeated parameter, so there is no signature to guess.
            PresentationError::UnreadableLink => Reason::BadLink.into(),
        }
    }
}

impl From<Rejection> for Fault {
    fn from(rejection: Rejection) -> Self {
        match rejection {
            Rejection::Invalid => Self::guess(Reason::BadCredential),
            Rejection::Unusable => Reason::BadCredential.into(),
            Rejection::Expired => Reason::ExpiredCredential.into(),
            Rejection::UnknownUser => Reason::UnknownUser.into(),
            Rejection::LinkForged => Self::guess(Reason::BadLink),
            Rejection::LinkAltered => Reason::BadLink.into(),
            Rejection::LinkExpired => Reason::ExpiredLink.into(),
        }
    }
}
