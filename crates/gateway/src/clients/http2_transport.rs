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
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::fault::ClientFault;
use crate::edge::Downstream;

/// A client's stream with the traits that pingora requires. The data that they can return is for pingora's own logs and pools, which the
/// gateway does not use.
#[derive(Debug)]
struct PingoraStream(Downstream);

/// Exchanges the settings that begin an HTTP/2 connection. Returns `None` if the client breaks the protocol or disconnects.
pub(crate) async fn handshake(stream: Downstream, options: &Builder) -> Option<Connection<Stream, Bytes>> {
    server::handshake(Box::new(PingoraStream(stream)), Some(options.clone())).await.ok()
}

/// Writes data as the client's window allows. The future must be kept until it completes, since it owns what is not written yet.
pub(super) async fn write(stream: &mut SendStream<Bytes>, data: Bytes) -> Result<(), ClientFault> {
    write_body(stream, data, false, None).await.map_err(|_| ClientFault::Gone)
}

impl AsyncRead for PingoraStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for PingoraStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
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
        self.0.as_raw_fd()
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
