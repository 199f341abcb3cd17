//! From a socket to a client's stream: whose connection it is, then the handshake, both within one deadline.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use thiserror::Error;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsAcceptor;

use super::{
    Certificates, Downstream, ServedName,
    acme::ACME_TLS,
    caller::Callers,
    slots::{Place, Share},
    tls::Handshakes,
};
use crate::{
    config::Config,
    identity::{ClientAuthorities, ClientCertificate},
};

/// PROXY header and handshake take no longer, or the connection is given up.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// What every client passes.
pub struct Threshold {
    handshakes: Handshakes,
    vouching: Vouching,
    callers: Callers,
    certificates: Arc<Certificates>,
}

/// Asks who vouches for client certificates now.
type Vouching = Box<dyn Fn() -> Option<Arc<ClientAuthorities>> + Send + Sync>;

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
    /// What it has shown of itself; not a trusted proxy's, which is not that of its clients.
    pub certificate: Option<Arc<ClientCertificate>>,
}

/// Why a connection does not pass.
#[derive(Debug, Error)]
pub enum ThresholdFault {
    /// The client that its proxy names is shut out, or has as many connections as it may.
    #[error("there is no place for this client")]
    NoPlace,
    /// It is a trusted proxy's, and does not begin with a whole PROXY header.
    #[error("the PROXY header is missing or wrong")]
    Proxy,
    /// No keys were agreed on.
    #[error("no TLS: {0}")]
    Tls(#[from] io::Error),
    /// None: the handshake is all that a certificate authority came for (RFC 8737, section 3).
    #[error("a certificate authority has seen its proof")]
    Proven,
    /// PROXY header and handshake were not done in time.
    #[error("not done within {HANDSHAKE_TIMEOUT:?}")]
    TooSlow,
}

impl Threshold {
    /// TLS as the configuration wants it now; proxies as `in_force`, client certificates as `vouching`, and who is shut out as
    /// `banned` says when each connection comes.
    pub fn new(
        certificates: Arc<Certificates>,
        in_force: impl Fn() -> Arc<Config> + Send + Sync + 'static,
        vouching: impl Fn() -> Option<Arc<ClientAuthorities>> + Send + Sync + 'static,
        banned: impl Fn(IpAddr) -> bool + Send + Sync + 'static,
    ) -> Result<Self, rustls::Error> {
        Ok(Self {
            handshakes: Handshakes::new(in_force().tls.profile, Arc::clone(&certificates) as _, vouching())?,
            vouching: Box::new(vouching),
            callers: Callers::new(Box::new(in_force), Box::new(banned)),
            certificates,
        })
    }

    /// Which limit holds for connections from `address`.
    #[must_use]
    pub fn share(&self, address: IpAddr) -> Share {
        self.callers.share(address)
    }

    /// Agrees on keys.
    ///
    /// # Errors
    /// The connection has ended.
    pub async fn encrypted(
        self: Arc<Self>,
        mut stream: TcpStream,
        socket: SocketAddr,
        place: Place,
    ) -> Result<Caller, ThresholdFault> {
        let handshake = async {
            let address = self.callers.identify(&mut stream, socket, &place).await?;
            let acceptor = TlsAcceptor::from(self.handshakes.config((self.vouching)()));
            Ok((acceptor.accept(stream).await?, address))
        };
        let (stream, address) = in_time(handshake).await?;
        if stream.get_ref().1.alpn_protocol() == Some(ACME_TLS) {
            return Err(ThresholdFault::Proven);
        }
        let stream = Downstream::tls(stream, address);
        if self.callers.is_proxy(address.ip()) {
            return Ok(Caller { stream, address, name: None, certificate: None });
        }
        let name = stream.server_name().map(|name| self.certificates.served(name));
        let certificate = stream.client_chain().map(ClientCertificate::read).transpose();
        let certificate = certificate.map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?.map(Arc::new);
        Ok(Caller { stream, address, name, certificate })
    }

    /// The same without encryption.
    pub async fn plain(
        &self,
        mut stream: TcpStream,
        socket: SocketAddr,
        place: Place,
    ) -> Result<Caller, ThresholdFault> {
        let address = in_time(self.callers.identify(&mut stream, socket, &place)).await?;
        Ok(Caller { stream: Downstream::plain(stream, address), address, name: None, certificate: None })
    }
}

async fn in_time<T>(passing: impl Future<Output = Result<T, ThresholdFault>>) -> Result<T, ThresholdFault> {
    timeout(HANDSHAKE_TIMEOUT, passing).await.unwrap_or(Err(ThresholdFault::TooSlow))
}
