//! Hot restart: a new process takes over, and no client notices.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    canary::Canary,
    client::{Request, connect},
    instance::{Instance, eventually},
};

const POLICY: &str =
    "[[route]]\nname = \"all\"\nmethods = [\"GET\"]\npath = \"/{*rest}\"\ncredentials = []\nanonymous = true\n";

fn open(upstream: SocketAddr) -> Instance {
    Instance::with(&upstream.to_string(), |i| {
        fs::write(i.path("policies/open.toml"), POLICY).unwrap();
        i.replace("policy = \"worker\"", "policy = \"open\"");
        i.replace("drain_timeout = \"10s\"", "drain_timeout = \"60s\"");
    })
}

/// Starts an upstream that takes `seconds` for a response of as many letters. The flag is set once such a response has begun.
fn slow(seconds: usize) -> (SocketAddr, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let begun = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&begun);
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let flag = Arc::clone(&flag);
            thread::spawn(move || {
                let mut request = [0; 4096];
                while let Ok(n @ 1..) = stream.read(&mut request) {
                    let letters = if request[..n].starts_with(b"GET /slow") { seconds } else { 1 };
                    let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {letters}\r\n\r\n");
                    flag.fetch_or(letters > 1, Ordering::Relaxed);
                    for _ in 0..letters {
                        if letters > 1 {
                            // The pace of the response.
                            thread::sleep(Duration::from_secs(1));
                        }
                        let _ = stream.write_all(b"x");
                    }
                }
            });
        }
    });
    (address, begun)
}

/// Returns the process ids of the gateways that run on this instance.
fn pids(i: &Instance) -> Vec<u32> {
    let config = i.path("config.toml").display().to_string();
    let all = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_ours = |pid: &u32| {
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.contains(&config) && line.contains("gateway")
    };
    all.filter(is_ours).collect()
}

fn wait_for_one(i: &Instance, not: u32) -> u32 {
    eventually("one new gateway", || match pids(i)[..] {
        [one] if one != not => Some(one),
        _ => None,
    })
}

#[test]
fn twenty_restarts_under_load_refuse_no_request_and_cut_no_stream() {
    let (upstream, begun) = slow(8);
    let mut i = open(upstream);
    let over = AtomicBool::new(false);
    let served = AtomicUsize::new(0);
    let tls = i.tls;
    let authority = i.authority();
    thread::scope(|scope| {
        let _over = SetOnDrop(&over);
        let long = scope.spawn(|| crate::client::send(tls, &authority, &Request::new("GET", "/slow").bytes()));
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let response = crate::client::send(tls, &authority, &Request::new("GET", "/quick").bytes());
                    assert_eq!((response.status, &response.body[..]), (200, &b"x"[..]));
                    served.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        eventually("the stream", || begun.load(Ordering::Relaxed).then_some(()));
        for _ in 0..20 {
            let before = i.stderr().matches("the gateway is ready").count();
            i.start_successor();
            eventually("the successor", || (i.stderr().matches("the gateway is ready").count() > before).then_some(()));
        }
        assert_eq!(long.join().unwrap().body, b"xxxxxxxx", "the stream continued in the first process");
    });
    assert!(served.load(Ordering::Relaxed) > 100);
    eventually("the predecessors' end", || (pids(&i).len() == 1).then_some(()));
    i.command(&["key", "create"]);
    assert!(i.path("data/control.sock").exists(), "commands reach the last gateway");
}

#[test]
fn a_successor_that_cannot_start_changes_nothing() {
    let canary = Canary::start();
    let i = open(canary.address);
    let good = fs::read(i.path("config.toml")).unwrap();
    i.replace("[tls]\nmode = \"local-ca\"", "[tls]\nmode = \"nonsense\"");
    let failed = i.spawn("gateway", &[]).wait().unwrap();
    assert!(!failed.success());
    fs::write(i.path("config.toml"), good).unwrap();
    assert_eq!(i.send(&Request::new("GET", "/a")).status, 200);
    // A successor that exits after it has requested the sockets.
    let mut socket = std::os::unix::net::UnixStream::connect(i.path("data/control.sock")).unwrap();
    socket.write_all(b"handover\n").unwrap();
    let _ = socket.read(&mut [0; 1]);
    drop(socket);
    eventually("a complaint", || i.stderr().contains("handover failed; this gateway keeps serving").then_some(()));
    assert_eq!(i.send(&Request::new("GET", "/a")).status, 200);
}

#[test]
fn at_sigusr2_a_gateway_starts_its_own_successor() {
    let canary = Canary::start();
    let mut i = open(canary.address);
    let first = i.pid();
    let mut held = connect(i.tls, &i.authority(), rustls::ALL_VERSIONS).unwrap();
    held.write_all(b"GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    assert!(held.read(&mut [0; 4096]).unwrap() > 0);
    assert!(Command::new("kill").args(["-USR2", &first.to_string()]).status().unwrap().success());
    i.await_end();
    let second = wait_for_one(&i, first);
    assert_eq!(held.read(&mut [0; 16]).unwrap(), 0, "an idle connection is closed, not reset");
    assert_eq!(i.send(&Request::new("GET", "/a")).status, 200);
    assert!(Command::new("kill").args([&second.to_string()]).status().unwrap().success());
}

/// systemd waits only for its own children to end, and kills a main process that is the child of another process.
#[test]
fn a_successor_is_not_the_child_of_its_predecessor() {
    let i = open(slow(30).0);
    let first = i.pid();
    let mut stream = connect(i.tls, &i.authority(), rustls::ALL_VERSIONS).unwrap();
    stream.write_all(&Request::new("GET", "/slow").bytes()).unwrap();
    assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
    assert!(Command::new("kill").args(["-USR2", &first.to_string()]).status().unwrap().success());
    eventually("the successor", || (i.stderr().matches("the gateway is ready").count() == 2).then_some(()));
    let all = pids(&i);
    assert!(all.len() == 2 && all.contains(&first), "the first one is draining: {all:?}");
    for second in all.into_iter().filter(|pid| *pid != first) {
        let status = fs::read_to_string(format!("/proc/{second}/status")).unwrap();
        assert!(!status.contains(&format!("PPid:\t{first}\n")), "{status}");
        assert!(Command::new("kill").args([&second.to_string()]).status().unwrap().success());
    }
}

#[test]
fn revoking_a_key_ends_its_stream_in_a_draining_gateway() {
    let mut i = Instance::with(&slow(30).0.to_string(), |i| {
        fs::write(
            i.path("policies/open.toml"),
            "[[route]]\nname = \"all\"\nmethods = [\"GET\"]\npath = \"/{*rest}\"\n",
        )
        .unwrap();
        i.replace("policy = \"worker\"", "policy = \"open\"");
        i.replace("drain_timeout = \"10s\"", "drain_timeout = \"60s\"");
    });
    let made = i.command(&["key", "create"]);
    let mut stream = connect(i.tls, &i.authority(), rustls::ALL_VERSIONS).unwrap();
    let head = format!("GET /slow HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {}\r\n\r\n", made["key"].as_str().unwrap());
    stream.write_all(head.as_bytes()).unwrap();
    assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
    let before = i.stderr().matches("the gateway is ready").count();
    i.start_successor();
    eventually("the successor", || (i.stderr().matches("the gateway is ready").count() > before).then_some(()));
    i.command(&["key", "revoke", made["id"].as_str().unwrap()]);
    let revoked = Instant::now();
    while matches!(stream.read(&mut [0; 4096]), Ok(1..)) {
        assert!(revoked.elapsed() < Duration::from_secs(10), "it continues");
    }
    assert!(revoked.elapsed() < Duration::from_secs(10));
    eventually("the predecessor's end", || (pids(&i).len() == 1).then_some(()));
}

#[test]
fn a_stopping_gateway_releases_its_ports_while_it_drains() {
    let mut i = open(slow(6).0);
    let mut stream = connect(i.tls, &i.authority(), rustls::ALL_VERSIONS).unwrap();
    stream.write_all(&Request::new("GET", "/slow").bytes()).unwrap();
    assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
    assert!(Command::new("kill").args([&i.pid().to_string()]).status().unwrap().success());
    eventually("a refusal", || std::net::TcpStream::connect(i.tls).is_err().then_some(()));
    assert_eq!(pids(&i).len(), 1, "it is still draining");
    i.start_successor();
    eventually("the next one", || std::net::TcpStream::connect(i.tls).ok());
    assert_eq!(i.send(&Request::new("GET", "/quick")).status, 200);
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert!(rest.ends_with(b"x"), "and the stream has continued");
}

struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
