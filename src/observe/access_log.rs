//! The access log: one line a request, written in batches, never in the way of a request.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    mem,
    net::IpAddr,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::Duration,
};

use jiff::Timestamp;

use crate::config::AccessFormat;

/// Lines wait so long at most before they are in the file.
const FLUSH_EVERY: Duration = Duration::from_millis(200);
/// So many bytes wait at most when the disk does not take them; lines beyond are dropped and counted.
const MAX_PENDING: usize = 8 << 20;

/// One request, as logged. It has the path and not the query, where signatures stand.
#[derive(Debug)]
pub struct Entry<'a> {
    /// When the request came.
    pub ts: Timestamp,
    /// Its id.
    pub request_id: &'a str,
    /// The client's address.
    pub client_ip: IpAddr,
    /// What its head says; None where that could not be read.
    pub asked: Option<Asked<'a>>,
    /// The route's name.
    pub route: Option<&'a str>,
    /// The application's name.
    pub app: Option<&'a str>,
    /// The user.
    pub user: Option<&'a str>,
    /// The kind of credential.
    pub credential: Option<&'a str>,
    /// `forward`, `deny`, `own` or `preflight`.
    pub decision: &'a str,
    /// The public reason of a denial.
    pub code: Option<&'a str>,
    /// The status of the answer; 499 when the client was gone before there was one.
    pub status: u16,
    /// Bytes of body from the client.
    pub bytes_in: u64,
    /// Bytes of body to the client.
    pub bytes_out: u64,
    /// From the head of the request to the end of the answer.
    pub duration: Duration,
    /// Until the application's head of an answer; None when it was not asked.
    pub upstream: Option<Duration>,
    /// The TLS version.
    pub tls: Option<&'a str>,
    /// The client's own word.
    pub user_agent: Option<&'a str>,
}

/// What the head of a request says.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The method.
    pub method: &'a str,
    /// The authority that the client named.
    pub host: &'a str,
    /// The path, as sent.
    pub path: &'a str,
    /// The HTTP version.
    pub http: &'a str,
}

/// Where entries go.
pub struct AccessLog {
    format: AccessFormat,
    shared: Arc<Shared>,
    writer: Option<thread::JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    pending: Mutex<Pending>,
    wake: Condvar,
}

#[derive(Default)]
struct Pending {
    lines: Vec<u8>,
    dropped: u64,
    closed: bool,
}

impl AccessLog {
    /// Appends to the file at `path`, which is made for the owner only.
    pub fn open(path: &Path, format: AccessFormat) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let writer = thread::Builder::new()
            .name("access-log".into())
            .stack_size(128 << 10)
            .spawn(move || write_batches(&theirs, file))?;
        Ok(Self { format, shared, writer: Some(writer) })
    }

    /// Takes one entry; it is in the file soon.
    pub fn write(&self, entry: &Entry<'_>) {
        let mut pending = self.shared.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if pending.lines.len() > MAX_PENDING {
            pending.dropped += 1;
            return;
        }
        match self.format {
            AccessFormat::Json => write_json(&mut pending.lines, entry),
            AccessFormat::Combined => write_combined(&mut pending.lines, entry),
        }
        pending.lines.push(b'\n');
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.shared.pending.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.shared.wake.notify_all();
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

/// Requests only append to memory; this thread looks every so often, so that no request pays for a wake-up.
fn write_batches(shared: &Shared, mut file: File) {
    let mut batch = Vec::new();
    loop {
        let pending = shared.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut pending, _) =
            shared.wake.wait_timeout_while(pending, FLUSH_EVERY, |p| !p.closed).unwrap_or_else(PoisonError::into_inner);
        let (closed, dropped) = (pending.closed, mem::take(&mut pending.dropped));
        mem::swap(&mut batch, &mut pending.lines);
        drop(pending);
        if let Err(error) = file.write_all(&batch) {
            ::tracing::error!(%error, "the access log cannot be written");
        }
        if dropped > 0 {
            ::tracing::error!(dropped, "lines of the access log were dropped");
        }
        batch.clear();
        batch.shrink_to(64 << 10);
        if closed {
            return;
        }
    }
}

/// One JSON object. It is written by hand, since every request pays for it: most texts need no escape, and are copied.
fn write_json(out: &mut Vec<u8>, entry: &Entry<'_>) {
    let _ = write!(out, "{{\"ts\":\"{}\",\"client_ip\":\"{}\"", entry.ts, entry.client_ip);
    for (name, text) in [
        ("request_id", Some(entry.request_id)),
        ("method", entry.asked.map(|asked| asked.method)),
        ("host", entry.asked.map(|asked| asked.host)),
        ("path", entry.asked.map(|asked| asked.path)),
        ("route", entry.route),
        ("app", entry.app),
        ("user", entry.user),
        ("credential", entry.credential),
        ("decision", Some(entry.decision)),
        ("code", entry.code),
        ("tls", entry.tls),
        ("http", entry.asked.map(|asked| asked.http)),
        ("user_agent", entry.user_agent),
    ] {
        write_text(out, name, text);
    }
    let Entry { status, bytes_in, bytes_out, .. } = entry;
    let _ = write!(out, ",\"status\":{status},\"bytes_in\":{bytes_in},\"bytes_out\":{bytes_out}");
    write_millis(out, "duration_ms", Some(entry.duration));
    write_millis(out, "upstream_ms", entry.upstream);
    out.push(b'}');
}

fn write_text(out: &mut Vec<u8>, name: &str, text: Option<&str>) {
    write_name(out, name);
    match text {
        None => out.extend_from_slice(b"null"),
        Some(text) if text.bytes().all(|b| b >= 0x20 && b != b'"' && b != b'\\') => {
            out.push(b'"');
            out.extend_from_slice(text.as_bytes());
            out.push(b'"');
        }
        Some(text) => {
            let _ = serde_json::to_writer(out, text);
        }
    }
}

fn write_millis(out: &mut Vec<u8>, name: &str, duration: Option<Duration>) {
    write_name(out, name);
    let _ = match duration.map(|d| d.as_micros()) {
        None => write!(out, "null"),
        Some(micros) => write!(out, "{}.{:03}", micros / 1_000, micros % 1_000),
    };
}

fn write_name(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

/// Apache's combined format; a quote, backslash or control character is escaped as Apache does.
fn write_combined(out: &mut Vec<u8>, entry: &Entry<'_>) {
    let escape = |text: &str| text.escape_default().to_string();
    let user = entry.user.unwrap_or("-");
    let time = entry.ts.strftime("%d/%b/%Y:%H:%M:%S +0000");
    let line = |asked: Asked<'_>| format!("{} {} {}", escape(asked.method), escape(asked.path), asked.http);
    let (line, agent) = (entry.asked.map_or_else(|| "-".to_owned(), line), escape(entry.user_agent.unwrap_or("-")));
    let (ip, status, bytes) = (entry.client_ip, entry.status, entry.bytes_out);
    let _ = write!(out, "{ip} - {user} [{time}] \"{line}\" {status} {bytes} \"-\" \"{agent}\"");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry<'static> {
        Entry {
            ts: Timestamp::UNIX_EPOCH,
            request_id: "r1",
            client_ip: "192.0.2.1".parse().unwrap(),
            asked: Some(Asked { method: "GET", host: "h", path: "/a\"b", http: "HTTP/2" }),
            route: None,
            app: Some("downloads"),
            user: Some("ana"),
            credential: Some("api-key"),
            decision: "forward",
            code: None,
            status: 200,
            bytes_in: 0,
            bytes_out: 5,
            duration: Duration::from_micros(1_050),
            upstream: None,
            tls: Some("TLSv1.3"),
            user_agent: Some("x\n\"y"),
        }
    }

    fn written(format: AccessFormat) -> String {
        written_of(&entry(), format)
    }

    fn written_of(entry: &Entry<'_>, format: AccessFormat) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        let log = AccessLog::open(&path, format).unwrap();
        log.write(entry);
        drop(log);
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn nothing_a_client_sends_can_break_out_of_its_line() {
        let json = written(AccessFormat::Json);
        assert_eq!(json.lines().count(), 1);
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        let expected = serde_json::json!({
            "ts": "1970-01-01T00:00:00Z", "request_id": "r1", "client_ip": "192.0.2.1", "method": "GET", "host": "h",
            "path": "/a\"b", "route": null, "app": "downloads", "user": "ana", "credential": "api-key", "decision": "forward",
            "code": null, "status": 200, "bytes_in": 0, "bytes_out": 5, "duration_ms": 1.05, "upstream_ms": null,
            "tls": "TLSv1.3", "http": "HTTP/2", "user_agent": "x\n\"y",
        });
        assert_eq!(value, expected);
        let combined = written(AccessFormat::Combined);
        assert_eq!(
            combined,
            "192.0.2.1 - ana [01/Jan/1970:00:00:00 +0000] \"GET /a\\\"b HTTP/2\" 200 5 \"-\" \"x\\n\\\"y\"\n"
        );
    }

    #[test]
    fn of_a_head_that_could_not_be_read_nothing_is_said() {
        let unread = Entry { asked: None, ..entry() };
        let value: serde_json::Value = serde_json::from_str(&written_of(&unread, AccessFormat::Json)).unwrap();
        assert!(["method", "host", "path", "http"].iter().all(|name| value[name].is_null()), "{value}");
        assert!(written_of(&unread, AccessFormat::Combined).contains("] \"-\" 200 5 "));
    }
}
