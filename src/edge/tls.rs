//! The rustls configuration: versions and suites by a profile, HTTP/2 and HTTP/1.1, certificates that can change.

use std::sync::Arc;

use rustls::{
    ServerConfig, SupportedCipherSuite, SupportedProtocolVersion,
    crypto::{
        CryptoProvider, SupportedKxGroup,
        aws_lc_rs::{self, Ticketer, cipher_suite as suite, kx_group},
    },
    server::{NoServerSessionStorage, ResolvesServerCert},
    version::{TLS12, TLS13},
};

use super::acme::ACME_TLS;
use crate::config::TlsProfile;

/// Mozilla's, the same in both profiles. The client's order decides, and current ones put the hybrid first.
const GROUPS: [&dyn SupportedKxGroup; 4] =
    [kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1];

static TLS13_ONLY: [&SupportedProtocolVersion; 1] = [&TLS13];
static TLS12_TOO: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];

const MODERN: [SupportedCipherSuite; 3] =
    [suite::TLS13_AES_128_GCM_SHA256, suite::TLS13_AES_256_GCM_SHA384, suite::TLS13_CHACHA20_POLY1305_SHA256];

/// Ephemeral keys and authenticated encryption only.
const INTERMEDIATE_TLS12: [SupportedCipherSuite; 6] = [
    suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
];

/// Makes aws-lc-rs the process's cryptography; later calls change nothing.
pub fn install_crypto() {
    let _ = aws_lc_rs::default_provider().install_default();
}

/// The configuration for every TLS listener.
pub(super) fn server_config(
    profile: TlsProfile,
    certificates: Arc<dyn ResolvesServerCert>,
) -> Result<ServerConfig, rustls::Error> {
    let (versions, cipher_suites): (&[_], Vec<_>) = match profile {
        TlsProfile::Modern => (&TLS13_ONLY, MODERN.to_vec()),
        TlsProfile::Intermediate => (&TLS12_TOO, MODERN.into_iter().chain(INTERMEDIATE_TLS12).collect()),
    };
    let provider = CryptoProvider { cipher_suites, kx_groups: GROUPS.to_vec(), ..aws_lc_rs::default_provider() };
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(versions)?
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    // The last is what authorities ask for alone when they look whether a name is ours; the resolver has an answer or none.
    config.alpn_protocols = [&b"h2"[..], b"http/1.1", ACME_TLS].map(<[u8]>::to_vec).into();
    // Tickets hold the session themselves, under keys that change every six hours: nothing is kept here for each client.
    config.ticketer = Ticketer::new()?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    // One ticket is enough for a client that comes back, and each costs a key derivation and a record.
    config.send_tls13_tickets = 1;
    Ok(config)
}
