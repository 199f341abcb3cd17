//! The rustls configuration: versions and suites by a profile, HTTP/2 and HTTP/1.1, certificates of either side that can change.

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

use tracing::error;

use super::acme::ACME_TLS;
use crate::{config::TlsProfile, identity::ClientAuthorities};

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

/// What each handshake goes by; made anew when the authorities of client certificates change.
pub(super) struct Handshakes {
    profile: TlsProfile,
    certificates: Arc<dyn ResolvesServerCert>,
    current: ArcSwap<Current>,
}

struct Current {
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
        Ok(Self { profile, certificates, current: ArcSwap::from_pointee(Current { clients, config }) })
    }

    /// The configuration that asks for certificates of these authorities.
    ///
    /// New ones come with new keys for tickets: a session begun under others is not resumed, since its client was asked for
    /// something else.
    pub(super) fn config(&self, clients: Option<Arc<ClientAuthorities>>) -> Arc<ServerConfig> {
        let current = self.current.load();
        if current.clients.as_ref().map(Arc::as_ptr) == clients.as_ref().map(Arc::as_ptr) {
            return Arc::clone(&current.config);
        }
        match server_config(self.profile, Arc::clone(&self.certificates), clients.as_deref()) {
            Ok(config) => {
                let config = Arc::new(config);
                self.current.store(Arc::new(Current { clients, config: Arc::clone(&config) }));
                config
            }
            // Requests are judged by the new ones all the same.
            Err(error) => {
                error!(%error, "TLS goes on with the authorities for client certificates that it had");
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
    // The last is what authorities ask for alone when they look whether a name is ours; the resolver has an answer or none.
    config.alpn_protocols = [&b"h2"[..], b"http/1.1", ACME_TLS].map(<[u8]>::to_vec).into();
    // Tickets hold the session themselves, under keys that change every six hours: nothing is kept here for each client.
    config.ticketer = Ticketer::new()?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    // One ticket is enough for a client that comes back, and each costs a key derivation and a record.
    config.send_tls13_tickets = 1;
    Ok(config)
}
