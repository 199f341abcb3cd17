//! From a socket to a client's stream: whose connection it is, then the handshake, both within one deadline.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsAcceptor;

use super::{
    Certificates, Downstream, ServedName,
    acme::ACME_TLS,
    caller::Callers,
    slots::{Place, Share},
    tls,
};
use crate::config::Config;

/// PROXY header and handshake take no longer, or the connection is given up.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// What every client passes.
pub struct Threshold {
    acceptor: TlsAcceptor,
    callers: Callers,
    certificates: Arc<Certificates>,
}

/// A client that has passed.
#[derive(Debug)]
pub struct Caller {
    /// Its stream.
    pub stream: Downstream,
    /// Its address.
    pub address: SocketAddr,
    /// The name that it has asked for, where its requests are held to it: not a trusted proxy's, which sends those for
    /// every host over connections of its own.
    pub name: Option<ServedName>,
}

impl Threshold {
    /// TLS as the configuration wants it now; proxies as `in_force`, and who is shut out as `banned` says when each
    /// connection comes.
    pub fn new(
        certificates: Arc<Certificates>,
        in_force: impl Fn() -> Arc<Config> + Send + Sync + 'static,
        banned: impl Fn(IpAddr) -> bool + Send + Sync + 'static,
    ) -> Result<Self, rustls::Error> {
        let server_config = tls::server_config(in_force().tls.profile, Arc::clone(&certificates) as _)?;
        Ok(Self {
            acceptor: TlsAcceptor::from(Arc::new(server_config)),
            callers: Callers::new(Box::new(in_force), Box::new(banned)),
            certificates,
        })
    }

    /// Which limit holds for connections from `address`.
    #[must_use]
    pub fn share(&self, address: IpAddr) -> Share {
        self.callers.share(address)
    }

    /// Agrees on keys; None where the connection has ended.
    pub async fn encrypted(self: Arc<Self>, mut stream: TcpStream, socket: SocketAddr, place: Place) -> Option<Caller> {
        let handshake = async {
            let address = self.callers.identify(&mut stream, socket, &place).await?;
            Some((self.acceptor.accept(stream).await.ok()?, address))
        };
        let (stream, address) = timeout(HANDSHAKE_TIMEOUT, handshake).await.ok()??;
        if stream.get_ref().1.alpn_protocol() == Some(ACME_TLS) {
            // The handshake is all that the authority came for (RFC 8737, section 3).
            return None;
        }
        let stream = Downstream::tls(stream, address);
        let name = stream
            .server_name()
            .filter(|_| !self.callers.is_proxy(address.ip()))
            .map(|name| self.certificates.served(name));
        Some(Caller { stream, address, name })
    }

    /// The same without encryption.
    pub async fn plain(&self, mut stream: TcpStream, socket: SocketAddr, place: Place) -> Option<Caller> {
        let address = timeout(HANDSHAKE_TIMEOUT, self.callers.identify(&mut stream, socket, &place)).await.ok()??;
        Some(Caller { stream: Downstream::plain(stream, address), address, name: None })
    }
}
