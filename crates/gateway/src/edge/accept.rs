//! Turns a socket into a client's stream: determines the client's address and does the TLS handshake, both within one deadline.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use sallyport_core::config::Config;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsAcceptor;

use super::{
    Certificates, Downstream, ServedName,
    accept_fault::{AcceptFault, HANDSHAKE_TIMEOUT},
    challenge_responder::ACME_TLS,
    connection_limits::{PeerLimit, SlotHandle},
    peer_address::PeerAddresses,
    tls::Handshakes,
};
use crate::identity::{ClientAuthorities, ClientCertificate};

/// The checks that every connection passes.
pub(crate) struct Acceptor {
    handshakes: Handshakes,
    vouching: Vouching,
    callers: PeerAddresses,
    certificates: Arc<Certificates>,
}

/// Returns the authorities of client certificates in force.
type Vouching = Box<dyn Fn() -> Option<Arc<ClientAuthorities>> + Send + Sync>;

/// A client that has passed the checks.
#[derive(Debug)]
pub(crate) struct Caller {
    /// Its stream.
    pub stream: Downstream,
    /// Its address.
    pub address: SocketAddr,
    /// The server name of its handshake; requests must be for this host. `None` for a trusted proxy, which sends requests for all hosts over its own
    /// connections.
    pub name: Option<ServedName>,
    /// Its client certificate. `None` for a trusted proxy, whose certificate is not that of its clients.
    pub certificate: Option<Arc<ClientCertificate>>,
}

impl Acceptor {
    /// Creates the checks. The TLS profile is the current one; `in_force` (proxies), `vouching` (client authorities) and `banned` are called for
    /// each connection.
    pub(crate) fn new(
        certificates: Arc<Certificates>,
        in_force: impl Fn() -> Arc<Config> + Send + Sync + 'static,
        vouching: impl Fn() -> Option<Arc<ClientAuthorities>> + Send + Sync + 'static,
        banned: impl Fn(IpAddr) -> bool + Send + Sync + 'static,
    ) -> Result<Self, rustls::Error> {
        Ok(Self {
            handshakes: Handshakes::new(in_force().tls.profile, Arc::clone(&certificates) as _, vouching())?,
            vouching: Box::new(vouching),
            callers: PeerAddresses::new(Box::new(in_force), Box::new(banned)),
            certificates,
        })
    }

    /// Returns which limit applies to connections from `address`.
    #[must_use]
    pub(crate) fn share(&self, address: IpAddr) -> PeerLimit {
        self.callers.share(address)
    }

    /// Accepts a connection with TLS.
    ///
    /// # Errors
    /// Fails if the connection does not pass; it is closed then.
    pub(crate) async fn encrypted(
        self: Arc<Self>,
        mut stream: TcpStream,
        socket: SocketAddr,
        slot: SlotHandle,
    ) -> Result<Caller, AcceptFault> {
        let handshake = async {
            let address = self.callers.identify(&mut stream, socket, &slot).await?;
            let acceptor = TlsAcceptor::from(self.handshakes.config((self.vouching)()));
            Ok((acceptor.accept(stream).await?, address))
        };
        let (stream, address) = in_time(handshake).await?;
        if stream.get_ref().1.alpn_protocol() == Some(ACME_TLS) {
            return Err(AcceptFault::Proven);
        }
        let stream = Downstream::tls(stream);
        if self.callers.is_proxy(address.ip()) {
            return Ok(Caller { stream, address, name: None, certificate: None });
        }
        let name = stream.server_name().map(|name| self.certificates.served(name));
        let certificate = stream.client_chain().map(ClientCertificate::read).transpose();
        let certificate = certificate.map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?.map(Arc::new);
        Ok(Caller { stream, address, name, certificate })
    }

    /// Accepts a connection without TLS.
    pub(crate) async fn plain(
        &self,
        mut stream: TcpStream,
        socket: SocketAddr,
        slot: SlotHandle,
    ) -> Result<Caller, AcceptFault> {
        let address = in_time(self.callers.identify(&mut stream, socket, &slot)).await?;
        Ok(Caller { stream: Downstream::plain(stream), address, name: None, certificate: None })
    }
}

async fn in_time<T>(passing: impl Future<Output = Result<T, AcceptFault>>) -> Result<T, AcceptFault> {
    timeout(HANDSHAKE_TIMEOUT, passing).await.unwrap_or(Err(AcceptFault::TooSlow))
}
