//! The one way out of a network namespace: from a port of its loopback to the egress guard's socket, which is a file.

use std::{
    io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::copy_bidirectional_with_sizes,
    net::{TcpListener, UnixStream},
    sync::Semaphore,
    time::sleep,
};

use super::INSIDE_PORT;

/// Of one child at a time, so that none takes the guard's places from the others.
const MAX_CONNECTIONS: usize = 40;
/// For each direction of a connection.
const BUFFER: usize = 64 << 10;
/// After a failure to accept.
const PAUSE: Duration = Duration::from_millis(100);

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
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
            let Ok((mut child, _)) = self.listener.accept().await else {
                sleep(PAUSE).await;
                continue;
            };
            let guard = self.guard.clone();
            tokio::spawn(async move {
                let mut guard = UnixStream::connect(guard).await?;
                let copied = copy_bidirectional_with_sizes(&mut child, &mut guard, BUFFER, BUFFER).await;
                drop(slot);
                copied
            });
        }
    }
}
