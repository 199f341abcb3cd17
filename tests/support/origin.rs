//! A small media server on loopback. It serves files with range support, and can be slow or hostile.

use std::{
    collections::HashMap,
    fs,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use crate::media;

/// The length after which a stalling answer stops.
pub(crate) const STALL_AFTER: usize = 128 * 1024;

/// The length after which a response is cut off.
const CUT_AFTER: usize = 32 * 1024;

const UNAVAILABLE: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 1\r\nConnection: close\r\n\r\n";

const FORBIDDEN: &[u8] = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// Ten GiB.
const HUGE: &str = "Content-Length: 10737418240\r\n";

/// The server, with a record of its requests.
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

/// State shared by the threads of all connections.
#[derive(Default)]
struct Shared {
    requests: Mutex<Vec<String>>,
    /// Files besides those of the media folder.
    own: Mutex<HashMap<String, Vec<u8>>>,
    /// The content types declared for some names.
    kinds: Mutex<HashMap<String, String>>,
    /// The first responses for some paths.
    first: Mutex<HashMap<String, Vec<Vec<u8>>>>,
    /// The redirect targets of some names.
    moved: Mutex<HashMap<String, String>>,
    /// How often each path that fails a few times has failed so far.
    failed: Mutex<HashMap<String, u32>>,
    /// How often each path was requested.
    counts: Mutex<HashMap<String, u32>>,
    /// How many bytes of endless answers were sent, by path.
    sent: Mutex<HashMap<String, usize>>,
}

impl Origin {
    pub(crate) fn start() -> Self {
        Self::at("127.0.0.1:0")
    }

    /// Starts at an address of this machine.
    pub(crate) fn at(address: &str) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let shared: Arc<Shared> = Arc::default();
        let seen = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let seen = Arc::clone(&seen);
                thread::spawn(move || drop(respond(stream, &seen)));
            }
        });
        Self { address, shared }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    /// Every request so far: the path, and the start of the range if one was requested.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// How many bytes of this endless path were sent so far.
    pub(crate) fn sent(&self, path: &str) -> usize {
        self.shared.sent.lock().unwrap().get(path).copied().unwrap_or(0)
    }

    /// Serves `text` as well, under `name`.
    pub(crate) fn serve(&self, name: &str, text: &str) {
        self.serve_bytes(name, text.as_bytes());
    }

    /// Serves `bytes` as well, under `name`.
    pub(crate) fn serve_bytes(&self, name: &str, bytes: &[u8]) {
        self.shared.own.lock().unwrap().insert(name.to_owned(), bytes.to_vec());
    }

    /// Serves `name` with this `Content-Type`.
    pub(crate) fn declare(&self, name: &str, kind: &str) {
        self.shared.kinds.lock().unwrap().insert(name.to_owned(), kind.to_owned());
    }

    /// Answers the first requests for `path` with these heads, without bodies, and later ones as usual.
    pub(crate) fn first(&self, path: &str, responses: &[&str]) {
        let whole =
            |head: &&str| format!("HTTP/1.1 {head}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").into_bytes();
        self.shared.first.lock().unwrap().insert(path.to_owned(), responses.iter().rev().map(whole).collect());
    }

    /// Redirects requests for `name` to `url`.
    pub(crate) fn redirect(&self, name: &str, url: &str) {
        self.shared.moved.lock().unwrap().insert(name.to_owned(), url.to_owned());
    }
}

fn respond(mut stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let path = first.split_whitespace().nth(1).unwrap_or("/").trim_start_matches('/').to_owned();
    let fields = read_head(&mut reader)?;
    shared.requests.lock().unwrap().push(fields.range.map_or(path.clone(), |at| format!("{path} from {at}")));
    if let Some(url) = shared.moved.lock().unwrap().get(&path) {
        return write!(
            stream,
            "HTTP/1.1 302 Found\r\nLocation: {url}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
    }
    if let Some(response) = shared.first.lock().unwrap().get_mut(&path).and_then(Vec::pop) {
        return stream.write_all(&response);
    }
    let (manner, name) = path.split_once('/').unwrap_or(("", &path));
    match manner {
        "trickle" => return trickle(&mut stream),
        "steady" => return steady(&mut stream),
        "endless" => return endless(&mut stream, "", &path, shared),
        "huge" => return endless(&mut stream, HUGE, &path, shared),
        _ => {}
    }
    match content(shared, &path, name) {
        Some(body) => send(&mut stream, shared, (&path, manner, name), body, fields),
        None => stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
    }
}

/// Sends a file in the manner that its path requests.
fn send(
    stream: &mut TcpStream,
    shared: &Shared,
    (path, manner, name): (&str, &str, &str),
    body: Vec<u8>,
    RangeFields { range, if_range }: RangeFields,
) -> std::io::Result<()> {
    let times = shared.times(path);
    // From the third request on, serves the second of two entirely different versions.
    let second = manner.starts_with("changing") && times > 2;
    let body = if second { another_version(&body) } else { body };
    let etag = if second { "\"second\"" } else { "\"first\"" };
    let range = range.filter(|_| if_range.is_none_or(|wanted| wanted == etag));
    let from = range.unwrap_or(0).min(body.len());
    if let Some(times) = manner.strip_prefix("fail").and_then(|times| times.parse().ok())
        && shared.fails(path, times)
    {
        return stream.write_all(UNAVAILABLE);
    }
    if manner == "expires" && times == 3 {
        return stream.write_all(FORBIDDEN);
    }
    let tag = if manner == "changing-tagged" { etag } else { "" };
    let kind = shared.kinds.lock().unwrap().get(name).cloned().unwrap_or_else(|| kind_of(name).to_owned());
    write!(stream, "{}", head(&kind, range.is_some(), from, said_length(manner, body.len()), tag))?;
    let rest = &body[from..];
    match manner {
        "slow" if from == 0 => slowly(stream, rest),
        "stall" if from == 0 => stall(stream, rest),
        // The first request is for the page, the second for the media file.
        "expires" | "changing" | "changing-tagged" if times == 2 => {
            stream.write_all(&rest[..CUT_AFTER.min(rest.len())])
        }
        "cut" if shared.fails(path, 4) => stream.write_all(&rest[..CUT_AFTER.min(rest.len())]),
        _ => stream.write_all(rest),
    }
}

/// The length that a response declares, which is wrong for some manners.
fn said_length(manner: &str, length: usize) -> usize {
    match manner {
        "more" => length / 2,
        "less" => length * 2,
        _ => length,
    }
}

/// Another version of a file: the same length and beginning, but other bytes everywhere else.
pub(crate) fn another_version(video: &[u8]) -> Vec<u8> {
    let changed = video.iter().skip(CUT_AFTER / 2).map(|byte| byte ^ 0x55);
    video.iter().copied().take(CUT_AFTER / 2).chain(changed).collect()
}

impl Shared {
    /// Counts a request for `path`; returns how often it was requested, including this time.
    fn times(&self, path: &str) -> u32 {
        let mut counts = self.counts.lock().unwrap();
        let count = counts.entry(path.to_owned()).or_default();
        *count += 1;
        *count
    }

    /// Returns true for the first `times` requests for `path`.
    fn fails(&self, path: &str, times: u32) -> bool {
        let mut failed = self.failed.lock().unwrap();
        let count = failed.entry(path.to_owned()).or_default();
        *count += 1;
        *count <= times
    }
}

fn content(shared: &Shared, path: &str, name: &str) -> Option<Vec<u8>> {
    let own = shared.own.lock().unwrap();
    let own = own.get(path).or_else(|| own.get(name)).cloned();
    // Only the file name, so that no path leads elsewhere.
    own.or_else(|| fs::read(media::folder().join(Path::new(name).file_name()?)).ok())
}

/// The relevant header fields of a request.
#[derive(Default)]
struct RangeFields {
    range: Option<usize>,
    if_range: Option<String>,
}

fn read_head(reader: &mut impl BufRead) -> std::io::Result<RangeFields> {
    let mut fields = RangeFields::default();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim().to_ascii_lowercase();
        if line.is_empty() {
            return Ok(fields);
        }
        if let Some(value) = line.strip_prefix("if-range: ") {
            fields.if_range = Some(value.to_owned());
        }
        if let Some(value) = line.strip_prefix("range: bytes=") {
            fields.range = value.split('-').next().and_then(|n| n.parse().ok());
        }
    }
}

fn kind_of(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("m3u8") => "application/vnd.apple.mpegurl",
        Some("mpd") => "application/dash+xml",
        Some("html") => "text/html",
        Some("xml") => "application/rss+xml",
        _ => "video/mp4",
    }
}

fn head(kind: &str, ranged: bool, from: usize, total: usize, etag: &str) -> String {
    let status = if ranged {
        format!("206 Partial Content\r\nContent-Range: bytes {from}-{}/{total}", total - 1)
    } else {
        "200 OK".to_owned()
    };
    let etag = if etag.is_empty() { String::new() } else { format!("ETag: {etag}\r\n") };
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{etag}Content-Length: {}\r\nAccept-Ranges: bytes\r\nConnection: close\r\n\r\n",
        total - from
    )
}

/// Sends one byte per second of the many it declared.
fn trickle(stream: &mut TcpStream) -> std::io::Result<()> {
    write!(stream, "{}", head("video/mp4", false, 0, 1_000_000, ""))?;
    loop {
        stream.write_all(b"x")?;
        thread::sleep(Duration::from_secs(1));
    }
}

/// Sends a megabyte per second, without an end.
fn steady(stream: &mut TcpStream) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\n{HUGE}Connection: close\r\n\r\n")?;
    loop {
        stream.write_all(&vec![0; 100 << 10])?;
        thread::sleep(Duration::from_millis(100));
    }
}

/// Sends data without an end, until the client stops reading.
fn endless(stream: &mut TcpStream, length: &str, path: &str, shared: &Shared) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\n{length}Connection: close\r\n\r\n")?;
    loop {
        stream.write_all(&[0; 16_384])?;
        *shared.sent.lock().unwrap().entry(path.to_owned()).or_default() += 16_384;
    }
}

/// Sends about 200 KiB per second.
fn slowly(stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    for piece in bytes.chunks(20 * 1024) {
        stream.write_all(piece)?;
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// Sends a part and then nothing, for longer than any test takes.
fn stall(stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    stream.write_all(&bytes[..STALL_AFTER.min(bytes.len())])?;
    thread::sleep(Duration::from_mins(1));
    Ok(())
}
