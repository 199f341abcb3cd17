//! The sockets to listen on: those that systemd has opened already (sd_listen_fds(3)), which stay open while the program
//! restarts, and otherwise sockets of our own.

use std::{
    fs, io,
    net::{SocketAddr, TcpListener as StdTcpListener},
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net::{UnixListener as StdUnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use listenfd::ListenFd;
use thiserror::Error;
use tokio::net::{TcpListener, UnixListener};

use super::listener::{self, ListenError};

/// Where sockets come from.
#[derive(Debug, Default)]
pub struct Sockets {
    tcp: Vec<(SocketAddr, StdTcpListener)>,
    unix: Vec<(PathBuf, StdUnixListener)>,
}

/// Something was passed on that is no socket for TCP or Unix streams.
#[derive(Debug, Error)]
#[error("descriptor {0} that systemd passed is not a socket to listen on: {1}")]
pub struct NotASocket(usize, io::Error);

impl Sockets {
    /// Those that systemd has opened for this process. It must be called before there are threads, since it takes the variables
    /// that name them out of the environment.
    pub fn from_systemd() -> Result<Self, NotASocket> {
        let mut passed = ListenFd::from_env();
        let mut sockets = Self::default();
        for place in 0..passed.len() {
            sockets.take(&mut passed, place).map_err(|e| NotASocket(place + 3, e))?;
        }
        Ok(sockets)
    }

    fn take(&mut self, passed: &mut ListenFd, place: usize) -> io::Result<()> {
        if let Ok(Some(listener)) = passed.take_unix_listener(place) {
            let path = listener.local_addr()?.as_pathname().map(Path::to_owned).unwrap_or_default();
            self.unix.push((path, listener));
        } else if let Some(listener) = passed.take_tcp_listener(place)? {
            self.tcp.push((listener.local_addr()?, listener));
        }
        Ok(())
    }

    /// The socket that listens on `address`.
    pub fn tcp(&mut self, address: SocketAddr) -> Result<TcpListener, ListenError> {
        let Some(place) = self.tcp.iter().position(|(known, _)| *known == address) else {
            return listener::bind(address);
        };
        let (_, passed) = self.tcp.swap_remove(place);
        let usable = passed.set_nonblocking(true).and_then(|()| TcpListener::from_std(passed));
        usable.map_err(|e| ListenError::new(&address, e))
    }

    /// The socket that listens on `path`.
    pub fn unix(&mut self, path: &Path) -> Result<UnixListener, ListenError> {
        let usable = match self.unix.iter().position(|(known, _)| known == path) {
            Some(place) => {
                let (_, passed) = self.unix.swap_remove(place);
                passed.set_nonblocking(true).and_then(|()| UnixListener::from_std(passed))
            }
            None => bind_unix(path),
        };
        usable.map_err(|e| ListenError::new(&path.display(), e))
    }

    /// Refuses sockets that nobody asked for: they would take clients and never answer.
    pub fn all_taken(self) -> Result<(), ListenError> {
        let tcp = self.tcp.iter().map(|(address, _)| address.to_string());
        let unix = self.unix.iter().map(|(path, _)| format!("unix:{}", path.display()));
        match tcp.chain(unix).next() {
            Some(at) => Err(ListenError::new(&at, io::Error::other(UNASKED))),
            None => Ok(()),
        }
    }
}

const UNASKED: &str = "systemd passed this socket, and the configuration has no such address; make them the same";

/// Listens on a path that owner and group can reach. Replaces the socket of a process that is gone, never one that answers.
pub fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    let stale = fs::symlink_metadata(path).is_ok_and(|about| about.file_type().is_socket())
        && UnixStream::connect(path).is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused);
    if stale {
        fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}
