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

/// The connections that wait, by application; the one that was used last comes first.
#[derive(Debug, Default)]
pub struct Pool {
    idle: Mutex<HashMap<Upstream, Vec<Idle>>>,
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
            let Idle { connection, since } = self.lock().get_mut(upstream)?.pop()?;
            if since.elapsed() < IDLE_TIMEOUT && connection.is_quiet() {
                return Some(connection);
            }
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
            Some(waiting) if waiting.len() >= MAX_IDLE => {}
            Some(waiting) => waiting.push(idle),
            None => {
                all.insert(upstream.clone(), vec![idle]);
            }
        }
    }

    /// Closes what has waited too long.
    pub fn sweep(&self) {
        self.lock().retain(|_, waiting| {
            waiting.retain(|idle| idle.since.elapsed() < IDLE_TIMEOUT);
            !waiting.is_empty()
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Upstream, Vec<Idle>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn upstream(permit: &Permit) -> Result<&Upstream, ConnectFault> {
    match permit.target() {
        Target::Upstream(upstream) => Ok(upstream),
        Target::CreateLink | Target::Welcome => Err(ConnectFault::NoUpstream),
    }
}
