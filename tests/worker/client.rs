//! A simple HTTP/1.1 client that signs statements like the gateway.

use std::{
    fmt::Display,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use sallyport_core::{
    clock,
    names::role::Role,
    statement::{HEADER, Statement, StatementKey, UserLimits},
};
use serde_json::Value;

pub(crate) const KEY: &[u8] = b"0123456789abcdef0123456789abcdef";

/// A response, read to its end.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// A request to send.
pub(crate) struct Request<'a> {
    pub(crate) method: &'a str,
    pub(crate) target: &'a str,
    pub(crate) headers: Vec<(&'a str, String)>,
    pub(crate) body: Option<&'a str>,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

impl<'a> Request<'a> {
    pub(crate) fn new(method: &'a str, target: &'a str) -> Self {
        Self { method, target, headers: Vec::new(), body: None }
    }

    pub(crate) fn header(mut self, name: &'a str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn json(mut self, body: &'a str) -> Self {
        self.body = Some(body);
        self.header("content-type", "application/json")
    }

    /// Adds the signed statement, as the gateway does.
    pub(crate) fn signed(self, user: &str, to: impl Display) -> Self {
        let value = sign(&statement(Some(user), to, self.method, self.target));
        self.header(HEADER, value)
    }

    pub(crate) fn send(&self, to: SocketAddr) -> Response {
        let mut stream = TcpStream::connect(to).unwrap();
        stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
        stream.write_all(self.to_string().as_bytes()).unwrap();
        let mut raw = Vec::new();
        stream.read_to_end(&mut raw).unwrap();
        parse(&raw)
    }
}

impl std::fmt::Display for Request<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} HTTP/1.1\r\nhost: worker\r\nconnection: close\r\n", self.method, self.target)?;
        for (name, value) in &self.headers {
            write!(f, "{name}: {value}\r\n")?;
        }
        let body = self.body.unwrap_or("");
        if self.body.is_some() {
            write!(f, "content-length: {}\r\n", body.len())?;
        }
        write!(f, "\r\n{body}")
    }
}

/// Returns a fresh statement. The user named `admin` has the role of an admin.
pub(crate) fn statement(user: Option<&str>, to: impl Display, method: &str, target: &str) -> Statement {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    Statement {
        user: user.map(|name| name.parse().unwrap()),
        generation: None,
        role: if user == Some("admin") { Role::Admin } else { Role::User },
        limits: UserLimits::default(),
        to: to.to_string(),
        request_id: format!("r{}", COUNT.fetch_add(1, Ordering::Relaxed)),
        method: method.to_owned(),
        target: target.to_owned(),
        at: clock::unix_now(),
        link: None,
        link_id: None,
    }
}

pub(crate) fn sign(statement: &Statement) -> String {
    StatementKey::new(KEY).sign(statement)
}

fn parse(raw: &[u8]) -> Response {
    let end = raw.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or_else(|| panic!("no head: {raw:?}"));
    let head = std::str::from_utf8(&raw[..end]).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let mut response = Response { status, headers, body: raw[end + 4..].to_vec() };
    if response.header("transfer-encoding") == Some("chunked") && !response.body.is_empty() {
        response.body = dechunked(&response.body);
    }
    response
}

/// Decodes a chunked body (RFC 9112, section 7.1), which must be complete.
fn dechunked(mut rest: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    loop {
        let end = rest.windows(2).position(|pair| pair == b"\r\n").expect("the response is complete");
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        if size == 0 {
            return whole;
        }
        whole.extend(&rest[end + 2..end + 2 + size]);
        rest = &rest[end + 2 + size + 2..];
    }
}
