//! The challenge responses that the listeners serve to authorities: answers on the plaintext listener, certificates on the TLS listener.

use std::{collections::HashMap, sync::Arc};

use parking_lot::RwLock;
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::{
    crypto::aws_lc_rs::sign::any_supported_type,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    server::ClientHello,
    sign::CertifiedKey,
};

/// The ALPN protocol that only authorities ask for (RFC 8737, section 4).
pub(super) const ACME_TLS: &[u8] = b"acme-tls/1";

/// The responses that are served now.
#[derive(Debug, Default)]
pub(crate) struct ChallengeResponder {
    answers: RwLock<HashMap<String, String>>,
    certificates: RwLock<HashMap<String, Arc<CertifiedKey>>>,
}

/// A guard for one response, which is served until the guard is dropped.
#[derive(Debug)]
pub(crate) struct ServedChallenge {
    shown: Arc<ChallengeResponder>,
    what: ChallengeResponse,
}

#[derive(Debug)]
enum ChallengeResponse {
    Answer(String),
    Certificate(String),
}

/// The reasons why the certificate for a challenge cannot be created.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChallengeCertificateError {
    /// It cannot be created.
    #[error(transparent)]
    Make(#[from] rcgen::Error),
    /// It cannot be served.
    #[error(transparent)]
    Use(#[from] rustls::Error),
}

impl ChallengeResponder {
    /// Returns the answer to a request for `/.well-known/acme-challenge/{token}` (RFC 8555, section 8.3).
    #[must_use]
    pub(crate) fn answer(&self, token: &str) -> Option<String> {
        self.answers.read().get(token).cloned()
    }

    /// Returns the challenge certificate for an authority; no other client gets it.
    pub(super) fn certificate(&self, hello: &ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name()?.to_ascii_lowercase();
        self.certificates.read().get(&name).cloned()
    }

    /// Returns true for a client that offers the challenge's protocol and no other.
    pub(super) fn is_asked(hello: &ClientHello<'_>) -> bool {
        hello.alpn().is_some_and(|mut offered| offered.next() == Some(ACME_TLS) && offered.next().is_none())
    }

    pub(crate) fn show_answer(self: &Arc<Self>, token: String, answer: String) -> ServedChallenge {
        self.answers.write().insert(token.clone(), answer);
        ServedChallenge { shown: Arc::clone(self), what: ChallengeResponse::Answer(token) }
    }

    pub(crate) fn show_certificate(
        self: &Arc<Self>,
        name: &str,
        digest: &[u8; 32],
    ) -> Result<ServedChallenge, ChallengeCertificateError> {
        let certificate = Arc::new(challenge_certificate(name, digest)?);
        self.certificates.write().insert(name.to_owned(), certificate);
        Ok(ServedChallenge { shown: Arc::clone(self), what: ChallengeResponse::Certificate(name.to_owned()) })
    }
}

impl Drop for ServedChallenge {
    fn drop(&mut self) {
        match &self.what {
            ChallengeResponse::Answer(token) => {
                self.shown.answers.write().remove(token);
            }
            ChallengeResponse::Certificate(name) => {
                self.shown.certificates.write().remove(name);
            }
        }
    }
}

/// Creates a self-signed certificate for `name`, with the digest in a critical extension (RFC 8737, section 3).
fn challenge_certificate(name: &str, digest: &[u8; 32]) -> Result<CertifiedKey, ChallengeCertificateError> {
    let mut params = CertificateParams::new([name.to_owned()])?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let pair = KeyPair::generate()?;
    let certificate = params.self_signed(&pair)?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(pair.serialize_der()));
    Ok(CertifiedKey::new(vec![certificate.der().clone()], any_supported_type(&key)?))
}
