//! WebSocket: nothing is lost on the way, and a revoked credential closes open connections.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rustls::{ClientConnection, StreamOwned};

use crate::{
    client::connect,
    instance::{Instance, eventually},
};

const POLICY: &str = "[[route]]\nname = \"all\"\nmethods = [\"GET\"]\npath = \"/{*rest}\"\nscopes = []\n";
/// A greeting that exceeds one read, with a recognisable beginning and end.
const GREETING: usize = 20_000;

/// Starts an upstream that switches at once, sends its greeting in the same write, and then echoes.
fn eager() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut head = Vec::new();
                let mut byte = [0; 1];
                while !head.ends_with(b"\r\n\r\n") {
                    let Ok(1) = stream.read(&mut byte) else { return };
                    head.push(byte[0]);
                }
                let switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n";
                let greeting = [&switch[..], &greeting()].concat();
                let _ = stream.write_all(&greeting);
                let mut buffer = [0; 16 * 1024];
                while let Ok(n @ 1..) = stream.read(&mut buffer) {
                    if stream.write_all(&buffer[..n]).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

fn greeting() -> Vec<u8> {
    (0..GREETING).map(|n| b'a' + u8::try_from(n % 26).unwrap()).collect()
}

fn instance() -> Instance {
    Instance::with(&eager().to_string(), |i| {
        std::fs::write(i.path("policies/sockets.toml"), POLICY).unwrap();
        i.replace("policy = \"worker\"", "policy = \"sockets\"");
    })
}

/// Requests a WebSocket and reads the head of the response, and no further.
fn upgrade(i: &Instance, key: &str, more: &[u8]) -> (StreamOwned<ClientConnection, std::net::TcpStream>, String) {
    let mut stream = connect(i.tls, &i.authority(), rustls::ALL_VERSIONS).unwrap();
    let head = format!(
        "GET /socket HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\nX-API-Key: {key}\r\n\r\n"
    );
    stream.write_all(&[head.as_bytes(), more].concat()).unwrap();
    let mut response = Vec::new();
    let mut byte = [0; 1];
    while !response.ends_with(b"\r\n\r\n") {
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "{}", response.escape_ascii());
        response.push(byte[0]);
    }
    (stream, String::from_utf8(response).unwrap())
}

#[test]
fn ten_thousand_upgrades_lose_nothing_to_an_upstream_that_answers_at_once() {
    const EACH: usize = 2_500;
    let i = instance();
    let expected = greeting();
    let done = Arc::new(AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut seen = vec![0; GREETING];
                for n in 0..EACH {
                    // Every other client sends data too early, in the same write as its request.
                    let early: &[u8] = if n % 2 == 0 { b"early" } else { b"" };
                    let (mut stream, head) = upgrade(&i, i.key(), early);
                    assert!(head.starts_with("HTTP/1.1 101 ") && head.contains("upgrade: websocket\r\n"), "{head}");
                    stream.read_exact(&mut seen).unwrap();
                    assert!(seen == expected, "the greeting is complete");
                    stream.write_all(b"after").unwrap();
                    let mut echo = vec![0; early.len() + 5];
                    stream.read_exact(&mut echo).unwrap();
                    assert_eq!(echo, [early, b"after"].concat());
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(done.load(Ordering::Relaxed), 4 * EACH);
}

#[test]
fn a_long_conversation_arrives_byte_for_byte() {
    let i = instance();
    let (mut stream, _) = upgrade(&i, i.key(), b"");
    stream.read_exact(&mut vec![0; GREETING]).unwrap();
    let piece: Vec<u8> = (0..=255).cycle().take(64 * 1024).collect();
    let mut echoed = vec![0; piece.len()];
    for _ in 0..100 {
        stream.write_all(&piece).unwrap();
        stream.read_exact(&mut echoed).unwrap();
        assert!(echoed == piece);
    }
}

#[test]
fn revoking_a_key_closes_its_connections() {
    let i = instance();
    let made = i.command(&["key", "create"]);
    let id = made["id"].as_str().unwrap();
    let key = made["key"].as_str().unwrap();
    let (mut other, _) = upgrade(&i, i.key(), b"");
    let (mut stream, head) = upgrade(&i, key, b"");
    stream.read_exact(&mut vec![0; GREETING]).unwrap();
    other.read_exact(&mut vec![0; GREETING]).unwrap();
    i.command(&["key", "revoke", id]);
    let revoked = Instant::now();
    assert!(!matches!(stream.read(&mut [0; 16]), Ok(1..)), "nothing more arrives");
    assert!(revoked.elapsed() < Duration::from_secs(5), "within seconds: {:?}", revoked.elapsed());
    other.write_all(b"still here").unwrap();
    other.read_exact(&mut [0; 10]).unwrap();
    // The access log has a line with the transferred bytes.
    let request = head.lines().find_map(|line| line.strip_prefix("x-request-id: ")).unwrap();
    let line = eventually("a line in the log", || {
        let log = std::fs::read_to_string(i.path("data/access.log")).ok()?;
        log.lines().find(|line| line.contains(request)).map(str::to_owned)
    });
    assert!(line.contains("\"status\":101") && line.contains(&format!("\"bytes_out\":{GREETING}")), "{line}");
}

#[test]
fn revoking_a_key_ends_a_running_stream() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n");
                while stream.write_all(b"data: tick\n\n").is_ok() {
                    // The pace of the events.
                    thread::sleep(Duration::from_millis(100));
                }
            });
        }
    });
    let i = Instance::with(&address.to_string(), |i| {
        std::fs::write(i.path("policies/sockets.toml"), POLICY).unwrap();
        i.replace("policy = \"worker\"", "policy = \"sockets\"");
    });
    let made = i.command(&["key", "create"]);
    let id = made["id"].as_str().unwrap();
    let key = made["key"].as_str().unwrap();
    let mut stream = connect(i.tls, &i.authority(), rustls::ALL_VERSIONS).unwrap();
    let head = format!("GET /events HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {key}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut buffer = [0; 4096];
    let started = Instant::now();
    let mut seen = String::new();
    while seen.matches("tick").count() < 5 {
        let n = stream.read(&mut buffer).unwrap();
        seen.push_str(&String::from_utf8_lossy(&buffer[..n]));
    }
    assert!(started.elapsed() < Duration::from_secs(3), "each event arrives immediately");
    i.command(&["key", "revoke", id]);
    let revoked = Instant::now();
    while let Ok(n @ 1..) = stream.read(&mut buffer) {
        seen.push_str(&String::from_utf8_lossy(&buffer[..n]));
        assert!(revoked.elapsed() < Duration::from_secs(5), "it continues");
    }
    assert!(!seen.ends_with("0\r\n\r\n"), "and it does not look complete");
}

/// Starts an upstream that never answers. The flag is set once it has received the first bytes of a body.
fn silent_upload() -> (SocketAddr, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let received = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&received);
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let flag = Arc::clone(&flag);
            thread::spawn(move || {
                let mut seen = Vec::new();
                let mut buffer = [0; 4096];
                while let Ok(n @ 1..) = stream.read(&mut buffer) {
                    seen.extend_from_slice(&buffer[..n]);
                    flag.fetch_or(String::from_utf8_lossy(&seen).contains("first"), Ordering::Relaxed);
                }
            });
        }
    });
    (address, received)
}

#[test]
fn revoking_a_key_ends_an_upload_whose_client_is_silent() {
    let (silent, received) = silent_upload();
    let i = Instance::with(&silent.to_string(), |i| {
        std::fs::write(i.path("policies/sockets.toml"), POLICY.replace("\"GET\"", "\"POST\"")).unwrap();
        i.replace("policy = \"worker\"", "policy = \"sockets\"");
    });
    let made = i.command(&["key", "create"]);
    let mut stream = connect(i.tls, &i.authority(), rustls::ALL_VERSIONS).unwrap();
    let key = made["key"].as_str().unwrap();
    let head = format!("POST /a HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {key}\r\nContent-Length: 10\r\n\r\nfirst");
    stream.write_all(head.as_bytes()).unwrap();
    eventually("the beginning of the upload", || received.load(Ordering::Relaxed).then_some(()));
    i.command(&["key", "revoke", made["id"].as_str().unwrap()]);
    let revoked = Instant::now();
    let mut response = [0; 4096];
    let n = stream.read(&mut response).unwrap();
    let response = String::from_utf8_lossy(&response[..n]);
    assert!(response.starts_with("HTTP/1.1 401 ") && response.contains("bad_credential"), "{response}");
    assert!(revoked.elapsed() < Duration::from_secs(5), "{:?}", revoked.elapsed());
}
