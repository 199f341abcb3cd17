//! Slow and greedy clients lose their own time and connections, and nobody else's.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use crate::{
    admin::eventually_metric,
    canary::Canary,
    client::{Request, connect},
    floods::{END_HEADERS, END_STREAM, HEADERS, frame, get_head, start},
    instance::{Instance, eventually},
};

const OPEN_CONNECTIONS: &str = "sallyport_connections{listener=\"tls\"}";

/// A policy whose only route streams request and response bodies of any length.
const OPEN: &str = "[defaults]\nmax_body = \"1MiB\"\n[[route]]\nname = \"all\"\nmethods = [\"GET\", \"POST\"]\npath = \"/{*rest}\"\ncredentials = []\nanonymous = true\n";

pub(crate) fn open(upstream: SocketAddr, setting: &str) -> Instance {
    Instance::with(&upstream.to_string(), |i| {
        std::fs::write(i.path("policies/open.toml"), OPEN).unwrap();
        i.replace("policy = \"worker\"", "policy = \"open\"");
        i.replace("[tls]", &format!("{setting}\n\n[tls]"));
        for key in setting.lines().filter_map(|line| line.split_once(" = ").map(|(key, _)| key)) {
            let config = std::fs::read_to_string(i.path("config.toml")).unwrap();
            let line = config.lines().find(|line| line.starts_with(key) && line.contains('#')).unwrap().to_owned();
            i.replace(&format!("{line}\n"), "");
        }
    })
}

/// Returns true once the other side has closed the connection.
fn is_closed(stream: &mut TcpStream, within: Duration) -> bool {
    stream.set_read_timeout(Some(within)).unwrap();
    matches!(stream.read(&mut [0; 16]), Ok(0))
        || stream.read(&mut [0; 16]).is_err_and(|e| e.kind() != std::io::ErrorKind::WouldBlock)
}

#[test]
fn a_client_at_its_limit_loses_its_oldest_idle_connection_and_not_its_new_one() {
    let canary = Canary::start();
    let i = open(canary.address, "shared_addresses = []\nmax_connections_per_client = 4");
    // These are incomplete: they do not even begin a handshake.
    eventually_metric(&i, OPEN_CONNECTIONS, 0.0);
    let mut held: Vec<_> = (0..4).map(|_| TcpStream::connect(i.tls).unwrap()).collect();
    eventually_metric(&i, OPEN_CONNECTIONS, 4.0);
    assert_eq!(i.send(&Request::new("GET", "/a")).status, 200, "the next one is served");
    assert!(is_closed(&mut held[0], Duration::from_secs(2)), "the oldest is closed");
    assert!(!is_closed(&mut held[3], Duration::from_millis(300)), "the newest stays open");
    let i = open(canary.address, "max_connections_per_client = 1");
    let mut shared: Vec<_> = (0..4).map(|_| TcpStream::connect(i.tls).unwrap()).collect();
    assert!(!is_closed(&mut shared[0], Duration::from_millis(500)), "tunnels on this machine carry many clients");
}

#[test]
fn a_connection_with_a_running_request_is_not_closed_for_a_new_one() {
    let canary = Canary::with(Duration::from_secs(2));
    let i = open(canary.address, "max_connections = 2");
    let fetch = || {
        let mut stream = connect(i.tls, &i.authority(), rustls::ALL_VERSIONS).unwrap();
        stream.write_all(&Request::new("GET", "/a").bytes()).unwrap();
        stream
    };
    let running = [fetch(), fetch()];
    eventually("both", || (canary.seen().len() == 2).then_some(()));
    assert!(connect(i.tls, &i.authority(), rustls::ALL_VERSIONS).is_err(), "a third connection is refused");
    for mut stream in running {
        let mut response = Vec::new();
        let _ = stream.read_to_end(&mut response);
        assert!(response.ends_with(b"canary"), "{}", response.escape_ascii());
    }
    let start = Instant::now();
    while connect(i.tls, &i.authority(), rustls::ALL_VERSIONS).is_err() {
        assert!(start.elapsed() < Duration::from_secs(5), "slots are released");
    }
}

#[test]
fn a_stalled_handshake_is_disconnected() {
    let canary = Canary::start();
    let i = open(canary.address, "");
    let mut stream = TcpStream::connect(i.tls).unwrap();
    stream.write_all(&[0x16, 0x03, 0x01]).unwrap();
    let start = Instant::now();
    assert!(is_closed(&mut stream, Duration::from_secs(15)));
    assert!(start.elapsed() > Duration::from_secs(9));
    eventually_metric(&i, "sallyport_handshakes_failed_total{reason=\"too_slow\"}", 1.0);
}

#[test]
fn a_trickling_body_is_refused_and_one_that_keeps_the_rate_is_not() {
    let canary = Canary::start();
    let i = open(canary.address, "min_body_rate = \"100\"");
    let patient = open(canary.address, "min_body_rate = \"0\"");
    let post = |i: &Instance, pieces: usize, bytes: usize| {
        let mut stream = connect(i.tls, &i.authority(), rustls::ALL_VERSIONS).unwrap();
        stream.sock.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let head = format!(
            "POST /a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            pieces * bytes
        );
        stream.write_all(head.as_bytes()).unwrap();
        let start = Instant::now();
        let mut response = [0; 1024];
        for _ in 0..pieces {
            let _ = stream.write_all(&vec![b'a'; bytes]);
            if let Ok(n @ 1..) = stream.read(&mut response) {
                return (String::from_utf8_lossy(&response[..n]).into_owned(), start.elapsed());
            }
        }
        stream.sock.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let n = stream.read(&mut response).unwrap();
        (String::from_utf8_lossy(&response[..n]).into_owned(), start.elapsed())
    };
    thread::scope(|scope| {
        let slow = scope.spawn(|| post(&i, 60, 2));
        let steady = scope.spawn(|| post(&i, 45, 100));
        let let_be = scope.spawn(|| post(&patient, 45, 2));
        let (response, after) = slow.join().unwrap();
        assert!(response.starts_with("HTTP/1.1 408 ") && response.contains("body_too_slow"), "{response}");
        assert!(after > Duration::from_secs(14), "an honest client would have had too little time: {after:?}");
        let (response, after) = steady.join().unwrap();
        assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
        assert!(after > Duration::from_secs(20), "the body arrived faster than the test needs");
        let (response, after) = let_be.join().unwrap();
        assert!(response.starts_with("HTTP/1.1 200 "), "\"0\" means no limit: {response}");
        assert!(after > Duration::from_secs(20), "the body arrived faster than the test needs");
    });
}

#[test]
fn a_long_response_may_take_longer_than_the_timeout_for_a_pause() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let i = open(listener.local_addr().unwrap(), "");
    i.replace("timeout = \"60s\"   #", "timeout = \"1s\" #");
    let mut i = i;
    i.kill();
    i.start_role("gateway");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n");
                for _ in 0..8 {
                    // The pauses are the subject.
                    thread::sleep(Duration::from_millis(500));
                    let _ = stream.write_all(b".");
                }
            });
        }
    });
    assert_eq!(i.send(&Request::new("GET", "/a")).body, b"........", "4 s in total, and never a pause of a second");
}

#[test]
fn a_gateway_that_runs_out_of_descriptors_recovers() {
    let canary = Canary::start();
    let i = open(canary.address, "");
    let limited =
        std::process::Command::new("prlimit").args(["--nofile=64:64", "--pid", &i.pid().to_string()]).status();
    assert!(limited.unwrap().success());
    let held: Vec<_> = (0..80).map(|_| TcpStream::connect(i.tls).unwrap()).collect();
    let start = Instant::now();
    assert_eq!(i.send(&Request::new("GET", "/a")).status, 200);
    assert!(start.elapsed() < Duration::from_secs(9), "it was served only after the others' handshakes had timed out");
    assert!(i.stderr().contains("cannot accept a connection"), "the limit was reached: {}", i.stderr());
    drop(held);
}

#[test]
fn requests_beyond_capacity_are_refused_with_retry_after() {
    let canary = Canary::with(Duration::from_secs(2));
    let i = open(canary.address, "max_requests = 1");
    let under_way = |n| eventually("the request", || (canary.seen().len() == n).then_some(()));
    thread::scope(|scope| {
        let first = scope.spawn(|| i.send(&Request::new("GET", "/a")));
        under_way(1);
        let second = i.send(&Request::new("GET", "/a"));
        assert_eq!(
            (second.status, second.code().as_str(), second.header("retry-after")),
            (503, "overloaded", Some("5"))
        );
        assert_eq!(first.join().unwrap().status, 200);
    });
    assert_eq!(i.send(&Request::new("GET", "/a")).status, 200, "there is capacity again");
    let i = open(canary.address, "shared_addresses = []\nmax_requests_per_client = 1");
    thread::scope(|scope| {
        let first = scope.spawn(|| i.send(&Request::new("GET", "/a")));
        under_way(3);
        assert_eq!(i.send(&Request::new("GET", "/a")).status, 503, "one client may have one request at a time");
        assert_eq!(first.join().unwrap().status, 200);
    });
    let i = open(canary.address, "max_memory = \"1MiB\"");
    eventually("shortage", || (i.send(&Request::new("GET", "/a")).status == 503).then_some(()));
    assert!(i.stderr().contains("low memory: rejecting new requests"));
    let health = crate::client::send_plain(i.admin, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(health.status, 200, "the admin listener always answers");
}

/// Starts an upstream whose responses never end. It reports when one was aborted, and whether its client was reading.
pub(crate) fn endless() -> (SocketAddr, std::sync::mpsc::Receiver<&'static str>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (gone, ends) = std::sync::mpsc::channel();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let gone = gone.clone();
            thread::spawn(move || {
                let mut request = [0; 4096];
                let n = stream.read(&mut request).unwrap();
                let name = if request[..n].starts_with(b"GET /reads") { "reads" } else { "never reads" };
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
                while stream.write_all(&[b'x'; 16 * 1024]).is_ok() {}
                let _ = gone.send(name);
            });
        }
    });
    (address, ends)
}

#[test]
fn a_client_that_stops_reading_is_disconnected_and_a_slow_one_is_not() {
    let (upstream, ends) = endless();
    let i = open(upstream, "send_timeout = \"2s\"");
    let begin = |path: &str| {
        let mut stream = connect(i.tls, &i.authority(), rustls::ALL_VERSIONS).unwrap();
        stream.write_all(&Request::new("GET", path).bytes()).unwrap();
        stream
    };
    let _stuck = begin("/never");
    let mut slow = begin("/reads");
    // More than a segment on loopback; for less, a reader does not open its window further.
    let start = Instant::now();
    let mut piece = vec![0; 128 * 1024];
    let end = loop {
        slow.read_exact(&mut piece).unwrap();
        match ends.recv_timeout(Duration::from_millis(200)) {
            Ok(end) => break end,
            Err(_) => assert!(start.elapsed() < Duration::from_secs(20), "no client was disconnected"),
        }
    };
    assert_eq!(end, "never reads");
    assert!(start.elapsed() > Duration::from_secs(2), "it was disconnected too early");
    for _ in 0..20 {
        slow.read_exact(&mut piece).unwrap();
    }
    assert!(ends.try_recv().is_err(), "the slow client continues");
}

/// Starts a gateway with an additional path for authenticated clients.
fn open_to_known(upstream: SocketAddr) -> Instance {
    let mut i = open(upstream, "send_timeout = \"2s\"\npause_timeout = \"1h\"");
    let known = "[[route]]\nname = \"known\"\nmethods = [\"GET\"]\npath = \"/reads\"\ncredentials = [\"api-key\", \"link\"]\n[[route]]";
    i.replace_in("policies/open.toml", "[[route]]", known);
    i.kill();
    i.start_role("gateway");
    i
}

#[test]
fn an_authenticated_player_may_pause() {
    let (upstream, ends) = endless();
    let i = open_to_known(upstream);
    let begin = |request: Request| {
        let mut stream = connect(i.tls, &i.authority(), rustls::ALL_VERSIONS).unwrap();
        stream.write_all(&request.bytes()).unwrap();
        stream
    };
    let mut known = begin(Request::new("GET", "/reads").key(i.key()));
    let _stranger = begin(Request::new("GET", "/never"));
    assert_eq!(ends.recv_timeout(Duration::from_secs(30)), Ok("never reads"), "an anonymous client gets send_timeout");
    assert!(ends.recv_timeout(Duration::from_secs(6)).is_err(), "the player was disconnected");
    let mut piece = vec![0; 128 * 1024];
    for _ in 0..80 {
        known.read_exact(&mut piece).unwrap();
    }
    // Anyone can hold a link.
    let link = i.command(&["link", "create", "/reads"])["url"].as_str().unwrap().to_owned();
    let _by_link = begin(Request::new("GET", &link[link.find("/reads").unwrap()..]));
    assert_eq!(ends.recv_timeout(Duration::from_secs(30)), Ok("reads"), "the holder of a link gets send_timeout");
    // The limit applies to a pause, not to the whole connection.
    let i = open_to_known(upstream);
    i.replace("pause_timeout = \"1h\"", "pause_timeout = \"3s\"");
    let mut i = i;
    i.kill();
    i.start_role("gateway");
    let mut stream = connect(i.tls, &i.authority(), rustls::ALL_VERSIONS).unwrap();
    stream.write_all(&Request::new("GET", "/reads").key(i.key()).bytes()).unwrap();
    while ends.try_recv().is_ok() {}
    assert!(ends.recv_timeout(Duration::from_mins(1)).is_ok(), "a pause is limited");
}

#[test]
fn an_authenticated_player_may_pause_over_http2() {
    let (upstream, ends) = endless();
    let i = open_to_known(upstream);
    let mut known = start(&i);
    let mut stranger = start(&i);
    let key = i.key().as_bytes();
    let credential = [&[0x00, 9][..], b"x-api-key", &[u8::try_from(key.len()).unwrap()], key].concat();
    let head = [get_head("/reads"), credential].concat();
    known.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &head)).unwrap();
    stranger.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &get_head("/never"))).unwrap();
    for stream in [&mut known, &mut stranger] {
        stream.sock.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    }
    let mut take = |seconds| {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(seconds) {
            // This drains the socket, but the streams' windows stay closed.
            for stream in [&mut known, &mut stranger] {
                let _ = stream.read(&mut [0; 16 * 1024]);
            }
            if let Ok(end) = ends.try_recv() {
                return Some(end);
            }
        }
        None
    };
    assert_eq!(take(30), Some("never reads"), "an anonymous client gets send_timeout");
    assert_eq!(take(6), None, "the player was disconnected");
}
