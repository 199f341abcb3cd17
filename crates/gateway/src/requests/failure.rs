//! A failure between client and application, and what the client is told of it.

use std::time::Duration;

use thiserror::Error;

use crate::{
    clients::fault::ClientFault,
    policy::Reason,
    upstream::{ConnectFault, ResponseFault},
};

/// A failure between client and application.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Client(#[from] ClientFault),
    #[error(transparent)]
    Connect(#[from] ConnectFault),
    #[error(transparent)]
    Response(#[from] ResponseFault),
    #[error("the application was silent for {0:?}")]
    Silence(Duration),
    #[error("the body exceeds the limit of its route")]
    TooLarge,
    #[error("the application switched protocols although the client did not ask for it")]
    Switched,
    #[error("the credential was revoked")]
    Revoked,
    #[error("the worker is down")]
    WorkerDown,
    #[error("no permit")]
    NoPermit,
}

impl Failure {
    /// Returns true for failures that a client can cause at will, and could fill the log with.
    pub(super) const fn is_the_clients(&self) -> bool {
        matches!(self, Self::Client(_) | Self::TooLarge | Self::Revoked | Self::WorkerDown)
    }

    /// Returns the reason that the client is told; `None` if the client has disconnected.
    pub(super) const fn reason(&self) -> Option<Reason> {
        match self {
            Self::Client(ClientFault::Gone) => None,
            Self::Client(ClientFault::TooSlow) => Some(Reason::BodyTooSlow),
            Self::Client(ClientFault::Malformed(_)) => Some(Reason::BadFraming),
            Self::TooLarge => Some(Reason::BodyTooLarge),
            Self::Silence(_) => Some(Reason::UpstreamTimeout),
            Self::Connect(_) | Self::Response(_) | Self::Switched | Self::WorkerDown => {
                Some(Reason::UpstreamUnreachable)
            }
            Self::Revoked => Some(Reason::BadCredential),
            Self::NoPermit => Some(Reason::Internal),
        }
    }
}
