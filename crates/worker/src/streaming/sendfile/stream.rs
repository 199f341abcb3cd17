//! A connection that sends ranges of files in place of their placeholders, and ends if hyper does not write as it must.

use std::{
    io::{self, IoSlice},
    os::fd::AsFd,
    pin::Pin,
    task::{Context, Poll, ready},
};

use rustix::fs::sendfile;
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::{TcpStream, UnixStream},
};

use super::{FileRange, SendMode, SendQueue, is_placeholder};

/// A socket that can be polled for writability before a write.
pub(crate) trait Socket: AsyncRead + AsyncWrite + AsFd + Unpin + Send + 'static {
    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    fn try_write(&self, write: impl FnOnce() -> io::Result<usize>) -> io::Result<usize>;
}

/// A connection that sends ranges of files in place of their placeholders.
pub(crate) struct SendfileStream<S> {
    pub(super) socket: S,
    queue: SendQueue,
}

/// A difference between what hyper writes and the ranges that wait to be sent.
#[derive(Debug, Error)]
enum Mismatch {
    #[error("hyper writes placeholders of {written:?} bytes in place of file ranges of {queued:?} bytes")]
    Write { written: Vec<usize>, queued: Vec<usize> },
    #[error("hyper has written everything, but file ranges of {queued:?} bytes were not sent")]
    Flush { queued: Vec<usize> },
}

impl From<Mismatch> for io::Error {
    fn from(mismatch: Mismatch) -> Self {
        tracing::error!(%mismatch, "closing a connection, because otherwise it would send wrong bytes; please report this");
        Self::new(io::ErrorKind::InvalidData, mismatch)
    }
}

impl<S: Socket> SendfileStream<S> {
    pub(crate) fn new(socket: S, mode: SendMode) -> Self {
        Self { socket, queue: SendQueue::new(mode) }
    }

    /// Returns the queue of this connection.
    pub(crate) fn send_queue(&self) -> SendQueue {
        self.queue.clone()
    }

    /// Compares the placeholders of a write with the queue. Both must be complete: if hyper had copied a placeholder, it would be among
    /// the other bytes of this write.
    fn judge_write(&self, pieces: &[IoSlice<'_>]) -> Result<(), Mismatch> {
        let written = || pieces.iter().filter(|piece| is_placeholder(piece)).map(|piece| piece.len());
        let ranges = self.queue.ranges();
        if written().eq(ranges.iter().map(|range| range.left)) {
            return Ok(());
        }
        Err(Mismatch::Write { written: written().collect(), queued: ranges.iter().map(|range| range.left).collect() })
    }

    /// Fails if a range is left although hyper has nothing more to write.
    fn judge_flush(&self) -> Result<(), Mismatch> {
        let queued: Vec<_> = self.queue.ranges().iter().map(|range| range.left).collect();
        if queued.is_empty() { Ok(()) } else { Err(Mismatch::Flush { queued }) }
    }

    /// Sends as much as possible of the next range.
    fn poll_range(&self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut ranges = self.queue.ranges();
        let range = ranges.front_mut().ok_or(io::ErrorKind::InvalidData)?;
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
        this.judge_write(pieces)?;
        let own = pieces.iter().position(|piece| is_placeholder(piece)).unwrap_or(pieces.len());
        match pieces.split_at(own) {
            ([], [_, ..]) => this.poll_range(cx),
            (own, _) => Pin::new(&mut this.socket).poll_write_vectored(cx, own),
        }
    }

    /// Without this, hyper would join the pieces in memory, placeholders included.
    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.judge_flush()?;
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.judge_flush()?;
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
    use std::{fs::File, future::poll_fn, io::Write, sync::Arc};

    use axum::body::Bytes;
    use tokio::io::AsyncReadExt;

    use super::*;

    fn file(content: &[u8]) -> Arc<File> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        Arc::new(file)
    }

    fn connected() -> (SendfileStream<UnixStream>, UnixStream) {
        let (socket, other) = UnixStream::pair().unwrap();
        (SendfileStream::new(socket, SendMode::Sendfile), other)
    }

    async fn write(stream: &mut SendfileStream<UnixStream>, pieces: &[&[u8]]) -> io::Result<usize> {
        let pieces: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        poll_fn(|cx| Pin::new(&mut *stream).poll_write_vectored(cx, &pieces)).await
    }

    async fn flush(stream: &mut SendfileStream<UnixStream>) -> io::Result<()> {
        poll_fn(|cx| Pin::new(&mut *stream).poll_flush(cx)).await
    }

    async fn sent(stream: SendfileStream<UnixStream>, mut other: UnixStream) -> String {
        drop(stream);
        let mut came = String::new();
        other.read_to_string(&mut came).await.unwrap();
        came
    }

    #[tokio::test]
    async fn ranges_are_sent_in_order_between_other_bytes() {
        let ((mut stream, other), source) = (connected(), file(b"0123456789"));
        let first = stream.queue.enqueue(Arc::clone(&source), 2, 3);
        let second = stream.queue.enqueue(source, 7, 2);
        let mut pieces: Vec<Bytes> = vec![Bytes::from_static(b"<"), first, Bytes::from_static(b"|"), second];
        while !pieces.is_empty() {
            let slices: Vec<&[u8]> = pieces.iter().map(|piece| &piece[..]).collect();
            let written = write(&mut stream, &slices).await.unwrap();
            assert_eq!(written, pieces.remove(0).len());
        }
        flush(&mut stream).await.unwrap();
        assert_eq!(sent(stream, other).await, "<234|78");
    }

    #[tokio::test]
    async fn a_placeholder_without_its_range_is_never_sent() {
        let ((mut stream, other), source) = (connected(), file(b"0123456789"));
        let placeholder = stream.queue.enqueue(source, 0, 4);
        for wrong in [&placeholder[1..], &placeholder[..3]] {
            assert_eq!(write(&mut stream, &[wrong]).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
        assert_eq!(write(&mut stream, &[&placeholder[..]]).await.unwrap(), 4);
        assert_eq!(write(&mut stream, &[&placeholder[..]]).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(sent(stream, other).await, "0123");
    }

    #[tokio::test]
    async fn nothing_is_sent_if_placeholders_are_copied_lost_or_in_another_order() {
        let ((mut stream, other), source) = (connected(), file(b"0123456789"));
        let first = stream.queue.enqueue(Arc::clone(&source), 0, 4);
        let second = stream.queue.enqueue(source, 4, 3);
        let copied = first.to_vec();
        let wrong: [&[&[u8]]; 5] = [
            &[b"head", &copied, &second],
            &[b"head", &second],
            &[b"head", &first],
            &[b"head", &second, &first],
            &[b"head", &first, &second, &second],
        ];
        for pieces in wrong {
            assert_eq!(write(&mut stream, pieces).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
        assert_eq!(sent(stream, other).await, "");
    }

    #[tokio::test]
    async fn a_range_that_is_left_at_a_flush_or_at_the_end_is_an_error() {
        let ((mut stream, _other), source) = (connected(), file(b"0123456789"));
        flush(&mut stream).await.unwrap();
        let placeholder = stream.queue.enqueue(source, 0, 4);
        assert_eq!(flush(&mut stream).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
        let ended = poll_fn(|cx| Pin::new(&mut stream).poll_shutdown(cx)).await;
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(write(&mut stream, &[&placeholder[..]]).await.unwrap(), 4);
        flush(&mut stream).await.unwrap();
    }

    #[tokio::test]
    async fn a_truncated_file_ends_the_connection() {
        let (mut stream, _other) = connected();
        let placeholder = stream.queue.enqueue(file(b"01"), 2, 4);
        assert_eq!(write(&mut stream, &[&placeholder[..]]).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
