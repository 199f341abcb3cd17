//! The rustls configuration: versions and cipher suites by profile, HTTP/2 and HTTP/1.1, and certificates of both sides that can change.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::{
    ServerConfig, SupportedCipherSuite, SupportedProtocolVersion,
    crypto::{
        CryptoProvider, SupportedKxGroup,
        aws_lc_rs::{self, Ticketer, cipher_suite as suite, kx_group},
    },
    server::{NoServerSessionStorage, ResolvesServerCert},
    version::{TLS12, TLS13},
};
use sallyport_core::config::TlsProfile;

use tracing::error;

use super::challenge_responder::ACME_TLS;
use crate::identity::ClientAuthorities;

/// Mozilla's groups, the same in both profiles. The client's preference decides, and current clients prefer the hybrid.
const GROUPS: [&dyn SupportedKxGroup; 4] =
    [kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1];

static TLS13_ONLY: [&SupportedProtocolVersion; 1] = [&TLS13];
static TLS12_TOO: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];

const MODERN: [SupportedCipherSuite; 3] =
    [suite::TLS13_AES_128_GCM_SHA256, suite::TLS13_AES_256_GCM_SHA384, suite::TLS13_CHACHA20_POLY1305_SHA256];

/// Only suites with ephemeral keys and authenticated encryption.
const INTERMEDIATE_TLS12: [SupportedCipherSuite; 6] = [
    suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
];

/// Installs aws-lc-rs as the process's cryptography provider; later calls have no effect.
pub fn install_crypto() {
    let _ = aws_lc_rs::default_provider().install_default();
}

/// The configuration of handshakes, rebuilt when the authorities of client certificates change.
pub(super) struct Handshakes {
    profile: TlsProfile,
    certificates: Arc<dyn ResolvesServerCert>,
    current: ArcSwap<CurrentConfig>,
}

struct CurrentConfig {
    clients: Option<Arc<ClientAuthorities>>,
    config: Arc<ServerConfig>,
}

impl Handshakes {
    pub(super) fn new(
        profile: TlsProfile,
        certificates: Arc<dyn ResolvesServerCert>,
        clients: Option<Arc<ClientAuthorities>>,
    ) -> Result<Self, rustls::Error> {
        let config = Arc::new(server_config(profile, Arc::clone(&certificates), clients.as_deref())?);
        Ok(Self { profile, certificates, current: ArcSwap::from_pointee(CurrentConfig { clients, config }) })
    }

    /// Returns the configuration that requests certificates of these authorities.
    ///
    /// New authorities come with new ticket keys: a session that began under other authorities is not resumed, since its client was asked for
    /// other certificates.
    pub(super) fn config(&self, clients: Option<Arc<ClientAuthorities>>) -> Arc<ServerConfig> {
        let current = self.current.load();
        if current.clients.as_ref().map(Arc::as_ptr) == clients.as_ref().map(Arc::as_ptr) {
            return Arc::clone(&current.config);
        }
        match server_config(self.profile, Arc::clone(&self.certificates), clients.as_deref()) {
            Ok(config) => {
                let config = Arc::new(config);
                self.current.store(Arc::new(CurrentConfig { clients, config: Arc::clone(&config) }));
                config
            }
            // The requests themselves are still judged by the new authorities.
            Err(error) => {
                error!(%error, "cannot apply the new client certificate authorities to TLS; keeping the previous ones");
                Arc::clone(&current.config)
            }
        }
    }
}

fn server_config(
    profile: TlsProfile,
    certificates: Arc<dyn ResolvesServerCert>,
    clients: Option<&ClientAuthorities>,
) -> Result<ServerConfig, rustls::Error> {
    let (versions, cipher_suites): (&[_], Vec<_>) = match profile {
        TlsProfile::Modern => (&TLS13_ONLY, MODERN.to_vec()),
        TlsProfile::Intermediate => (&TLS12_TOO, MODERN.into_iter().chain(INTERMEDIATE_TLS12).collect()),
    };
    let provider = CryptoProvider { cipher_suites, kx_groups: GROUPS.to_vec(), ..aws_lc_rs::default_provider() };
    let builder = ServerConfig::builder_with_provider(Arc::new(provider)).with_protocol_versions(versions)?;
    let builder = match clients {
        Some(clients) => builder.with_client_cert_verifier(clients.verifier()),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(certificates);
    // ACME authorities offer only the last one when they validate a name; the resolver has an answer for them or none.
    config.alpn_protocols = [&b"h2"[..], b"http/1.1", ACME_TLS].map(<[u8]>::to_vec).into();
    // Tickets contain the session, encrypted with keys that change every six hours, so nothing is stored here per client.
    config.ticketer = Ticketer::new()?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    // One ticket is enough for a returning client, and each costs a key derivation and a record.
    config.send_tls13_tickets = 1;
    Ok(config)
}
