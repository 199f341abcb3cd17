//! Ports and sockets: whether they can be opened, or are open already because this very instance runs.

use std::{
    env, fs,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with, sockopt::set_socket_reuseaddr};
use sallyport_core::{
    config::{Key, Upstream},
    files::os_error,
    sockets::listener,
    supervision::Supervisor,
};
use sallyport_gateway::{lifecycle::control, policy::Site};

use super::{Depth, Inspection, key};

const POLL_INTERVAL: Duration = Duration::from_millis(100);
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// The maximum length of a socket path (unix(7)).
const LONGEST_SOCKET: usize = 107;
/// Where an administrator's own version of our socket unit is installed.
const SOCKET_UNITS: [&str; 2] =
    ["/etc/systemd/system/sallyport-gateway.socket", "/etc/systemd/system/sallyport-gateway.socket.d"];

/// How long to wait for a port in use: a process that was killed a moment ago may still hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) struct PortWait(pub(in crate::cli) Duration);

/// The ports that turned out to be free.
type FreePorts = Vec<(String, SocketAddr)>;

impl Inspection<'_> {
    pub(super) fn ports(&mut self, site: Option<&Site>, depth: Depth) {
        let port_wait = match depth {
            Depth::Start(port_wait) => port_wait.0,
            Depth::Everything => Duration::ZERO,
        };
        let config = self.config;
        let mut free = FreePorts::new();
        // systemd has already opened the sockets that it passes to this process.
        let passed = depth != Depth::Everything && env::var_os("LISTEN_FDS").is_some();
        if self.roles.have_gateway() && !passed && control::running(&config.data_dir).is_none() {
            for (name, addresses) in [("listen", &config.listen), ("http_listen", &config.http_listen)] {
                for (i, address) in addresses.iter().enumerate() {
                    let key = vec![Key::table("gateway"), Key::element(name, i)];
                    self.port(&mut free, key, *address, port_wait);
                }
            }
            self.place(&mut free, key("gateway", "admin_listen"), &config.admin_listen, port_wait);
        }
        let runs = matches!(Supervisor::of(&config.data_dir), Ok(Some(_)) | Err(_)) && depth == Depth::Everything;
        let needed = self.roles.have_worker() && site.is_some_and(|site| site.needs_worker(&config.worker.listen));
        if needed && !runs && !is_worker(&config.worker.listen) {
            self.place(&mut free, key("worker", "listen"), &config.worker.listen, port_wait);
        }
    }

    fn place(&mut self, free: &mut FreePorts, key: Vec<Key>, at: &Upstream, port_wait: Duration) {
        match at {
            Upstream::Tcp(address) => self.port(free, key, *address, port_wait),
            Upstream::Unix(path) => {
                if let Some(what) = socket_fault(path) {
                    self.fault(key, what);
                }
            }
        }
    }

    fn port(&mut self, free: &mut FreePorts, key: Vec<Key>, address: SocketAddr, port_wait: Duration) {
        let usable = listener::usable(address);
        let name = key.iter().map(|key| key.name).collect::<Vec<_>>().join(".");
        if usable != address {
            self.warn(
                key.clone(),
                format!("IPv6 is disabled on this machine, so {usable} is used instead of {address}"),
            );
        }
        let twice = |(_, other): &&(String, SocketAddr)| clash(*other, usable);
        if let Some((other, _)) = free.iter().find(twice) {
            let what = format!("{other} already uses port {}; choose another port", address.port());
            self.fault(key, what);
            return;
        }
        match bind(usable, port_wait) {
            Ok(_) => free.push((name, usable)),
            Err(_) if is_systemds(address) => {}
            Err(error) => self.fault(key, port_fault(address, &error)),
        }
    }
}

/// Binds a port without listening on it, so that no client can connect to a socket that is about to close.
fn bind(address: SocketAddr, port_wait: Duration) -> io::Result<OwnedFd> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let bound = || {
        let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        // As the standard library's listeners do, so that connections in TIME_WAIT do not block the port.
        set_socket_reuseaddr(&socket, true)?;
        rustix::net::bind(&socket, &address)?;
        Ok::<_, io::Error>(socket)
    };
    let begun = Instant::now();
    loop {
        match bound() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && begun.elapsed() < port_wait => {
                sleep(POLL_INTERVAL);
            }
            other => return other,
        }
    }
}

/// Whether the two addresses cannot be listened on at the same time.
fn clash(one: SocketAddr, other: SocketAddr) -> bool {
    one.port() == other.port() && (one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified())
}

fn port_fault(address: SocketAddr, error: &io::Error) -> String {
    let port = address.port();
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!(
                "port {port} is in use by another program (`ss -ltnp 'sport = :{port}'` shows which); stop it or choose another port"
            )
        }
        io::ErrorKind::PermissionDenied => format!(
            "this account may not open port {port}, which is below 1024; choose one such as {} and have the router forward {port} to it, or use the systemd units (docs/operations.md)",
            port.checked_add(8_000).unwrap_or(8_443)
        ),
        io::ErrorKind::AddrNotAvailable => {
            format!(
                "this machine does not have the address {}; use one that `ip address` shows, or [::] for all",
                address.ip()
            )
        }
        _ if address.is_ipv6() && !listener::has_ipv6() => {
            format!("IPv6 is disabled on this machine, so {address} cannot be opened; use an IPv4 address")
        }
        _ => format!("cannot listen on {address}: {}", os_error::words(error)),
    }
}

fn socket_fault(path: &Path) -> Option<String> {
    let shown = path.display();
    let folder = path.parent()?;
    if path.as_os_str().len() > LONGEST_SOCKET {
        return Some(format!(
            "{shown} exceeds the limit of {LONGEST_SOCKET} bytes for a socket path; choose a shorter path"
        ));
    }
    if !folder.is_dir() {
        return Some(format!("the folder {} does not exist; create it or choose another path", folder.display()));
    }
    UnixStream::connect(path)
        .is_ok()
        .then(|| format!("{shown} is in use by another program; stop it or choose another path"))
}

/// Whether systemd opens this port for the gateway, in which case it may be below 1024 and already in use.
fn is_systemds(address: SocketAddr) -> bool {
    let [unit, drop_ins] = SOCKET_UNITS.map(Path::new);
    let drop_ins = fs::read_dir(drop_ins).into_iter().flatten().flatten().map(|entry| entry.path());
    let files = std::iter::once(unit.to_owned()).chain(drop_ins).filter_map(|path| fs::read_to_string(path).ok());
    let opens = |text: String| {
        text.lines()
            .filter_map(|line| line.trim().strip_prefix("ListenStream="))
            .any(|at| at.trim().parse() == Ok(address))
    };
    files.into_iter().any(opens)
}

/// Whether a worker that was started separately answers at this address.
fn is_worker(at: &Upstream) -> bool {
    let asked = b"GET /healthz HTTP/1.1\r\nHost: worker\r\nConnection: close\r\n\r\n";
    let mut response = [0; 512];
    let read = match at {
        Upstream::Tcp(address) => TcpStream::connect_timeout(address, ANSWER_WITHIN).and_then(|mut stream| {
            stream.set_read_timeout(Some(ANSWER_WITHIN))?;
            stream.write_all(asked)?;
            stream.read(&mut response)
        }),
        Upstream::Unix(path) => UnixStream::connect(path).and_then(|mut stream| {
            stream.set_read_timeout(Some(ANSWER_WITHIN))?;
            stream.write_all(asked)?;
            stream.read(&mut response)
        }),
    };
    let response = read.ok().and_then(|n| response.get(..n)).unwrap_or_default();
    response.starts_with(b"HTTP/1.1 200") && response.ends_with(b"\r\n\r\nok")
}
