//! Connections that wait for the next request to the same application.

use std::{
    collections::HashMap,
    io,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use thiserror::Error;
use tokio::{
    net::{TcpSocket, UnixStream},
    time::timeout,
};

use super::connection::{Connection, Io};
use crate::{
    config::Upstream,
    hasten::hasten,
    policy::{Permit, Target},
};

/// An application that does not take a connection within this time is down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Shorter than the five seconds after which uvicorn, and many others, close an idle connection.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// At most so many connections to one application wait.
const MAX_IDLE: usize = 256;
/// An application that leaves a connection open for so long after an answer means to take another request on it,
const PROOF: Duration = Duration::from_millis(100);
/// and is far from closing one that has waited no longer than this.
const FRESH: Duration = Duration::from_secs(1);

/// The connections that wait, by application.
#[derive(Debug, Default)]
pub struct Pool {
    idle: Mutex<HashMap<Upstream, Waiting>>,
}

/// Those of one application.
#[derive(Debug, Default)]
struct Waiting {
    /// The one that was used last is the last.
    connections: Vec<Idle>,
    /// Whether the application was seen to leave connections open.
    stays: bool,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    since: Instant,
}

/// Why an application is not reached.
#[derive(Debug, Error)]
pub enum ConnectFault {
    /// The permit is not one for an application.
    #[error("this request is not for an application")]
    NoUpstream,
    /// The socket.
    #[error("the application takes no connection: {0}")]
    Io(#[from] io::Error),
    /// The time.
    #[error("the application takes no connection within {CONNECT_TIMEOUT:?}")]
    Timeout,
}

impl Pool {
    /// A connection that waits, if there is one that still stands.
    pub fn take(&self, permit: &Permit) -> Option<Connection> {
        let upstream = upstream(permit).ok()?;
        loop {
            let Idle { connection, since } = self.lock().get_mut(upstream)?.connections.pop()?;
            if since.elapsed() < IDLE_TIMEOUT && connection.is_quiet() {
                return Some(connection);
            }
        }
    }

    /// The same for a request that must not be sent twice: only one that its application will not close just now.
    pub fn take_fresh(&self, permit: &Permit) -> Option<Connection> {
        let mut all = self.lock();
        let waiting = all.get_mut(upstream(permit).ok()?)?;
        waiting.look();
        let last = waiting.connections.last()?;
        if !waiting.stays || last.since.elapsed() > FRESH || !last.connection.is_quiet() {
            return None;
        }
        waiting.connections.pop().map(|idle| idle.connection)
    }

    /// Takes note that an application has closed a connection of [`Pool::take_fresh`].
    pub fn distrust(&self, permit: &Permit) {
        if let Ok(upstream) = upstream(permit) {
            self.lock().remove(upstream);
        }
    }

    /// A new connection.
    pub async fn connect(&self, permit: &Permit) -> Result<Connection, ConnectFault> {
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

    /// Keeps a connection on which an answer has come to its end.
    pub fn give_back(&self, permit: &Permit, mut connection: Connection) {
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

    /// Closes what has waited too long.
    pub fn sweep(&self) {
        self.lock().retain(|_, waiting| {
            waiting.connections.retain(|idle| idle.since.elapsed() < IDLE_TIMEOUT);
            !waiting.connections.is_empty()
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Upstream, Waiting>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Finds out, by the connection that waits longest, whether the application leaves them open.
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
