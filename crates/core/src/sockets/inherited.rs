//! The sockets to listen on: those that systemd has opened already (sd_listen_fds(3)) or that a running gateway hands over, which stay open
//! while the program restarts, and otherwise new ones.

use std::{
    fs, io,
    net::{SocketAddr, TcpListener as StdTcpListener},
    os::fd::{AsFd, OwnedFd},
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net::{UnixListener as StdUnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use listenfd::ListenFd;
use rustix::net::{AddressFamily, sockopt::socket_acceptconn};
use thiserror::Error;
use tokio::net::{TcpListener, UnixListener};

use super::listener::{self, ListenError};

/// The source of listening sockets.
#[derive(Debug, Default)]
pub struct Sockets {
    tcp: Vec<InheritedSocket<SocketAddr, StdTcpListener>>,
    unix: Vec<InheritedSocket<PathBuf, StdUnixListener>>,
    /// A second handle for each socket that was requested.
    in_use: Vec<OwnedFd>,
}

/// A socket that was open before this process began.
#[derive(Debug)]
struct InheritedSocket<A, L> {
    at: A,
    listener: L,
    by: PassedBy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PassedBy {
    /// All of its sockets must be used.
    Systemd,
    /// It may have had other sockets than the ones needed now.
    Predecessor,
}

/// A descriptor was passed on that is not a listening TCP or Unix stream socket.
#[derive(Debug, Error)]
#[error("descriptor {0} that systemd passed is not a socket to listen on: {1}")]
pub struct NotASocket(usize, io::Error);

impl Sockets {
    /// Takes the sockets that systemd has opened for this process. It must be called before there are threads, since it removes the variables
    /// that name them from the environment.
    pub fn from_systemd() -> Result<Self, NotASocket> {
        let mut inherited = ListenFd::from_env();
        let mut sockets = Self::default();
        for place in 0..inherited.len() {
            sockets.take(&mut inherited, place).map_err(|e| NotASocket(place + 3, e))?;
        }
        Ok(sockets)
    }

    /// Takes the socket that the parent process passed as standard input, as inetd does, if there is one.
    pub fn from_standard_input() -> io::Result<Self> {
        let mut sockets = Self::default();
        let input = io::stdin();
        if socket_acceptconn(&input).unwrap_or(false) {
            sockets.inherit(vec![input.as_fd().try_clone_to_owned()?])?;
        }
        Ok(sockets)
    }

    /// Adds the sockets of a running gateway.
    pub fn inherit(&mut self, sockets: Vec<OwnedFd>) -> io::Result<()> {
        let by = PassedBy::Predecessor;
        for socket in sockets {
            if rustix::net::getsockname(&socket)?.address_family() == AddressFamily::UNIX {
                let listener = StdUnixListener::from(socket);
                self.unix.push(InheritedSocket { at: path_of(&listener)?, listener, by });
            } else {
                let listener = StdTcpListener::from(socket);
                self.tcp.push(InheritedSocket { at: listener.local_addr()?, listener, by });
            }
        }
        Ok(())
    }

    /// Takes the second handles of the requested sockets, to be handed over later.
    pub fn in_use(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.in_use)
    }

    fn take(&mut self, inherited: &mut ListenFd, place: usize) -> io::Result<()> {
        let by = PassedBy::Systemd;
        if let Ok(Some(listener)) = inherited.take_unix_listener(place) {
            self.unix.push(InheritedSocket { at: path_of(&listener)?, listener, by });
        } else if let Some(listener) = inherited.take_tcp_listener(place)? {
            self.tcp.push(InheritedSocket { at: listener.local_addr()?, listener, by });
        }
        Ok(())
    }

    /// Returns the socket that listens on `address`.
    pub fn tcp(&mut self, address: SocketAddr) -> Result<TcpListener, ListenError> {
        let usable = listener::usable(address);
        let listener = match self.tcp.iter().position(|inherited| inherited.at == address || inherited.at == usable) {
            None => listener::bind(address)?,
            Some(place) => {
                let inherited = self.tcp.swap_remove(place).listener;
                let usable = inherited.set_nonblocking(true).and_then(|()| TcpListener::from_std(inherited));
                usable.map_err(|e| ListenError::new(&address, e))?
            }
        };
        self.keep(&listener).map_err(|e| ListenError::new(&address, e))?;
        Ok(listener)
    }

    /// Returns the socket that listens on `path`.
    pub fn unix(&mut self, path: &Path) -> Result<UnixListener, ListenError> {
        let usable = match self.unix.iter().position(|inherited| inherited.at == path) {
            Some(place) => {
                let inherited = self.unix.swap_remove(place).listener;
                inherited.set_nonblocking(true).and_then(|()| UnixListener::from_std(inherited))
            }
            None => bind_unix(path),
        };
        let listener = usable.map_err(|e| ListenError::new(&path.display(), e))?;
        self.keep(&listener).map_err(|e| ListenError::new(&path.display(), e))?;
        Ok(listener)
    }

    fn keep(&mut self, listener: &impl AsFd) -> io::Result<()> {
        self.in_use.push(listener.as_fd().try_clone_to_owned()?);
        Ok(())
    }

    /// Fails if a socket from systemd is unused: it would accept clients and never answer.
    pub fn all_taken(self) -> Result<(), ListenError> {
        let tcp = self
            .tcp
            .iter()
            .filter(|inherited| inherited.by == PassedBy::Systemd)
            .map(|inherited| inherited.at.to_string());
        let unix = self.unix.iter().filter(|inherited| inherited.by == PassedBy::Systemd);
        let unix = unix.map(|inherited| format!("unix:{}", inherited.at.display()));
        match tcp.chain(unix).next() {
            Some(at) => Err(ListenError::new(&at, io::Error::other(UNASKED))),
            None => Ok(()),
        }
    }
}

fn path_of(listener: &StdUnixListener) -> io::Result<PathBuf> {
    Ok(listener.local_addr()?.as_pathname().map(Path::to_owned).unwrap_or_default())
}

const UNASKED: &str =
    "systemd passed this socket, but the configuration does not have this address; make the two agree";

/// Listens on a path that owner and group can reach. Replaces the socket of a process that has exited, never one that answers.
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
