//! The worker's listener: it stops accepting when the worker stops, and its connections send files with sendfile.

use std::{future::pending, io};

use axum::{
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use tokio_util::sync::CancellationToken;

use super::sendfile::{SendMode, SendQueue, SendfileStream, Socket};

/// A listener that stops accepting once `stop` is cancelled. Later connections wait for the next worker.
pub(crate) struct UntilStopped<L> {
    listener: L,
    stop: CancellationToken,
    mode: SendMode,
}

impl<L> UntilStopped<L> {
    /// Creates a listener whose connections send files in this mode.
    pub(crate) fn new(listener: L, stop: CancellationToken, mode: SendMode) -> Self {
        Self { listener, stop, mode }
    }
}

impl<L: Listener<Io: Socket>> Listener for UntilStopped<L> {
    type Io = SendfileStream<L::Io>;
    type Addr = L::Addr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.stop.run_until_cancelled(self.listener.accept()).await {
            Some((socket, from)) => (SendfileStream::new(socket, self.mode), from),
            None => pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

impl<L> Connected<IncomingStream<'_, UntilStopped<L>>> for SendQueue
where
    L: Listener<Io: Socket>,
{
    fn connect_info(stream: IncomingStream<'_, UntilStopped<L>>) -> Self {
        stream.io().send_queue()
    }
}
