//! The stream of one client, TLS or plain, as pingora wants its streams: with what is known of its socket.

use std::{
    fmt, io,
    net::SocketAddr,
    os::fd::AsRawFd,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use arrayvec::ArrayVec;
use async_trait::async_trait;
use bytes::{Buf, Bytes, BytesMut};
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest, UniqueID,
    l4::socket::SocketAddr as PingoraAddr, raw_connect::ProxyDigest, tls::SslDigest,
};
use rustls::pki_types::CertificateDer;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

use super::listener::give_up_after;

/// So many bytes wait for a flush at most: what fits one TLS record.
const MAX_WAITING: usize = 16 * 1024;
/// So many bytes are encrypted at once, and go out by one system call, at most.
const MAX_ENCRYPTED: usize = 256 * 1024;
/// They are handed to rustls in parts of so many bytes. It copies each part before it encrypts, and the C library copies longer ones by
/// `rep movsb`, which AMD's processors do several times slower where the two places lie badly to each other.
const PART: usize = 2 * 1024;

/// One client's stream.
///
/// Small writes wait until they are flushed, so that a head and its body become one TLS record and one system call.
/// Whoever writes flushes where an answer ends or must not wait.
pub struct Downstream {
    io: Transport,
    fd: i32,
    /// Bytes that were read ahead and come first.
    ahead: Bytes,
    /// Bytes that were written and wait for a flush.
    waiting: BytesMut,
    socket: Arc<SocketDigest>,
    tls_version: Option<&'static str>,
    inspect: Option<Inspect>,
    /// Bytes that were written.
    sent: u64,
}

/// Looks at every byte that comes, told how many were written so far, and may end the stream for it.
pub type Inspect = Box<dyn FnMut(&[u8], u64) -> io::Result<()> + Send + Sync>;

/// In the clear, or encrypted.
type Transport = Either<TcpStream, Box<TlsStream<TcpStream>>>;

impl Downstream {
    /// A plain stream from `peer`.
    #[must_use]
    pub fn plain(io: TcpStream, peer: SocketAddr) -> Self {
        let fd = io.as_raw_fd();
        Self {
            io: Transport::Left(io),
            fd,
            ahead: Bytes::new(),
            waiting: BytesMut::new(),
            socket: socket_digest(fd, peer),
            tls_version: None,
            inspect: None,
            sent: 0,
        }
    }

    /// A TLS stream from `peer`, after its handshake.
    #[must_use]
    pub fn tls(mut io: TlsStream<TcpStream>, peer: SocketAddr) -> Self {
        io.get_mut().1.set_buffer_limit(Some(MAX_ENCRYPTED));
        let fd = io.get_ref().0.as_raw_fd();
        let version = match io.get_ref().1.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
            Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "TLS",
        };
        Self {
            io: Transport::Right(Box::new(io)),
            fd,
            ahead: Bytes::new(),
            waiting: BytesMut::new(),
            socket: socket_digest(fd, peer),
            tls_version: Some(version),
            inspect: None,
            sent: 0,
        }
    }

    /// Puts bytes that were read from this stream back in front of it, and of what was put back before.
    pub fn unread(&mut self, bytes: Bytes) {
        self.ahead = match (bytes.is_empty(), self.ahead.is_empty()) {
            (true, _) => return,
            (false, true) => bytes,
            (false, false) => [bytes, std::mem::take(&mut self.ahead)].concat().into(),
        };
    }

    /// Has every byte that comes from now on looked at.
    pub fn inspect(&mut self, inspect: Inspect) {
        self.inspect = Some(inspect);
    }

    /// Has the system end the connection where the client takes nothing for so long.
    pub(crate) fn give_up_after(&self, silence: Duration) {
        match &self.io {
            Transport::Left(io) => give_up_after(io, silence),
            Transport::Right(io) => give_up_after(io.get_ref().0, silence),
        }
    }

    /// The version of TLS; None on a plain stream.
    #[must_use]
    pub fn tls_version(&self) -> Option<&'static str> {
        self.tls_version
    }

    /// The name that the client asked for in the handshake.
    #[must_use]
    pub fn server_name(&self) -> Option<&str> {
        let Transport::Right(io) = &self.io else { return None };
        io.get_ref().1.server_name()
    }

    /// What the client has shown of itself in the handshake, or in the one of the session that it resumes.
    #[must_use]
    pub fn client_chain(&self) -> Option<&[CertificateDer<'static>]> {
        let Transport::Right(io) = &self.io else { return None };
        io.get_ref().1.peer_certificates()
    }

    /// True when the client chose HTTP/2 in the handshake.
    #[must_use]
    pub fn is_http2(&self) -> bool {
        matches!(self.selected_alpn_proto(), Some(ALPN::H2))
    }
}

fn socket_digest(fd: i32, peer: SocketAddr) -> Arc<SocketDigest> {
    let digest = SocketDigest::from_raw_fd(fd);
    let _ = digest.peer_addr.set(Some(PingoraAddr::Inet(peer)));
    Arc::new(digest)
}

impl Downstream {
    /// Ready once the socket has taken all but what waits for a flush. Whoever waits for that before writing more has no more
    /// encrypted in memory than was written last.
    pub(crate) fn poll_settle(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// Hands on what waits.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.waiting.is_empty() {
            match ready!(Pin::new(&mut self.io).poll_write(cx, &self.waiting))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => self.waiting.advance(n),
            }
        }
        // A connection that idles between requests should hold no buffer.
        self.waiting = BytesMut::new();
        Poll::Ready(Ok(()))
    }
}

impl Downstream {
    /// Writes to the socket, in the clear or encrypted.
    fn poll_pass(&mut self, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let written = ready!(match &mut self.io {
            Transport::Left(io) => Pin::new(io).poll_write_vectored(cx, bufs),
            Transport::Right(io) => {
                let parts = bufs.iter().flat_map(|buf| buf.chunks(PART));
                let parts: ArrayVec<_, { MAX_ENCRYPTED / PART }> =
                    parts.take(MAX_ENCRYPTED / PART).map(io::IoSlice::new).collect();
                Pin::new(io).poll_write_vectored(cx, &parts)
            }
        })?;
        self.sent += written as u64;
        Poll::Ready(Ok(written))
    }
}

impl AsyncRead for Downstream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            let before = buf.filled().len();
            ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
            let sent = self.sent;
            return Poll::Ready(match &mut self.inspect {
                Some(inspect) => inspect(buf.filled().get(before..).unwrap_or_default(), sent),
                None => Ok(()),
            });
        }
        let n = self.ahead.len().min(buf.remaining());
        buf.put_slice(self.ahead.get(..n).unwrap_or_default());
        self.ahead.advance(n);
        if self.ahead.is_empty() {
            self.ahead = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Downstream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.waiting.len() + buf.len() <= MAX_WAITING {
            self.waiting.extend_from_slice(buf);
            self.sent += buf.len() as u64;
            return Poll::Ready(Ok(buf.len()));
        }
        ready!(self.poll_drain(cx))?;
        self.poll_pass(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length: usize = bufs.iter().map(|b| b.len()).sum();
        if self.waiting.len() + length <= MAX_WAITING {
            for b in bufs {
                self.waiting.extend_from_slice(b);
            }
            self.sent += length as u64;
            return Poll::Ready(Ok(length));
        }
        ready!(self.poll_drain(cx))?;
        self.poll_pass(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        match &mut self.io {
            Transport::Left(io) => Pin::new(io).poll_shutdown(cx),
            // A peer that is gone already is no fault.
            Transport::Right(io) => Pin::new(io).poll_shutdown(cx).map(|_| Ok(())),
        }
    }
}

impl fmt::Debug for Downstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Downstream").field("fd", &self.fd).finish_non_exhaustive()
    }
}

#[async_trait]
impl Shutdown for Downstream {
    async fn shutdown(&mut self) {
        let _ = AsyncWriteExt::shutdown(self).await;
    }
}

impl UniqueID for Downstream {
    fn id(&self) -> i32 {
        self.fd
    }
}

impl Ssl for Downstream {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.tls_version.map(|version| Arc::new(SslDigest::new("", version, None, None, Vec::new())))
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        let Transport::Right(io) = &self.io else { return None };
        match io.get_ref().1.alpn_protocol()? {
            b"h2" => Some(ALPN::H2),
            _ => Some(ALPN::H1),
        }
    }
}

impl Peek for Downstream {}

impl GetTimingDigest for Downstream {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }

    fn get_read_pending_time(&self) -> Duration {
        Duration::ZERO
    }

    fn get_write_pending_time(&self) -> Duration {
        Duration::ZERO
    }
}

impl GetProxyDigest for Downstream {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for Downstream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(Arc::clone(&self.socket))
    }

    fn set_socket_digest(&mut self, digest: SocketDigest) {
        self.socket = Arc::new(digest);
    }
}
