//! A request of either HTTP version is checked, and what is written for its application is exactly one equivalent request, without any
//! gateway header that the gateway did not set.

use std::net::IpAddr;

use bytes::Bytes;
use http::{HeaderMap, Method};
use sallyport_core::{
    http1::{Framing, HeadScan, Http1Request, RequestHead, Version},
    statement::{Delivery, StatementKey},
};
use sallyport_gateway::{
    Onward,
    limits::Acquaintance,
    observe::RequestId,
    policy::{Addressing, Behind, Decision, Permit, RequestFacts},
    to_upstream,
};

use super::{parts, site};

const NOW: i64 = 1_800_000_000;
/// The gateway's own header names, and the prefixes that are reserved for it.
const OWN: [&str; 6] = [
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-request-id",
    "remote-user",
    "x-sallyport-statement",
];
const OWN_PREFIXES: [&str; 9] = [
    "x-forwarded-",
    "remote-",
    "x-auth-",
    "x-accel-",
    "x-sallyport-",
    "client-cert",
    "x-client-cert",
    "x-ssl-",
    "ssl-client-",
];

/// A request as received.
pub(super) struct Came {
    pub(super) head: RequestHead,
    pub(super) framing: Framing,
    pub(super) websocket: bool,
}

pub fn run(data: &[u8]) {
    let (choice, data) = parts::byte(data);
    let came = if choice & 1 == 0 { over_http1(data) } else { over_http2(data) };
    let Some((came, body)) = came else { return };
    let Some(permit) = decide(&came, body) else { return };
    if let Some(judged) = permit.body() {
        let again = decide(&came, judged).expect("a validated body is refused");
        assert_eq!(again.body(), Some(judged), "a second validation changes the body");
    }
    let client: IpAddr = "192.0.2.7".parse().unwrap();
    let head = &came.head;
    let id = RequestId::next();
    let key = StatementKey::new(b"0123456789abcdef0123456789abcdef");
    let onward = Onward { head, permit: &permit, client, id, framing: came.framing, websocket: came.websocket };
    let written = to_upstream(&onward, &key, NOW);
    // With the gateway's own fields, the request may exceed the limit of fields that the gateway accepts.
    if head.headers.len() < 90 {
        judge(&written, &onward, &key);
    }
}

fn over_http1(data: &[u8]) -> Option<(Came, &[u8])> {
    let end = HeadScan::default().end(data).ok()??;
    let request = Http1Request::parse(&Bytes::copy_from_slice(&data[..end])).ok()?;
    let websocket = request.asks_for_websocket();
    Some((Came { head: request.head, framing: request.framing, websocket }, &data[end..]))
}

/// Input: method, target and authority on separate lines, then fields, an empty line and the body.
fn over_http2(data: &[u8]) -> Option<(Came, &[u8])> {
    let (method, rest) = parts::text(data);
    let (target, rest) = parts::text(rest);
    let (host, rest) = parts::text(rest);
    let (headers, body) = parts::fields(rest);
    let method = Method::from_bytes(method.as_bytes()).ok()?;
    let head = RequestHead::new(method, target.to_owned(), host.to_owned(), headers, Version::Http2);
    let judged = head.judge().ok()?;
    let framing = if body.is_empty() { Framing::Length(0) } else { judged };
    Some((Came { head, framing, websocket: false }, body))
}

pub(super) fn decide(came: &Came, body: &[u8]) -> Option<Permit> {
    let facts = RequestFacts {
        method: &came.head.method,
        path: came.head.path(),
        query: came.head.query(),
        headers: &came.head.headers,
        host: &came.head.host,
        addressing: Addressing::Right,
        client: "192.0.2.7".parse().unwrap(),
        behind: Behind::One,
        acquaintance: Acquaintance::Stranger,
        countries: None,
        upgrade: came.websocket,
        certificate: None,
    };
    match site::site().decide(&facts, site::authority(), NOW) {
        Decision::Forward(permit) => Some(permit),
        Decision::Judge(pending) => pending.judge(&came.head.headers, body).ok(),
        Decision::Preflight(_) | Decision::Respond(_) => None,
    }
}

fn judge(written: &Bytes, onward: &Onward<'_>, key: &StatementKey) {
    let shown = || String::from_utf8_lossy(written).into_owned();
    let end = written.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
    let request = Http1Request::parse(&written.slice(..end)).unwrap_or_else(|e| panic!("{e}: {}", shown()));
    let Onward { head, permit, framing, websocket, .. } = *onward;
    assert_eq!((&request.head.method, &request.head.host), (&head.method, &head.host), "{}", shown());
    assert_eq!(request.head.path(), head.path(), "{}", shown());
    assert_eq!(&written[end..], permit.body().unwrap_or_default());
    match permit.body() {
        Some(body) => assert_eq!(request.framing, Framing::Length(body.len() as u64), "{}", shown()),
        None => assert_eq!(request.framing, framing, "{}", shown()),
    }
    assert_eq!(request.asks_for_websocket(), websocket, "{}", shown());
    assert!(websocket || !request.head.headers.contains_key("connection"), "{}", shown());
    judge_names(&request.head.headers, permit);
    let statement = request.head.headers.get("x-sallyport-statement").map(|v| v.to_str().unwrap());
    let expected = permit.app().statement.as_ref();
    assert_eq!(statement.is_some(), expected.is_some());
    if let Some((statement, expected)) = statement.zip(expected) {
        let to = Some(expected.to.as_str());
        let delivery = Delivery { to, method: head.method.as_str(), target: request.head.target() };
        let stated = key.verify(statement, delivery, NOW).unwrap();
        assert_eq!(stated.user.as_ref(), permit.identity().map(|i| &i.user));
    }
}

fn judge_names(headers: &HeaderMap, permit: &Permit) {
    assert_eq!(headers.get_all("x-forwarded-for").iter().collect::<Vec<_>>(), ["192.0.2.7"]);
    let user: Vec<_> = headers.get_all("remote-user").iter().map(|v| v.to_str().unwrap()).collect();
    assert_eq!(user, permit.identity().map(|i| i.user.as_str()).into_iter().collect::<Vec<_>>());
    for name in headers.keys().map(http::HeaderName::as_str) {
        let folded: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        assert!(!OWN.contains(&&*folded) || (folded == name && headers.get_all(name).iter().count() == 1), "{name}");
        assert!(OWN.contains(&name) || !OWN_PREFIXES.iter().any(|prefix| folded.starts_with(prefix)), "{name}");
        let credential = ["authorization", "x-api-key", "proxy-authorization"].contains(&&*folded);
        assert!(!credential || permit.route().app_headers.iter().any(|kept| kept == name), "{name}");
        assert!(folded != "transfer-encoding" && folded != "content-length" || folded == name, "{name}");
    }
    let cookies: Vec<_> = headers.get_all("cookie").iter().collect();
    assert!(cookies.len() <= 1);
    let mut cookies = cookies.iter().flat_map(|c| c.as_bytes().split(|b| *b == b';')).map(<[u8]>::trim_ascii);
    assert!(!cookies.any(|c| c.starts_with(b"__Host-sallyport=")));
}
