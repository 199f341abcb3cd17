//! The stream of one client, TLS or plaintext.

use std::{
    fmt, io,
    os::fd::{AsRawFd, RawFd},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use arrayvec::ArrayVec;
use bytes::{Buf, Bytes, BytesMut};
use rustls::pki_types::CertificateDer;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

use super::accept_loop::give_up_after;

/// The maximum number of bytes that wait for a flush: the contents of one TLS record.
const MAX_WAITING: usize = 16 * 1024;
/// The maximum number of bytes that are encrypted at once and sent by one system call.
const MAX_ENCRYPTED: usize = 256 * 1024;
/// The size of the parts in which they are handed to rustls. It copies each part before it encrypts, and the C library copies longer ones
/// with `rep movsb`, which is several times slower on AMD processors if source and destination are badly aligned to each other.
const PART: usize = 2 * 1024;

/// One client's stream.
///
/// Small writes wait until they are flushed, so that a head and its body become one TLS record and one system call. The writer flushes at
/// the end of a response, or when data must not wait.
pub(crate) struct Downstream {
    io: Transport,
    /// Bytes that were read ahead and are returned first.
    ahead: Bytes,
    /// Bytes that were written and wait for a flush.
    waiting: BytesMut,
    tls_version: Option<&'static str>,
    inspect: Option<Inspect>,
    /// The number of bytes written.
    sent: u64,
}

/// Inspects all received bytes, together with the number of bytes written so far, and may end the stream with an error.
pub(crate) type Inspect = Box<dyn FnMut(&[u8], u64) -> io::Result<()> + Send + Sync>;

/// Plaintext or encrypted.
type Transport = Either<TcpStream, Box<TlsStream<TcpStream>>>;

impl Downstream {
    /// Creates a plaintext stream.
    #[must_use]
    pub(crate) fn plain(io: TcpStream) -> Self {
        Self {
            io: Transport::Left(io),
            ahead: Bytes::new(),
            waiting: BytesMut::new(),
            tls_version: None,
            inspect: None,
            sent: 0,
        }
    }

    /// Creates a TLS stream, after its handshake.
    #[must_use]
    pub(crate) fn tls(mut io: TlsStream<TcpStream>) -> Self {
        io.get_mut().1.set_buffer_limit(Some(MAX_ENCRYPTED));
        let version = match io.get_ref().1.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
            Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "TLS",
        };
        Self {
            io: Transport::Right(Box::new(io)),
            ahead: Bytes::new(),
            waiting: BytesMut::new(),
            tls_version: Some(version),
            inspect: None,
            sent: 0,
        }
    }

    /// Puts bytes that were read from this stream back, in front of bytes that were put back before.
    pub(crate) fn unread(&mut self, bytes: Bytes) {
        self.ahead = match (bytes.is_empty(), self.ahead.is_empty()) {
            (true, _) => return,
            (false, true) => bytes,
            (false, false) => [bytes, std::mem::take(&mut self.ahead)].concat().into(),
        };
    }

    /// Inspects every byte that is received from now on.
    pub(crate) fn inspect(&mut self, inspect: Inspect) {
        self.inspect = Some(inspect);
    }

    /// Has the kernel close the connection if the client takes nothing for `silence`.
    pub(crate) fn give_up_after(&self, silence: Duration) {
        match &self.io {
            Transport::Left(io) => give_up_after(io, silence),
            Transport::Right(io) => give_up_after(io.get_ref().0, silence),
        }
    }

    /// Returns the version of TLS; `None` on a plaintext stream.
    #[must_use]
    pub(crate) fn tls_version(&self) -> Option<&'static str> {
        self.tls_version
    }

    /// Returns the server name in the client's handshake.
    #[must_use]
    pub(crate) fn server_name(&self) -> Option<&str> {
        let Transport::Right(io) = &self.io else { return None };
        io.get_ref().1.server_name()
    }

    /// Returns the client's certificate chain, from this handshake or from that of the session that it resumes.
    #[must_use]
    pub(crate) fn client_chain(&self) -> Option<&[CertificateDer<'static>]> {
        let Transport::Right(io) = &self.io else { return None };
        io.get_ref().1.peer_certificates()
    }

    /// Returns true if HTTP/2 was negotiated in the handshake.
    #[must_use]
    pub(crate) fn is_http2(&self) -> bool {
        let Transport::Right(io) = &self.io else { return false };
        io.get_ref().1.alpn_protocol() == Some(b"h2")
    }
}

impl Downstream {
    /// Completes once the socket has taken everything except the data that waits for a flush. A writer that waits for this before writing more
    /// holds no more encrypted data in memory than its last write.
    pub(crate) fn poll_settle(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// Passes on the waiting bytes.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.waiting.is_empty() {
            match ready!(Pin::new(&mut self.io).poll_write(cx, &self.waiting))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => self.waiting.advance(n),
            }
        }
        // An idle connection should hold no buffer.
        self.waiting = BytesMut::new();
        Poll::Ready(Ok(()))
    }
}

impl Downstream {
    /// Writes to the socket, in plaintext or encrypted.
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
            // A peer that has already disconnected is not an error.
            Transport::Right(io) => Pin::new(io).poll_shutdown(cx).map(|_| Ok(())),
        }
    }
}

impl AsRawFd for Downstream {
    fn as_raw_fd(&self) -> RawFd {
        match &self.io {
            Transport::Left(io) => io.as_raw_fd(),
            Transport::Right(io) => io.get_ref().0.as_raw_fd(),
        }
    }
}

impl fmt::Debug for Downstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Downstream").field("fd", &self.as_raw_fd()).finish_non_exhaustive()
    }
}
