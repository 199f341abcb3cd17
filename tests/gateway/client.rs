//! A client that sends exactly the given bytes, over TLS that trusts only the instance's authority.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::Arc,
    time::Duration,
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use serde_json::Value;

/// A TLS connection.
pub(crate) type Tls = StreamOwned<ClientConnection, TcpStream>;

/// A complete response.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

/// A request to send.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    head: String,
    body: Vec<u8>,
}

impl Request {
    pub(crate) fn new(method: &str, target: &str) -> Self {
        let head = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
        Self { head, body: Vec::new() }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.head.extend([name, ": ", value, "\r\n"]);
        self
    }

    pub(crate) fn key(self, key: &str) -> Self {
        self.header("X-API-Key", key)
    }

    pub(crate) fn bearer(self, token: &str) -> Self {
        self.header("Authorization", &format!("Bearer {token}"))
    }

    pub(crate) fn json(self, body: &str) -> Self {
        self.header("Content-Type", "application/json").body(body)
    }

    pub(crate) fn body(mut self, body: &str) -> Self {
        self.body = body.into();
        let length = self.body.len().to_string();
        self.header("Content-Length", &length)
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        [self.head.as_bytes(), b"\r\n", &self.body].concat()
    }
}

impl Response {
    fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("no response: {:?}", String::from_utf8_lossy(bytes)));
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut response = Self { status, head, body: bytes[end + 4..].to_vec() };
        if response.header("transfer-encoding").is_some() {
            response.body = dechunk(&response.body);
        }
        response
    }

    pub(crate) fn headers(&self, name: &str) -> Vec<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.trim()).collect()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers(name).first().copied()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// Returns the public code of a denial.
    pub(crate) fn code(&self) -> String {
        self.json()["code"].as_str().unwrap().to_owned()
    }
}

/// Sends bytes over TLS and reads to the end.
pub(crate) fn send(address: SocketAddr, authority: &Path, bytes: &[u8]) -> Response {
    finish(connect(address, authority, rustls::ALL_VERSIONS).unwrap(), bytes)
}

/// The same from a client that sends no server name, and so may name any host in its requests.
pub(crate) fn send_nameless(address: SocketAddr, authority: &Path, bytes: &[u8]) -> Response {
    let config = Arc::new(client_config(authority, rustls::ALL_VERSIONS));
    finish(handshake(TcpStream::connect(address).unwrap(), &config, "127.0.0.1").unwrap(), bytes)
}

/// Sends bytes over an open connection and reads to the end.
pub(crate) fn finish(mut stream: impl Read + Write, bytes: &[u8]) -> Response {
    stream.write_all(bytes).unwrap();
    Response::parse(&read_all(&mut stream))
}

/// The same if there may be no response.
pub(crate) fn try_finish(mut stream: impl Read + Write, bytes: &[u8]) -> Option<Response> {
    stream.write_all(bytes).ok()?;
    let response = read_all(&mut stream);
    (!response.is_empty()).then(|| Response::parse(&response))
}

/// Opens a TLS connection for "localhost" that trusts the authority whose certificate is in the file.
pub(crate) fn connect(
    address: SocketAddr,
    authority: &Path,
    versions: &[&'static SupportedProtocolVersion],
) -> std::io::Result<Tls> {
    let tcp = TcpStream::connect(address)?;
    tcp.set_read_timeout(Some(Duration::from_secs(20)))?;
    connect_over(tcp, authority, versions)
}

/// The same over an open connection.
pub(crate) fn connect_over(
    tcp: TcpStream,
    authority: &Path,
    versions: &[&'static SupportedProtocolVersion],
) -> std::io::Result<Tls> {
    handshake(tcp, &Arc::new(client_config(authority, versions)), "localhost")
}

/// Does a handshake for the server `name`.
pub(crate) fn handshake(tcp: TcpStream, config: &Arc<ClientConfig>, name: &str) -> std::io::Result<Tls> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut stream = StreamOwned::new(ClientConnection::new(Arc::clone(config), name).unwrap(), tcp);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
}

/// The same for HTTP/2, frame by frame.
pub(crate) fn connect_frames(address: SocketAddr, authority: &Path) -> StreamOwned<ClientConnection, TcpStream> {
    let mut config = client_config(authority, rustls::ALL_VERSIONS);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connection = ClientConnection::new(Arc::new(config), ServerName::try_from("localhost").unwrap()).unwrap();
    StreamOwned::new(connection, TcpStream::connect(address).unwrap())
}

/// The same for an HTTP/2 client library.
pub(crate) async fn connect_http2(
    address: SocketAddr,
    authority: &Path,
) -> tokio_rustls::client::TlsStream<tokio::net::TcpStream> {
    let mut config = client_config(authority, rustls::ALL_VERSIONS);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let tcp = tokio::net::TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap()
}

pub(crate) fn client_config(authority: &Path, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
    client_config_with(aws_lc_rs::default_provider(), authority, versions)
}

pub(crate) fn client_config_with(
    provider: CryptoProvider,
    authority: &Path,
    versions: &[&'static SupportedProtocolVersion],
) -> ClientConfig {
    builder_with(provider, authority, versions).with_no_client_auth()
}

/// Returns a builder for a client, without its own certificate yet.
pub(crate) fn client_builder(authority: &Path, versions: &[&'static SupportedProtocolVersion]) -> Builder {
    builder_with(aws_lc_rs::default_provider(), authority, versions)
}

type Builder = rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>;

fn builder_with(provider: CryptoProvider, authority: &Path, versions: &[&'static SupportedProtocolVersion]) -> Builder {
    let mut roots = RootCertStore::empty();
    for cert in CertificateDer::pem_slice_iter(&fs::read(authority).unwrap()) {
        roots.add(cert.unwrap()).unwrap();
    }
    let config = ClientConfig::builder_with_provider(Arc::new(provider)).with_protocol_versions(versions).unwrap();
    config.with_root_certificates(roots)
}

/// Sends bytes without TLS and reads to the end.
pub(crate) fn send_plain(address: SocketAddr, bytes: &[u8]) -> Response {
    finish(TcpStream::connect(address).unwrap(), bytes)
}

/// Reads to the end, or until the other side aborts.
fn read_all(stream: &mut impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 16 * 1024];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return bytes,
            Ok(n) => bytes.extend_from_slice(&buffer[..n]),
        }
    }
}

fn dechunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let end = bytes.windows(2).position(|w| w == b"\r\n").unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).unwrap(), 16).unwrap();
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&bytes[end + 2..end + 2 + size]);
        bytes = &bytes[end + 2 + size + 2..];
    }
}
