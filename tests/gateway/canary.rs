//! An upstream that records every byte it gets, and gives a fixed answer.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::net::UnixListener,
    path::Path,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

/// The default answer, with headers that no client should see.
const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nContent-Type: text/plain\r\nServer: canary/1\r\nX-Powered-By: wings\r\n\
    Access-Control-Allow-Origin: *\r\nAccess-Control-Allow-Credentials: true\r\n\r\ncanary";

/// The upstream.
pub(crate) struct Canary {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

/// One request that arrived.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Canary {
    pub(crate) fn start() -> Self {
        Self::with(Duration::ZERO)
    }

    /// Answers after `delay`.
    pub(crate) fn with(delay: Duration) -> Self {
        Self::serving(ANSWER, delay)
    }

    /// Gives this response.
    pub(crate) fn answering(response: &'static str) -> Self {
        Self::serving(response, Duration::ZERO)
    }

    fn serving(response: &'static str, delay: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let theirs = Arc::clone(&seen);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let seen = Arc::clone(&theirs);
                thread::spawn(move || serve(stream.try_clone().unwrap(), stream, &seen, (response, delay)));
            }
        });
        Self { address, seen }
    }

    /// The same on a Unix socket.
    pub(crate) fn on_socket(path: &Path) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let theirs = Arc::clone(&seen);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let seen = Arc::clone(&theirs);
                thread::spawn(move || serve(stream.try_clone().unwrap(), stream, &seen, (ANSWER, Duration::ZERO)));
            }
        });
        Self { address: SocketAddr::from(([127, 0, 0, 1], 1)), seen }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The only request that arrived.
    pub(crate) fn only(&self) -> Seen {
        let seen = self.seen();
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen[0].clone()
    }
}

impl Seen {
    /// The target of the request line.
    pub(crate) fn target(&self) -> &str {
        self.head.split(' ').nth(1).unwrap()
    }

    /// The values of a header.
    pub(crate) fn header(&self, name: &str) -> Vec<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.trim()).collect()
    }
}

fn serve(
    reader: impl Read,
    mut writer: impl Write,
    seen: &Mutex<Vec<Seen>>,
    (response, delay): (&'static str, Duration),
) {
    let mut reader = BufReader::new(reader);
    while let Some(request) = read_request(&mut reader) {
        let head_only = request.head.starts_with("HEAD ");
        seen.lock().unwrap().push(request);
        // The delay that the test has requested.
        thread::sleep(delay);
        let response = if head_only { response.split_inclusive("\r\n\r\n").next().unwrap() } else { response };
        if writer.write_all(response.as_bytes()).is_err() {
            return;
        }
    }
}

fn read_request(reader: &mut impl BufRead) -> Option<Seen> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let seen = Seen { head, body: String::new() };
    let length = seen.header("content-length").first().map_or(0, |l| l.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Seen { body: String::from_utf8_lossy(&body).into_owned(), ..seen })
}

/// Returns an address where nothing listens.
pub(crate) fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

/// Returns an address that accepts connections and never sends anything.
pub(crate) fn silent() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let held: Vec<TcpStream> = listener.incoming().flatten().collect();
        drop(held);
    });
    address
}
