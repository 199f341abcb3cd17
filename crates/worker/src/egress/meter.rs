//! A stream whose bytes are counted against a budget. The count also shows when there is no more traffic.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::budget::ConnectionBudget;

/// A metered connection to a host.
pub(super) struct Metered {
    io: TcpStream,
    budget: ConnectionBudget,
    passed: Arc<AtomicU64>,
}

impl Metered {
    pub(super) fn new(io: TcpStream, budget: ConnectionBudget) -> Self {
        Self { io, budget, passed: Arc::default() }
    }

    /// The number of bytes transferred so far, both ways together.
    pub(super) fn passed(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.passed)
    }

    /// Returns how much of `wanted` the budget allows, so that a transfer never exceeds it.
    fn affordable(&self, wanted: usize) -> io::Result<usize> {
        match self.budget.left() {
            0 => Err(spent()),
            left => Ok(usize::try_from(left).unwrap_or(usize::MAX).min(wanted)),
        }
    }

    fn charge(&self, bytes: usize) -> io::Result<()> {
        self.passed.fetch_add(bytes as u64, Ordering::Relaxed);
        if self.budget.take(bytes) < bytes { Err(spent()) } else { Ok(()) }
    }
}

impl AsyncRead for Metered {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let most = self.affordable(buf.remaining())?;
        let mut part = ReadBuf::new(buf.initialize_unfilled_to(most));
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut part))?;
        let read = part.filled().len();
        buf.advance(read);
        Poll::Ready(self.charge(read))
    }
}

impl AsyncWrite for Metered {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let most = self.affordable(buf.len())?;
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, buf.get(..most).unwrap_or(buf)))?;
        Poll::Ready(self.charge(written).map(|()| written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

fn spent() -> io::Error {
    io::Error::new(io::ErrorKind::QuotaExceeded, "the byte budget of the egress token is used up")
}
