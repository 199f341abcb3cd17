//! A connection that sends ranges of files with sendfile(2): the kernel passes their pages on, and they never enter this process.
//!
//! hyper can only send bytes in memory. It is therefore given placeholder bytes, which nothing ever reads, while the real range waits
//! in the connection's send queue, in the same order. When hyper writes a placeholder, the connection sends the range instead.
//!
//! This works for HTTP/1, where hyper passes on the buffers it is given. HTTP/2 framing would copy small pieces, placeholders included,
//! so axum is built without it. Tests compare every byte that arrives.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, IoSlice},
    os::fd::AsFd,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use axum::body::Bytes;
use rustix::fs::sendfile;
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::{TcpStream, UnixStream},
};

/// The longest range, in bytes.
pub(crate) const MAX_RANGE: usize = 256 << 10;

/// The placeholder for bytes of files; it is never sent itself.
static STAND_IN: [u8; MAX_RANGE] = [0; MAX_RANGE];

/// A socket that can be polled for writability before a write.
pub(crate) trait Socket: AsyncRead + AsyncWrite + AsFd + Unpin + Send + 'static {
    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    fn try_write(&self, write: impl FnOnce() -> io::Result<usize>) -> io::Result<usize>;
}

/// A connection that sends ranges of files in place of their placeholders.
pub(crate) struct SendfileStream<S> {
    socket: S,
    queue: SendQueue,
}

/// The queue of file ranges still to be sent on a connection.
#[derive(Clone, Default)]
pub(crate) struct SendQueue(Arc<Mutex<VecDeque<FileRange>>>);

struct FileRange {
    file: Arc<File>,
    at: u64,
    left: usize,
}

impl SendQueue {
    /// Queues a range of at most `bytes` bytes, and at most [`MAX_RANGE`]. Returns a placeholder of the same length for hyper to send.
    pub(crate) fn lay(&self, file: Arc<File>, at: u64, bytes: u64) -> Bytes {
        let left = usize::try_from(bytes).map_or(MAX_RANGE, |bytes| bytes.min(MAX_RANGE));
        self.ranges().push_back(FileRange { file, at, left });
        Bytes::from_static(STAND_IN.get(..left).unwrap_or_default())
    }

    /// Ignores poisoning: the queue is consistent even after a panic.
    fn ranges(&self) -> MutexGuard<'_, VecDeque<FileRange>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Socket> SendfileStream<S> {
    pub(crate) fn new(socket: S) -> Self {
        Self { socket, queue: SendQueue::default() }
    }

    /// Returns the queue of this connection.
    pub(crate) fn send_queue(&self) -> SendQueue {
        self.queue.clone()
    }

    /// Sends as much as possible of the next range. Fails unless exactly `left` bytes of it remain, because hyper's count and ours must
    /// agree.
    fn poll_range(&self, cx: &mut Context<'_>, left: usize) -> Poll<io::Result<usize>> {
        let mut ranges = self.queue.ranges();
        let range = ranges.front_mut().filter(|s| s.left == left).ok_or(io::ErrorKind::InvalidData)?;
        loop {
            ready!(self.socket.poll_writable(cx))?;
            let FileRange { file, at, left } = range;
            match self.socket.try_write(|| Ok(sendfile(&self.socket, file, Some(at), *left)?)) {
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                // The file was truncated.
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Ok(sent) => {
                    range.left = range.left.saturating_sub(sent);
                    if range.left == 0 {
                        ranges.pop_front();
                    }
                    return Poll::Ready(Ok(sent));
                }
                Err(error) => {
                    // Either the client is gone, or the file system does not support sendfile; only this line reveals the latter.
                    tracing::debug!(%error, "sendfile failed");
                    return Poll::Ready(Err(error));
                }
            }
        }
    }
}

fn stands_in(bytes: &[u8]) -> bool {
    STAND_IN.as_ptr_range().contains(&bytes.as_ptr())
}

impl<S: Socket> AsyncWrite for SendfileStream<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let own = pieces.iter().position(|piece| stands_in(piece)).unwrap_or(pieces.len());
        match pieces.split_at(own) {
            ([], [piece, ..]) => this.poll_range(cx, piece.len()),
            (own, _) => Pin::new(&mut this.socket).poll_write_vectored(cx, own),
        }
    }

    /// Without this, hyper would join the pieces in memory, placeholders included.
    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}

impl<S: Socket> AsyncRead for SendfileStream<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_read(cx, buf)
    }
}

impl Socket for TcpStream {
    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_write_ready(cx)
    }

    fn try_write(&self, write: impl FnOnce() -> io::Result<usize>) -> io::Result<usize> {
        self.try_io(Interest::WRITABLE, write)
    }
}

impl Socket for UnixStream {
    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_write_ready(cx)
    }

    fn try_write(&self, write: impl FnOnce() -> io::Result<usize>) -> io::Result<usize> {
        self.try_io(Interest::WRITABLE, write)
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, io::Write};

    use tokio::io::AsyncReadExt;

    use super::*;

    fn file(content: &[u8]) -> Arc<File> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        Arc::new(file)
    }

    async fn write(stream: &mut SendfileStream<UnixStream>, pieces: &[&[u8]]) -> io::Result<usize> {
        let pieces: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        poll_fn(|cx| Pin::new(&mut *stream).poll_write_vectored(cx, &pieces)).await
    }

    #[tokio::test]
    async fn stretches_are_sent_in_order_between_other_bytes() {
        let (socket, mut other) = UnixStream::pair().unwrap();
        let (mut stream, film) = (SendfileStream::new(socket), file(b"0123456789"));
        let (first, second) = (stream.queue.lay(Arc::clone(&film), 2, 3), stream.queue.lay(film, 7, 2));
        let mut pieces: Vec<Bytes> = vec![Bytes::from_static(b"<"), first, Bytes::from_static(b"|"), second];
        while !pieces.is_empty() {
            let slices: Vec<&[u8]> = pieces.iter().map(|piece| &piece[..]).collect();
            let written = write(&mut stream, &slices).await.unwrap();
            assert_eq!(written, pieces.remove(0).len());
        }
        drop(stream);
        let mut came = String::new();
        other.read_to_string(&mut came).await.unwrap();
        assert_eq!(came, "<234|78");
    }

    #[tokio::test]
    async fn a_placeholder_without_its_stretch_is_never_sent() {
        let (socket, mut other) = UnixStream::pair().unwrap();
        let (mut stream, film) = (SendfileStream::new(socket), file(b"0123456789"));
        let laid = stream.queue.lay(film, 0, 4);
        for wrong in [&laid[1..], &laid[..3]] {
            assert_eq!(write(&mut stream, &[wrong]).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
        assert_eq!(write(&mut stream, &[&laid[..]]).await.unwrap(), 4);
        assert_eq!(write(&mut stream, &[&laid[..]]).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
        drop(stream);
        let mut came = String::new();
        other.read_to_string(&mut came).await.unwrap();
        assert_eq!(came, "0123");
    }

    #[tokio::test]
    async fn a_truncated_file_ends_the_connection() {
        let (socket, _other) = UnixStream::pair().unwrap();
        let mut stream = SendfileStream::new(socket);
        let laid = stream.queue.lay(file(b"01"), 2, 4);
        assert_eq!(write(&mut stream, &[&laid[..]]).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
