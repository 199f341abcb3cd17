//! The one way out of a network namespace: from a port of its loopback to the egress guard's socket, which is a file.

use std::{
    io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, UnixStream},
};

use super::INSIDE_PORT;

/// A relay that listens.
pub(super) struct Relay {
    listener: TcpListener,
    guard: PathBuf,
}

impl Relay {
    /// Listens for the children.
    pub(super) async fn listen(guard: &Path) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, INSIDE_PORT)).await?;
        Ok(Self { listener, guard: guard.to_owned() })
    }

    /// Until the process ends. A connection that the guard does not take is closed.
    pub(super) async fn serve(self) {
        loop {
            let Ok((mut child, _)) = self.listener.accept().await else { continue };
            let guard = self.guard.clone();
            tokio::spawn(async move {
                let mut guard = UnixStream::connect(guard).await?;
                copy_bidirectional(&mut child, &mut guard).await
            });
        }
    }
}
