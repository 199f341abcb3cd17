//! The only way out of a network namespace: from a loopback port to the egress guard's Unix socket.

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

/// Open connections of one child, so that none uses up the guard's slots for the others.
const MAX_CONNECTIONS: usize = 40;
/// The buffer for each direction of a connection, in bytes.
const BUFFER: usize = 64 << 10;
/// The pause after a failure to accept.
const PAUSE: Duration = Duration::from_millis(100);

/// A listening relay.
pub(super) struct Relay {
    listener: TcpListener,
    guard: PathBuf,
}

impl Relay {
    /// Starts listening for connections of the child.
    pub(super) async fn listen(guard: &Path) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, INSIDE_PORT)).await?;
        Ok(Self { listener, guard: guard.to_owned() })
    }

    /// Relays connections until the process ends. A connection is closed if the guard does not accept it.
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
