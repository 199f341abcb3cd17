//! The ways in which a client fails.

use std::io;

use sallyport_core::http1::BodyFault;
use thiserror::Error;

/// The ways in which a client fails.
#[derive(Debug, Error)]
pub(crate) enum ClientFault {
    /// It has disconnected.
    #[error("the client has disconnected")]
    Gone,
    /// It has stopped sending or reading.
    #[error("the client is too slow")]
    TooSlow,
    /// Its body violates its framing.
    #[error(transparent)]
    Malformed(#[from] BodyFault),
}

impl From<io::Error> for ClientFault {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}
