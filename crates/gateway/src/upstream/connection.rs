//! One connection to an application: sends requests as bytes and parses the responses.

use std::{
    io,
    os::fd::AsFd,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{Method, StatusCode};
use rustix::{
    io::Errno,
    net::{RecvFlags, recv},
};
use sallyport_core::{
    http1::{BodyDecoder, BodyFault, HeadFault, HeadScan, Http1Response, ResponseHead},
    sockets::write_all::poll_write_all,
};
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};
use tokio_util::{either::Either, io::poll_read_buf};

/// The maximum number of bytes that are read at once for a head, with the small body that often follows it.
const HEAD_READ_BYTES: usize = 8 * 1024;
/// The maximum number of interim responses before the final one: an application may report every few seconds that it is still working.
const MAX_INTERIM: u16 = 1_000;

/// A connection to an application.
#[derive(Debug)]
pub(crate) struct Connection {
    io: Io,
    input: BytesMut,
    /// Bytes that arrived with a head and follow it.
    ahead: Bytes,
    scan: HeadScan,
    interim: u16,
}

/// TCP or a Unix socket.
pub(super) type Io = Either<TcpStream, UnixStream>;

/// A response of an application.
#[derive(Debug)]
pub(crate) enum UpstreamResponse {
    /// An interim response, before the final one (RFC 9110, section 15.2).
    Interim(ResponseHead),
    /// The final response, or a switch of protocols.
    Final(Http1Response),
}

/// The faults of an application's response.
#[derive(Debug, Error)]
pub(crate) enum ResponseFault {
    /// It closed the connection without sending anything, as it does with an idle connection.
    #[error("the application closed the connection without a response")]
    Silent,
    /// It closed the connection within a head, or after interim responses only.
    #[error("the application closed the connection before the end of a response's head")]
    TruncatedHead,
    /// It sent too many interim responses.
    #[error("the application sent more than {MAX_INTERIM} interim responses before the final one")]
    TooManyInterim,
    /// The head violates the grammar.
    #[error("the application's response is malformed: {0}")]
    Head(HeadFault),
    /// The head gives two lengths (RFC 9112, section 6.3).
    #[error(
        "the application sent both Content-Length and Transfer-Encoding, so the end of its response is ambiguous; \
         change the application, or the server in front of it, to send only one of them"
    )]
    TwoLengths,
    /// The body violates its framing.
    #[error("the application's response: {0}")]
    Body(#[from] BodyFault),
    /// The socket returned an error.
    #[error("the connection to the application failed: {0}")]
    Io(#[from] io::Error),
}

impl From<HeadFault> for ResponseFault {
    fn from(fault: HeadFault) -> Self {
        if fault == HeadFault::TwoLengths { Self::TwoLengths } else { Self::Head(fault) }
    }
}

impl Connection {
    pub(super) fn new(io: Io) -> Self {
        Self { io, input: BytesMut::new(), ahead: Bytes::new(), scan: HeadScan::default(), interim: 0 }
    }

    /// Writes all of `bytes`, and advances it past the written part.
    pub(crate) fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &mut impl Buf) -> Poll<io::Result<()>> {
        poll_write_all(&mut self.io, cx, bytes)
    }

    /// Returns the next head that the application sends for a request with this method.
    pub(crate) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        method: &Method,
    ) -> Poll<Result<UpstreamResponse, ResponseFault>> {
        loop {
            if let Some(end) = self.scan.end(&self.input)? {
                let response = Http1Response::parse(&self.input.split_to(end).freeze(), method)?;
                self.scan = HeadScan::default();
                let status = response.head.status;
                if !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS {
                    self.ahead = std::mem::take(&mut self.input).freeze();
                    return Poll::Ready(Ok(UpstreamResponse::Final(response)));
                }
                self.interim += 1;
                return Poll::Ready(if self.interim > MAX_INTERIM {
                    Err(ResponseFault::TooManyInterim)
                } else {
                    Ok(UpstreamResponse::Interim(response.head))
                });
            }
            self.input.reserve(HEAD_READ_BYTES);
            match ready!(poll_read_buf(Pin::new(&mut self.io), cx, &mut self.input)) {
                Ok(0) if self.is_silent() => return Poll::Ready(Err(ResponseFault::Silent)),
                Ok(0) => return Poll::Ready(Err(ResponseFault::TruncatedHead)),
                Ok(_) => {}
                // Writing to a connection that was closed in the meantime has this result.
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset && self.is_silent() => {
                    return Poll::Ready(Err(ResponseFault::Silent));
                }
                Err(e) => return Poll::Ready(Err(e.into())),
            }
        }
    }

    /// Returns whether nothing at all has arrived in response to a request.
    fn is_silent(&self) -> bool {
        self.input.is_empty() && self.interim == 0
    }

    /// Returns the next data of the response body, reading at most `most` bytes at once; `None` at its end.
    pub(crate) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        decoder: &mut BodyDecoder,
        most: usize,
    ) -> Poll<Result<Option<Bytes>, ResponseFault>> {
        loop {
            if let Some(data) = decoder.decode(&mut self.ahead)? {
                return Poll::Ready(Ok(Some(data)));
            }
            if decoder.is_done() {
                return Poll::Ready(Ok(None));
            }
            self.input.reserve(most);
            if ready!(poll_read_buf(Pin::new(&mut self.io), cx, &mut (&mut self.input).limit(most)))? == 0 {
                decoder.end()?;
            }
            // The buffer goes along, so that its memory is freed once the client has the data.
            self.ahead = std::mem::take(&mut self.input).freeze();
        }
    }

    /// Returns true while the application has neither closed the connection nor sent anything unsolicited. Asks the kernel directly, since the
    /// runtime may not know yet.
    pub(super) fn is_quiet(&self) -> bool {
        let socket = match &self.io {
            Io::Left(io) => io.as_fd(),
            Io::Right(io) => io.as_fd(),
        };
        let read = recv(socket, &mut [0; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT);
        !self.has_more() && read.is_err_and(|e| e == Errno::AGAIN)
    }

    /// Returns true if unsolicited data has arrived.
    pub(super) fn has_more(&self) -> bool {
        !self.ahead.is_empty()
    }

    /// Prepares for the next request; an idle connection holds no buffer.
    pub(super) fn rest(&mut self) {
        self.input = BytesMut::new();
        self.interim = 0;
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        let n = self.ahead.len().min(buf.remaining());
        buf.put_slice(&self.ahead.split_to(n));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write, thread, time::Duration};

    use super::*;

    #[tokio::test]
    async fn unsolicited_data_is_seen_before_the_runtime_knows_of_it() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let io = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut other, _) = listener.accept().unwrap();
        let connection = Connection::new(Io::Left(io));
        assert!(connection.is_quiet());
        other.write_all(b"HTTP/1.1 408 Request Timeout\r\n\r\n").unwrap();
        // Blocks on purpose: this runtime has no other thread that could poll in the meantime.
        thread::sleep(Duration::from_millis(100));
        assert!(!connection.is_quiet());
    }

    /// Returns what a response of these bytes is parsed as, after which the application closes the connection.
    async fn answered(bytes: &[u8]) -> Result<Http1Response, ResponseFault> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let io = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut other, _) = listener.accept().unwrap();
        other.write_all(bytes).unwrap();
        drop(other);
        let mut connection = Connection::new(Io::Left(io));
        loop {
            if let UpstreamResponse::Final(response) =
                std::future::poll_fn(|cx| connection.poll_head(cx, &Method::GET)).await?
            {
                return Ok(response);
            }
        }
    }

    #[tokio::test]
    async fn each_malformed_response_has_its_own_fault() {
        let early = b"HTTP/1.1 103 Early Hints\r\n\r\n";
        let last = b"HTTP/1.1 204 No Content\r\n\r\n";
        let most = usize::from(MAX_INTERIM);
        assert!(answered(&[&early.repeat(most)[..], last].concat()).await.is_ok());
        let too_many = answered(&[&early.repeat(most + 1)[..], last].concat()).await;
        assert!(matches!(too_many, Err(ResponseFault::TooManyInterim)));
        assert!(matches!(answered(early).await, Err(ResponseFault::TruncatedHead)));
        assert!(matches!(answered(b"HTTP/1.1 200 O").await, Err(ResponseFault::TruncatedHead)));
        assert!(matches!(answered(b"").await, Err(ResponseFault::Silent)));
        let both = answered(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        assert!(matches!(both, Err(ResponseFault::TwoLengths)));
    }
}
