//! The reasons why a connection is closed before its client has sent a request.

use std::{io, time::Duration};

use thiserror::Error;

/// How long PROXY header and handshake may take together before the connection is closed.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// The reasons why a connection does not pass.
#[derive(Debug, Error)]
pub(crate) enum AcceptFault {
    /// The client that its proxy names is banned, or at its connection limit.
    #[error("the client is banned or at its connection limit")]
    NotAdmitted,
    /// It comes from a trusted proxy and does not begin with a complete PROXY header.
    #[error("the PROXY header is missing or invalid")]
    Proxy,
    /// The TLS handshake failed.
    #[error("the TLS handshake failed: {0}")]
    Tls(#[from] io::Error),
    /// Not a fault: a certificate authority only needs the handshake (RFC 8737, section 3).
    #[error("a certificate authority has completed its challenge")]
    Proven,
    /// PROXY header and handshake were not complete in time.
    #[error("the handshake was not complete within {HANDSHAKE_TIMEOUT:?}")]
    TooSlow,
}
