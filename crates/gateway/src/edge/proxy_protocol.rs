//! PROXY protocol, versions 1 and 2: names the client of a connection that a proxy has forwarded.
//!
//! Follows HAProxy's proxy-protocol.txt, sections 2.1 and 2.2. No byte after the header is consumed from the stream.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use thiserror::Error;
use tokio::{io::AsyncReadExt, net::TcpStream};

const V1_START: &[u8] = b"PROXY ";
const V1_MAX: usize = 107;
const V2_START: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const V2_FIXED: usize = 16;
/// The longest header that is read. Up to 64 KiB can be announced, but no proxy sends that much.
const MAX_HEADER: usize = 4 * 1024;

/// The source that a header names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The client of the proxy.
    Client(SocketAddr),
    /// No client: the proxy made the connection for itself, or does not know the client.
    Proxy,
}

/// The reasons why there is no usable header.
#[derive(Debug, Error)]
pub enum ProxyFault {
    /// The connection begins with something else.
    #[error("the connection does not begin with a PROXY header")]
    Missing,
    /// It violates the grammar.
    #[error("the PROXY header is malformed")]
    Malformed,
    /// It is for something other than a TCP connection.
    #[error("the PROXY header has an unknown version, command or family")]
    Unsupported,
    /// It is longer than any legitimate header.
    #[error("the PROXY header is too long")]
    TooLong,
    /// The proxy has disconnected.
    #[error("the connection ended before its PROXY header")]
    Gone(#[from] io::Error),
}

/// A complete header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its length in bytes; the client's data follows.
    pub length: usize,
    /// The source that it names.
    pub source: Source,
}

/// Reads the header from the beginning of `stream`.
pub(super) async fn read_source(stream: &mut TcpStream) -> Result<Source, ProxyFault> {
    let mut bytes = Vec::new();
    loop {
        let taken = bytes.len();
        bytes.resize(MAX_HEADER, 0);
        let seen = stream.peek(bytes.get_mut(taken..).unwrap_or_default()).await?;
        if seen == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        bytes.truncate(taken + seen);
        let header = parse(&bytes)?;
        // While the header is incomplete, every byte belongs to it.
        let end = header.map_or(bytes.len(), |h| h.length);
        stream.read_exact(bytes.get_mut(taken..end).unwrap_or_default()).await?;
        if let Some(header) = header {
            return Ok(header.source);
        }
    }
}

/// Parses the header at the beginning of `bytes`; `None` while it is incomplete.
pub fn parse(bytes: &[u8]) -> Result<Option<Header>, ProxyFault> {
    let may_begin = |start: &[u8]| bytes.iter().zip(start).all(|(a, b)| a == b);
    if may_begin(V2_START) {
        parse_v2(bytes)
    } else if may_begin(V1_START) {
        parse_v1(bytes)
    } else {
        Err(ProxyFault::Missing)
    }
}

fn parse_v1(bytes: &[u8]) -> Result<Option<Header>, ProxyFault> {
    let window = bytes.get(..V1_MAX).unwrap_or(bytes);
    let Some(end) = memchr::memchr(b'\n', window) else {
        return if window.len() < V1_MAX { Ok(None) } else { Err(ProxyFault::TooLong) };
    };
    let line = window.get(V1_START.len()..end).and_then(|line| line.strip_suffix(b"\r"));
    let line = line.and_then(|line| std::str::from_utf8(line).ok()).ok_or(ProxyFault::Malformed)?;
    let (family, addresses) = line.split_once(' ').unwrap_or((line, ""));
    let source = match family {
        "TCP4" => client_v1::<Ipv4Addr>(addresses),
        "TCP6" => client_v1::<Ipv6Addr>(addresses),
        // The rest of the line must be ignored.
        "UNKNOWN" => Some(Source::Proxy),
        _ => None,
    };
    Ok(Some(Header { length: end + 1, source: source.ok_or(ProxyFault::Malformed)? }))
}

/// Parses "192.0.2.1 198.51.100.1 56324 443".
fn client_v1<A: FromStr + Into<IpAddr>>(text: &str) -> Option<Source> {
    let mut words = text.split(' ');
    let mut address = || words.next()?.parse::<A>().ok();
    let source = address()?;
    let _destination = address()?;
    let mut port = || parse_port(words.next()?);
    let source_port = port()?;
    let _destination_port = port()?;
    words.next().is_none().then(|| client(source.into(), source_port))
}

/// Parses a port in its canonical form.
fn parse_port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    plain.then(|| text.parse().ok())?
}

fn parse_v2(bytes: &[u8]) -> Result<Option<Header>, ProxyFault> {
    let Some((fixed, rest)) = bytes.split_first_chunk::<V2_FIXED>() else { return Ok(None) };
    let [.., version_and_command, family, high, low] = *fixed;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if V2_FIXED + length > MAX_HEADER {
        return Err(ProxyFault::TooLong);
    }
    let Some(addresses) = rest.get(..length) else { return Ok(None) };
    let source = match (version_and_command, family) {
        (0x21, 0x11) => client_v2::<4>(addresses)?,
        (0x21, 0x21) => client_v2::<16>(addresses)?,
        // LOCAL, and the families without a client address: UNSPEC and Unix sockets.
        (0x20, _) | (0x21, 0x00 | 0x31) => Source::Proxy,
        _ => return Err(ProxyFault::Unsupported),
    };
    Ok(Some(Header { length: V2_FIXED + length, source }))
}

/// Parses source, destination and their ports; extensions may follow.
fn client_v2<const N: usize>(bytes: &[u8]) -> Result<Source, ProxyFault>
where
    [u8; N]: Into<IpAddr>,
{
    let parts = || {
        let (source, rest) = bytes.split_first_chunk::<N>()?;
        let (_, rest) = rest.split_first_chunk::<N>()?;
        let ([high, low, _, _], _) = rest.split_first_chunk::<4>()?;
        Some(client((*source).into(), u16::from_be_bytes([*high, *low])))
    };
    parts().ok_or(ProxyFault::Malformed)
}

fn client(address: IpAddr, port: u16) -> Source {
    Source::Client(SocketAddr::new(address.to_canonical(), port))
}

#[cfg(test)]
#[path = "proxy_protocol_tests.rs"]
mod tests;
