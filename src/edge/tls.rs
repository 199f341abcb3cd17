//! The rustls configuration: TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1, one certificate that can change.

use std::sync::Arc;

use rustls::{ServerConfig, crypto::aws_lc_rs, server::ResolvesServerCert};

/// Makes aws-lc-rs the process's cryptography; later calls change nothing.
pub fn install_crypto() {
    let _ = aws_lc_rs::default_provider().install_default();
}

/// The configuration for every TLS listener.
pub fn server_config(certificates: Arc<dyn ResolvesServerCert>) -> Result<ServerConfig, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // One ticket is enough for a client that comes back, and each costs a key derivation and a record.
    config.send_tls13_tickets = 1;
    Ok(config)
}
