//! Idle connections, kept for the next request to the same application.

use std::{
    collections::HashMap,
    io,
    time::{Duration, Instant},
};

use parking_lot::{Mutex, MutexGuard};
use sallyport_core::{config::Upstream, sockets::tcp_tuning::hasten};
use thiserror::Error;
use tokio::{
    net::{TcpSocket, UnixStream},
    time::timeout,
};

use super::connection::{Connection, Io};
use crate::policy::{Permit, Target};

/// How long an application may take to accept a connection before it counts as down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Shorter than the five seconds after which uvicorn, and many others, close an idle connection.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// The maximum number of idle connections to one application.
const MAX_IDLE: usize = 256;
/// An application that keeps a connection open this long after a response intends to accept another request on it.
const PROOF: Duration = Duration::from_millis(100);
/// Such an application is far from closing a connection that has been idle for no longer than this.
const FRESH: Duration = Duration::from_secs(1);

/// The idle connections, by application.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    idle: Mutex<HashMap<Upstream, Waiting>>,
}

/// The idle connections of one application.
#[derive(Debug, Default)]
struct Waiting {
    /// The most recently used one is last.
    connections: Vec<Idle>,
    /// Whether the application was seen to keep connections open.
    stays: bool,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    since: Instant,
}

/// The reasons why an application cannot be reached.
#[derive(Debug, Error)]
pub(crate) enum ConnectFault {
    /// The permit is not for an application.
    #[error("this request is not for an application")]
    NoUpstream,
    /// The connection failed.
    #[error("cannot connect to the application: {0}")]
    Io(#[from] io::Error),
    /// The connection was not accepted in time.
    #[error("the application did not accept a connection within {CONNECT_TIMEOUT:?}")]
    Timeout,
}

impl Pool {
    /// Takes an idle connection that is still open, if there is one.
    pub(crate) fn take(&self, permit: &Permit) -> Option<Connection> {
        let upstream = upstream(permit).ok()?;
        loop {
            let Idle { connection, since } = self.lock().get_mut(upstream)?.connections.pop()?;
            if since.elapsed() < IDLE_TIMEOUT && connection.is_quiet() {
                return Some(connection);
            }
        }
    }

    /// Takes an idle connection for a request that must not be sent twice: only one that its application is not about to close.
    pub(crate) fn take_fresh(&self, permit: &Permit) -> Option<Connection> {
        let mut all = self.lock();
        let waiting = all.get_mut(upstream(permit).ok()?)?;
        waiting.look();
        let last = waiting.connections.last()?;
        if !waiting.stays || last.since.elapsed() > FRESH || !last.connection.is_quiet() {
            return None;
        }
        waiting.connections.pop().map(|idle| idle.connection)
    }

    /// Records that an application has closed a connection of [`Pool::take_fresh`].
    pub(crate) fn distrust(&self, permit: &Permit) {
        if let Ok(upstream) = upstream(permit) {
            self.lock().remove(upstream);
        }
    }

    /// Opens a new connection.
    pub(crate) async fn connect(&self, permit: &Permit) -> Result<Connection, ConnectFault> {
        let connecting = async {
            Ok(match upstream(permit)? {
                Upstream::Tcp(address) => {
                    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
                    hasten(&socket, address.ip());
                    Io::Left(socket.connect(*address).await?)
                }
                Upstream::Unix(path) => Io::Right(UnixStream::connect(path).await?),
            })
        };
        let connected = timeout(CONNECT_TIMEOUT, connecting).await.map_err(|_| ConnectFault::Timeout)?;
        connected.map(Connection::new)
    }

    /// Keeps a connection whose response is complete.
    pub(crate) fn give_back(&self, permit: &Permit, mut connection: Connection) {
        let Ok(upstream) = upstream(permit) else { return };
        if connection.has_more() {
            return;
        }
        connection.rest();
        let idle = Idle { connection, since: Instant::now() };
        let mut all = self.lock();
        match all.get_mut(upstream) {
            Some(waiting) if waiting.connections.len() >= MAX_IDLE => {}
            Some(waiting) => waiting.connections.push(idle),
            None => {
                all.insert(upstream.clone(), Waiting { connections: vec![idle], stays: false });
            }
        }
    }

    /// Closes connections that have been idle too long.
    pub(crate) fn sweep(&self) {
        self.lock().retain(|_, waiting| {
            waiting.connections.retain(|idle| idle.since.elapsed() < IDLE_TIMEOUT);
            !waiting.connections.is_empty()
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Upstream, Waiting>> {
        self.idle.lock()
    }
}

impl Waiting {
    /// Checks, by the connection that has been idle longest, whether the application keeps connections open.
    fn look(&mut self) {
        let longest = self.connections.first().filter(|idle| idle.since.elapsed() >= PROOF);
        let Some(longest) = longest.filter(|_| !self.stays) else { return };
        self.stays = longest.connection.is_quiet();
        if !self.stays {
            self.connections.retain(|idle| idle.connection.is_quiet());
        }
    }
}

fn upstream(permit: &Permit) -> Result<&Upstream, ConnectFault> {
    match permit.target() {
        Target::Upstream(upstream) => Ok(upstream),
        Target::CreateLink | Target::Welcome => Err(ConnectFault::NoUpstream),
    }
}
