//! One connection to an application: sends requests as bytes and parses the answers.

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
/// The maximum number of informational answers before the answer itself: an application may report every few seconds that it is still working.
const MAX_INFORMATIONAL: u16 = 1_000;

/// A connection to an application.
#[derive(Debug)]
pub(crate) struct Connection {
    io: Io,
    input: BytesMut,
    /// Bytes that arrived with a head and follow it.
    ahead: Bytes,
    scan: HeadScan,
    informational: u16,
}

/// TCP or a Unix socket.
pub(super) type Io = Either<TcpStream, UnixStream>;

/// A response of an application.
#[derive(Debug)]
pub(crate) enum UpstreamResponse {
    /// An interim response before its answer (RFC 9110, section 15.2).
    Interim(ResponseHead),
    /// The answer, or a switch of protocols.
    Answer(Http1Response),
}

/// The faults of an application's answer.
#[derive(Debug, Error)]
pub(crate) enum AnswerFault {
    /// It closed the connection without sending anything, as it does with an idle connection.
    #[error("the application closed the connection without an answer")]
    Silent,
    /// It closed the connection within a head, or after informational answers only.
    #[error("the application closed the connection before the end of an answer's head")]
    TruncatedHead,
    /// It sent too many informational answers.
    #[error("the application sent more than {MAX_INFORMATIONAL} informational answers before the answer itself")]
    TooManyInformational,
    /// The head violates the grammar.
    #[error("the application's answer is malformed: {0}")]
    Head(HeadFault),
    /// The head gives two lengths (RFC 9112, section 6.3).
    #[error(
        "the application sent both Content-Length and Transfer-Encoding, so the end of its answer is ambiguous; \
         change the application, or the server in front of it, to send only one of them"
    )]
    TwoLengths,
    /// The body violates its framing.
    #[error("the application's answer: {0}")]
    Body(#[from] BodyFault),
    /// The socket returned an error.
    #[error("the connection to the application failed: {0}")]
    Io(#[from] io::Error),
}

impl From<HeadFault> for AnswerFault {
    fn from(fault: HeadFault) -> Self {
        if fault == HeadFault::TwoLengths { Self::TwoLengths } else { Self::Head(fault) }
    }
}

impl Connection {
    pub(super) fn new(io: Io) -> Self {
        Self { io, input: BytesMut::new(), ahead: Bytes::new(), scan: HeadScan::default(), informational: 0 }
    }

    /// Writes all of `bytes`, and advances it past the written part.
    pub(crate) fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &mut impl Buf) -> Poll<io::Result<()>> {
        poll_write_all(&mut self.io, cx, bytes)
    }

    /// Returns the application's next response to a request with this method, up to the head of its answer.
    pub(crate) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        method: &Method,
    ) -> Poll<Result<UpstreamResponse, AnswerFault>> {
        loop {
            if let Some(end) = self.scan.end(&self.input)? {
                let answer = Http1Response::parse(&self.input.split_to(end).freeze(), method)?;
                self.scan = HeadScan::default();
                let status = answer.head.status;
                if !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS {
                    self.ahead = std::mem::take(&mut self.input).freeze();
                    return Poll::Ready(Ok(UpstreamResponse::Answer(answer)));
                }
                self.informational += 1;
                return Poll::Ready(if self.informational > MAX_INFORMATIONAL {
                    Err(AnswerFault::TooManyInformational)
                } else {
                    Ok(UpstreamResponse::Interim(answer.head))
                });
            }
            self.input.reserve(HEAD_READ_BYTES);
            match ready!(poll_read_buf(Pin::new(&mut self.io), cx, &mut self.input)) {
                Ok(0) if self.is_silent() => return Poll::Ready(Err(AnswerFault::Silent)),
                Ok(0) => return Poll::Ready(Err(AnswerFault::TruncatedHead)),
                Ok(_) => {}
                // Writing to a connection that was closed in the meantime has this result.
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset && self.is_silent() => {
                    return Poll::Ready(Err(AnswerFault::Silent));
                }
                Err(e) => return Poll::Ready(Err(e.into())),
            }
        }
    }

    /// Returns whether nothing at all has arrived in answer to a request.
    fn is_silent(&self) -> bool {
        self.input.is_empty() && self.informational == 0
    }

    /// Returns the next data of the answer's body, reading at most `most` bytes at once; `None` at its end.
    pub(crate) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        decoder: &mut BodyDecoder,
        most: usize,
    ) -> Poll<Result<Option<Bytes>, AnswerFault>> {
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
        self.informational = 0;
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

    /// Returns the result of an answer of these bytes, after which the application closes the connection.
    async fn answered(bytes: &[u8]) -> Result<Http1Response, AnswerFault> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let io = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut other, _) = listener.accept().unwrap();
        other.write_all(bytes).unwrap();
        drop(other);
        let mut connection = Connection::new(Io::Left(io));
        loop {
            if let UpstreamResponse::Answer(answer) =
                std::future::poll_fn(|cx| connection.poll_head(cx, &Method::GET)).await?
            {
                return Ok(answer);
            }
        }
    }

    #[tokio::test]
    async fn each_way_to_fail_an_answer_has_its_own_fault() {
        let early = b"HTTP/1.1 103 Early Hints\r\n\r\n";
        let last = b"HTTP/1.1 204 No Content\r\n\r\n";
        let most = usize::from(MAX_INFORMATIONAL);
        assert!(answered(&[&early.repeat(most)[..], last].concat()).await.is_ok());
        let too_many = answered(&[&early.repeat(most + 1)[..], last].concat()).await;
        assert!(matches!(too_many, Err(AnswerFault::TooManyInformational)));
        assert!(matches!(answered(early).await, Err(AnswerFault::TruncatedHead)));
        assert!(matches!(answered(b"HTTP/1.1 200 O").await, Err(AnswerFault::TruncatedHead)));
        assert!(matches!(answered(b"").await, Err(AnswerFault::Silent)));
        let both = answered(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        assert!(matches!(both, Err(AnswerFault::TwoLengths)));
    }
}
