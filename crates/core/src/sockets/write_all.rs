//! Writes a whole buffer, in as many attempts as needed.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Buf;
use tokio::io::AsyncWrite;
use tokio_util::io::poll_write_buf;

/// Writes all of `bytes`, advancing past what was written: the next call continues where this one stopped.
pub fn poll_write_all(
    io: &mut (impl AsyncWrite + Unpin),
    cx: &mut Context<'_>,
    bytes: &mut impl Buf,
) -> Poll<io::Result<()>> {
    while bytes.has_remaining() {
        if ready!(poll_write_buf(Pin::new(&mut *io), cx, bytes))? == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
    }
    Poll::Ready(Ok(()))
}
