//! The adapter to pingora, which carries HTTP/2: a client's stream as pingora expects it, the handshake, and writing.
//!
//! This is the only file that names pingora.

use std::{
    io,
    os::fd::AsRawFd,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use h2::{
    SendStream,
    server::{Builder, Connection},
};
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream, TimingDigest,
    UniqueID,
    http::v2::{server, write_body},
    raw_connect::ProxyDigest,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    sync::oneshot,
};

use super::fault::ClientFault;
use crate::edge::Downstream;

/// A client's stream with the traits that pingora requires. The data that they can return is for pingora's own logs and pools, which the
/// gateway does not use.
///
/// The connection owns it, so it goes back to its lender when the connection drops it.
#[derive(Debug)]
struct PingoraStream {
    /// There until it goes back.
    stream: Option<Downstream>,
    lender: Option<oneshot::Sender<Downstream>>,
}

/// The server's side of an HTTP/2 connection.
pub(crate) type Server = Connection<Stream, Bytes>;

/// An HTTP/2 connection, and its stream once the connection is dropped.
pub(crate) struct Http2Connection {
    pub(crate) connection: Server,
    pub(crate) stream: oneshot::Receiver<Downstream>,
}

/// Exchanges the settings that begin an HTTP/2 connection. Returns `None` if the client breaks the protocol or disconnects.
pub(crate) async fn handshake(stream: Downstream, options: &Builder) -> Option<Http2Connection> {
    let (lender, back) = oneshot::channel();
    let lent = PingoraStream { stream: Some(stream), lender: Some(lender) };
    let connection = server::handshake(Box::new(lent), Some(options.clone())).await.ok()?;
    Some(Http2Connection { connection, stream: back })
}

impl PingoraStream {
    fn lent(self: Pin<&mut Self>) -> io::Result<Pin<&mut Downstream>> {
        self.get_mut().stream.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Drop for PingoraStream {
    fn drop(&mut self) {
        if let (Some(stream), Some(lender)) = (self.stream.take(), self.lender.take()) {
            // A lender that does not want it back closes it.
            let _ = lender.send(stream);
        }
    }
}

/// Writes data as the client's window allows. The future must be kept until it completes, since it owns what is not written yet.
pub(super) async fn write(stream: &mut SendStream<Bytes>, data: Bytes) -> Result<(), ClientFault> {
    write_body(stream, data, false, None).await.map_err(|_| ClientFault::Gone)
}

impl AsyncRead for PingoraStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.lent()?.poll_read(cx, buf)
    }
}

impl AsyncWrite for PingoraStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.lent()?.poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.lent()?.poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.lent()?.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.lent()?.poll_shutdown(cx)
    }
}

#[async_trait]
impl Shutdown for PingoraStream {
    async fn shutdown(&mut self) {
        let _ = AsyncWriteExt::shutdown(self).await;
    }
}

impl UniqueID for PingoraStream {
    fn id(&self) -> i32 {
        self.stream.as_ref().map_or(-1, AsRawFd::as_raw_fd)
    }
}

impl Ssl for PingoraStream {}

impl Peek for PingoraStream {}

impl GetTimingDigest for PingoraStream {
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

impl GetProxyDigest for PingoraStream {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for PingoraStream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        None
    }
}
