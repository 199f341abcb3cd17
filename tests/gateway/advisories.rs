//! Published attacks on proxies of this kind, replayed on every way in which a request can end: it is permitted, it lacks a credential, it
//! exceeds a rate, or it has no route. There is no login yet; add its route to [`ROUTES`] once there is.

use std::io::{Read, Write};

use crate::{
    canary::Canary,
    client::{Request, connect},
    floods::{
        DATA, END_HEADERS, END_STREAM, HEADERS, WINDOW_UPDATE, ends, frame, get_head, post_head, resident_kib, start,
    },
    instance::Instance,
};

const POLICY: &str = r#"
[[route]]
name = "open"
methods = ["GET", "POST"]
path = "/open"
credentials = []
anonymous = true
[[route]]
name = "guarded"
methods = ["GET", "POST"]
path = "/guarded"
[[route]]
name = "limited"
methods = ["GET", "POST"]
path = "/limited"
credentials = []
anonymous = true
rates = [{ limit = "1/hour", by = "address" }]
"#;

/// Each route and the status of its response.
const ROUTES: [(&str, u16); 4] = [("/open", 200), ("/guarded", 401), ("/limited", 429), ("/nowhere", 404)];

/// A text that must never be treated as a permitted request.
const SMUGGLED: &str = "GET /open?smuggled HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// Starts a gateway whose limited route has had its one request.
fn instance(canary: &Canary) -> Instance {
    let i = Instance::with(&canary.address.to_string(), |i| {
        std::fs::write(i.path("policies/routes.toml"), POLICY).unwrap();
        i.replace("policy = \"worker\"", "policy = \"routes\"");
    });
    assert_eq!(i.send(&Request::new("GET", "/limited")).status, 200);
    i
}

/// Returns the statuses of all responses until the connection closes.
fn statuses(i: &Instance, bytes: &str) -> Vec<u16> {
    let mut stream = connect(i.tls, &i.authority(), rustls::ALL_VERSIONS).unwrap();
    stream.write_all(bytes.as_bytes()).unwrap();
    let mut responses = Vec::new();
    let _ = stream.read_to_end(&mut responses);
    let responses = String::from_utf8_lossy(&responses);
    responses.split("HTTP/1.1 ").skip(1).map(|rest| rest[..3].parse().unwrap()).collect()
}

fn smuggled(canary: &Canary) -> bool {
    canary.seen().iter().any(|seen| seen.target().contains("smuggled"))
}

#[test]
fn cve_2025_4366_an_unread_body_is_not_a_request() {
    let canary = Canary::start();
    let i = instance(&canary);
    let last = "GET /open?last HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    for (route, status) in ROUTES {
        let length = SMUGGLED.len();
        let sized =
            format!("POST {route} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{SMUGGLED}{last}");
        let seen = statuses(&i, &sized);
        assert!(seen == [status, 200] || (status != 200 && seen == [status]), "{route}: {seen:?}");
        let early = format!(
            "POST {route} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\nExpect: 100-continue\r\n\r\n"
        );
        let seen = statuses(&i, &format!("{early}{SMUGGLED}{last}"));
        assert!(seen.iter().filter(|s| **s != 100).count() <= 2 && seen.contains(&status), "{route}: {seen:?}");
        assert!(!smuggled(&canary), "{route}");
    }
}

#[test]
fn cve_2026_2833_data_after_an_upgrade_request_waits_for_the_answer() {
    let canary = Canary::start();
    let i = instance(&canary);
    let smuggled_to_nowhere = SMUGGLED.replace("/open", "/nowhere");
    for (route, status) in ROUTES {
        let upgrade =
            format!("GET {route} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
        // The application answers 200, so the rest is a separate request, which is checked and has no route.
        assert_eq!(statuses(&i, &format!("{upgrade}{smuggled_to_nowhere}")), [status, 404], "{route}");
        assert!(!smuggled(&canary), "{route}");
    }
}

#[test]
fn cve_2026_2835_http_1_0_has_no_chunks_and_no_second_request() {
    let canary = Canary::start();
    let i = instance(&canary);
    for (route, status) in ROUTES {
        let line = format!("POST {route} HTTP/1.0\r\nHost: localhost\r\n");
        let chunked = format!("{line}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}");
        assert_eq!(statuses(&i, &chunked), [400], "{route}");
        let kept = format!("{line}Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}");
        assert_eq!(statuses(&i, &kept), [400], "{route}");
        // A body that only the end of the connection would delimit is not allowed.
        assert_eq!(statuses(&i, &format!("{line}\r\n{SMUGGLED}")), [status], "{route}");
        assert!(!smuggled(&canary), "{route}");
    }
}

#[test]
fn cve_2026_105299_connection_removes_no_field_that_is_checked_or_set() {
    let canary = Canary::start();
    let i = instance(&canary);
    let nominate =
        "close, X-Forwarded-For, X-Forwarded-Proto, Remote-User, X-Request-Id, X-API-Key, Host, Content-Length";
    let request = |route: &str| {
        let head = format!("POST {route} HTTP/1.1\r\nHost: localhost\r\nConnection: {nominate}\r\n");
        format!("{head}Content-Length: 4\r\nRemote-User: eve\r\n")
    };
    for (route, status) in ROUTES {
        assert_eq!(statuses(&i, &format!("{}\r\nbody", request(route))), [status], "{route}");
    }
    assert_eq!(statuses(&i, &format!("{}X-API-Key: {}\r\n\r\nbody", request("/guarded"), i.key())), [200]);
    let seen = canary.seen().pop().unwrap();
    assert_eq!((seen.header("remote-user"), seen.header("x-forwarded-for")), (vec!["admin"], vec!["127.0.0.1"]));
    assert_eq!(
        (seen.header("content-length"), seen.header("host"), &*seen.body),
        (vec!["4"], vec!["localhost"], "body")
    );
    assert_eq!((seen.header("x-request-id").len(), seen.header("x-api-key").len()), (1, 0));
}

#[test]
fn cve_2025_8671_a_client_that_provokes_resets_is_disconnected() {
    let canary = Canary::start();
    let i = instance(&canary);
    for (route, _) in ROUTES {
        let mut connection = start(&i);
        let provoked = (0..2_000).map(|n| {
            let id = 2 * n + 1;
            [frame(HEADERS, END_HEADERS, id, &post_head(route)), frame(WINDOW_UPDATE, 0, id, &[0; 4])].concat()
        });
        assert!(ends(&mut connection, provoked), "{route}");
    }
    assert_eq!(i.send(&Request::new("GET", "/open")).status, 200);
}

#[test]
fn cve_2026_105297_fields_that_grow_are_not_kept() {
    let canary = Canary::start();
    let i = instance(&canary);
    let before = resident_kib(&i);
    for (route, _) in ROUTES {
        let mut connection = start(&i);
        // Adds one large field to the table, then refers to it again and again.
        let first = [&get_head(route)[..], &[0x40, 1, b'x', 0x7f, 0xb9, 0x16], &[b'a'; 3_000]].concat();
        let bomb = (0..50).map(|n| {
            let block = if n == 0 { first.clone() } else { get_head(route) };
            frame(HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, &[&block[..], &[0xbe; 12_000]].concat())
        });
        ends(&mut connection, bomb);
    }
    let grown = resident_kib(&i).saturating_sub(before);
    assert!(grown < 32 * 1024, "it took {grown} KiB");
    assert_eq!(i.send(&Request::new("GET", "/open")).status, 200);
}

#[test]
fn rustsec_2026_0258_empty_data_without_end_ends_the_connection() {
    let canary = Canary::start();
    let i = instance(&canary);
    for (route, _) in ROUTES {
        let mut connection = start(&i);
        connection.write_all(&frame(HEADERS, END_HEADERS, 1, &post_head(route))).unwrap();
        assert!(ends(&mut connection, (0..3_000).map(|_| frame(DATA, 0, 1, &[]))), "{route}");
    }
    assert_eq!(i.send(&Request::new("GET", "/open")).status, 200);
}
