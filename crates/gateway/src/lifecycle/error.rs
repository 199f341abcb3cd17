//! Why the gateway cannot run.

use std::io;

use sallyport_core::{config::acme::AcmeKeyError, sockets::listener::ListenError};
use thiserror::Error;

use crate::{
    edge::{certificates::CertificateError, local_ca::LocalCaError},
    state::StateError,
};

/// Why the gateway cannot run.
#[derive(Debug, Error)]
pub enum GatewayError {
    /// State, secrets or policies are unusable.
    #[error(transparent)]
    State(#[from] StateError),
    /// The local certificate authority is unusable.
    #[error(transparent)]
    LocalCa(#[from] LocalCaError),
    /// A certificate is unusable.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// A key for ACME is unusable.
    #[error(transparent)]
    AcmeKey(#[from] AcmeKeyError),
    /// The TLS settings are invalid.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// An address cannot be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The operating system returned an error.
    #[error(transparent)]
    Io(#[from] io::Error),
}
