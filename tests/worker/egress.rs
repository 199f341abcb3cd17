//! The egress guard: children can fetch only from the internet, only with an egress token, and only within its limits.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use data_encoding::BASE64;
use sallyport_core::clock;
use sallyport_worker::egress::{EgressToken, EgressTokenKey};
use tempfile::TempDir;
use uuid::Uuid;

use crate::{
    client::KEY,
    origin::Origin,
    places,
    process::eventually,
    town::{Canary, PUBLIC, Town, run},
};

/// Hosts that are not on the internet, in every spelling, and names that resolve to such hosts.
const INSIDE: &[&str] = &[
    "127.0.0.1",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0177.0.0.1",
    "0",
    "localhost",
    "LOCALHOST.",
    "a.localhost",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:a9fe:a9fe]",
    "[64:ff9b::7f00:1]",
    "[2002:a00:5::]",
    "[fd00::5]",
    "[fe80::5]",
    "10.0.0.5",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.9",
    "metadata.google.internal",
    "224.0.0.1",
    "255.255.255.255",
    "inside.example.com",
    "both.example.com",
    "six.example.com",
    "mapped.example.com",
    "nat64.example.com",
];

/// Addresses on which a canary notices every connection.
const LISTENING: &[&str] = &[
    "127.0.0.1:80",
    "127.0.0.1:443",
    "[::1]:80",
    "[::1]:443",
    "10.0.0.5:80",
    "10.0.0.5:443",
    "192.168.1.1:80",
    "169.254.169.254:80",
    "100.64.0.9:80",
    "[fd00::5]:80",
    "93.184.216.34:22",
    "93.184.216.34:8080",
];

/// A guard that runs as its own process.
struct Guard {
    address: SocketAddr,
    child: Child,
    dir: TempDir,
}

impl Guard {
    fn start(settings: &str, private: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let address: SocketAddr = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let config = format!(
            "[worker]\nallow_private = {private:?}\n[egress]\nlisten = \"{address}\"\nkey_file = \"key\"\n{settings}\n"
        );
        fs::write(dir.path().join("config.toml"), config).unwrap();
        fs::write(dir.path().join("key"), KEY).unwrap();
        fs::set_permissions(dir.path().join("key"), fs::Permissions::from_mode(0o600)).unwrap();
        let log = fs::File::create(dir.path().join("log")).unwrap();
        let mut command = Command::new(places::program());
        command.args(["egress", "--config"]).arg(dir.path().join("config.toml")).stderr(log).stdin(Stdio::null());
        let child = command.spawn().unwrap();
        eventually("the guard", || TcpStream::connect(address).ok());
        Self { address, child, dir }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    /// Sends `text` and returns everything that comes back.
    fn send(&self, text: &str) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        let mut response = Vec::new();
        let _ = stream.read_to_end(&mut response);
        String::from_utf8_lossy(&response).into_owned()
    }

    fn connect(&self, authority: &str, token: &str) -> String {
        self.send(&format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{token}\r\n"))
    }

    fn get(&self, url: &str, token: &str) -> String {
        let host = url.trim_start_matches("http://").split('/').next().unwrap();
        self.send(&format!("GET {url} HTTP/1.1\r\nHost: {host}\r\n{token}\r\n"))
    }
}

/// Starts `sallyport egress` with a key of the mode that systemd gives to credentials. Returns its error output if it cannot start, or
/// `None` once it listens.
fn start_with_credential(folder: impl Fn(&Path) -> PathBuf) -> Option<String> {
    let dir = tempfile::tempdir().unwrap();
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let credentials = dir.path().join("credentials");
    fs::create_dir_all(credentials.join("elsewhere")).unwrap();
    fs::write(credentials.join("egress.key"), KEY).unwrap();
    fs::set_permissions(credentials.join("egress.key"), fs::Permissions::from_mode(0o440)).unwrap();
    let config = format!("[egress]\nlisten = \"{address}\"\nkey_file = \"credentials/egress.key\"\n");
    fs::write(dir.path().join("config.toml"), config).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_sallyport"));
    command.args(["egress", "--config"]).arg(dir.path().join("config.toml")).stdin(Stdio::null());
    command.env("CREDENTIALS_DIRECTORY", folder(&credentials)).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let failed = eventually("the guard, or its end", || match child.try_wait().unwrap() {
        Some(_) => Some(true),
        None => TcpStream::connect(address).ok().map(|_| false),
    });
    let _ = child.kill();
    let said = child.wait_with_output().unwrap().stderr;
    failed.then(|| String::from_utf8(said).unwrap())
}

#[test]
fn a_systemd_credential_is_accepted_with_the_mode_that_systemd_gives_it() {
    assert_eq!(start_with_credential(Path::to_owned), None);
    let elsewhere = start_with_credential(|credentials| credentials.join("elsewhere"));
    assert!(elsewhere.is_some_and(|said| said.contains("egress.key: mode 0440")));
    assert!(start_with_credential(|_| PathBuf::new()).is_some_and(|said| said.contains("mode 0440")));
}

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn token(bytes: u64) -> String {
    field(&EgressTokenKey::new(KEY), EgressToken { job: Uuid::new_v4(), until: clock::unix_now() + 60, bytes })
}

fn field(key: &EgressTokenKey, token: EgressToken) -> String {
    format!("Proxy-Authorization: Basic {}\r\n", BASE64.encode(key.sign(&token).as_bytes()))
}

fn status(response: &str) -> &str {
    response.split(' ').nth(1).unwrap_or("none")
}

#[test]
fn nobody_gets_out_without_an_egress_token() {
    let origin = Origin::start();
    let guard = Guard::start("", &[&origin.address.to_string()]);
    let right = EgressToken { job: Uuid::new_v4(), until: clock::unix_now() + 60, bytes: 1 << 20 };
    let forged = field(&EgressTokenKey::new(b"another key of at least 32 bytes"), right);
    let expired = field(&EgressTokenKey::new(KEY), EgressToken { until: clock::unix_now(), ..right });
    let authority = origin.address.to_string();
    let url = origin.url("sample.mp4");
    for wrong in ["", &forged, &expired, "Proxy-Authorization: Bearer x\r\n", "Proxy-Authorization: Basic !\r\n"] {
        assert_eq!(status(&guard.connect(&authority, wrong)), "407", "{wrong}");
        assert_eq!(status(&guard.get(&url, wrong)), "407", "{wrong}");
    }
    assert!(origin.requests().is_empty());
    let response = guard.get(&url, &field(&EgressTokenKey::new(KEY), right));
    assert!(response.starts_with("HTTP/1.1 200 OK"), "{response}");
    let log = eventually("a line", || Some(guard.log()).filter(|log| log.contains("egress job=")));
    assert!(log.contains(&right.job.to_string()) && log.contains("host=\"127.0.0.1\""), "{log}");
}

#[test]
fn a_malformed_request_is_refused() {
    let guard = Guard::start("", &[]);
    for text in [
        "nonsense\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\n\r\n",
        "CONNECT example.com HTTP/1.1\r\n\r\n",
        "CONNECT a@example.com:443 HTTP/1.1\r\n\r\n",
        "GET http://example.com/ HTTP/1.1\r\nHost: other.example\r\n\r\n",
        "GET http://example.com/ HTTP/1.1\nHost: example.com\n\n",
        "POST http://example.com/ HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        assert_eq!(status(&guard.send(text)), "400", "{text:?}");
    }
}

#[test]
fn a_child_that_floods_the_guard_with_long_names_neither_fills_the_log_nor_hides_other_children() {
    let guard = Guard::start("", &[]);
    let flood = token(1 << 20);
    let other = EgressToken { job: Uuid::new_v4(), until: clock::unix_now() + 60, bytes: 1 << 20 };
    let name = "a".repeat(7_000);
    let begun = Instant::now();
    for _ in 0..400 {
        assert_eq!(status(&guard.connect(&format!("{name}:443"), &flood)), "403");
    }
    let seconds = usize::try_from(begun.elapsed().as_secs()).unwrap() + 2;
    assert!(guard.log().len() < seconds * 20 * 600, "{} bytes in {seconds} s", guard.log().len());
    assert!(guard.log().contains("... [7000 bytes]"), "{}", guard.log());
    assert_eq!(status(&guard.connect("localhost:443", &field(&EgressTokenKey::new(KEY), other))), "403");
    eventually("the other child's line", || guard.log().contains(&other.job.to_string()).then_some(()));
    let left_out = || {
        guard.connect("localhost:443", &flood);
        guard.log().contains("connections left out of the log").then_some(())
    };
    eventually("a line about the omitted lines", left_out);
}

#[test]
fn a_transfer_ends_when_its_budget_is_spent() {
    let origin = Origin::start();
    let guard = Guard::start("", &[&origin.address.to_string()]);
    let response = guard.get(&origin.url("sample.mp4"), &token(50_000));
    assert!(response.len() < 120_000 && response.len() > 1_000, "{}", response.len());
    eventually("the reason", || guard.log().contains("the byte budget of the egress token is used up").then_some(()));
}

#[test]
fn a_second_request_on_a_connection_is_not_sent_to_the_host_of_the_first() {
    let first = Origin::start();
    let second = Origin::start();
    let guard = Guard::start("", &[&first.address.to_string(), &second.address.to_string()]);
    let request = |origin: &Origin, name: &str, token: &str| {
        format!("GET {} HTTP/1.1\r\nHost: {}\r\n{token}\r\n", origin.url(name), origin.address)
    };
    let token = token(1 << 20);
    let both = request(&first, "stall/sample.mp4", &token) + &request(&second, "second", &token);
    guard.send(&both);
    assert!(second.requests().is_empty() && !first.requests().iter().any(|r| r.contains("second")));
}

#[test]
fn no_spelling_of_a_private_address_and_no_other_port_is_reachable() {
    let Some(town) = Town::enter() else { return };
    let canary = Canary::new();
    canary.at(LISTENING);
    town.name("inside.example.com", &[&["10.0.0.5"]]);
    town.name("both.example.com", &[&["93.184.216.34", "10.0.0.5"]]);
    town.name("six.example.com", &[&["fd00::5"]]);
    town.name("mapped.example.com", &[&["::ffff:10.0.0.5"]]);
    town.name("nat64.example.com", &[&["64:ff9b::a00:5"]]);
    let guard = Guard::start("", &[]);
    let token = token(1 << 20);
    for host in INSIDE {
        for port in [80, 443] {
            assert_eq!(status(&guard.connect(&format!("{host}:{port}"), &token)), "403", "{host}");
        }
        let response = guard.get(&format!("http://{host}/latest/meta-data"), &token);
        assert!(["403", "400"].contains(&status(&response)), "{host}: {response}");
    }
    for port in [22, 25, 53, 8080, 0] {
        assert_eq!(status(&guard.connect(&format!("{PUBLIC}:{port}"), &token)), "403", "{port}");
    }
    assert_eq!(canary.seen(), Vec::<String>::new());
    assert_eq!(status(&guard.connect("unknown.example.com:443", &token)), "502");
}

#[test]
fn an_address_that_does_not_answer_delays_no_download_for_long() {
    let Some(town) = Town::enter() else { return };
    let _origin = Origin::at(&format!("{PUBLIC}:80"));
    let dead = ["93.184.216.40", "93.184.216.41", "93.184.216.42", "93.184.216.43", "93.184.216.44"];
    run("nft", &["add table inet dead; add chain inet dead in { type filter hook input priority 0; }"]);
    for address in dead {
        run("ip", &["address", "add", &format!("{address}/32"), "dev", "lo"]);
        run("nft", &[&format!("add rule inet dead in ip daddr {address} drop")]);
    }
    town.name("videos.example.com", &[&[&dead[..], &[PUBLIC]].concat()]);
    let guard = Guard::start("", &[]);
    let response = guard.get("http://videos.example.com/sample.mp4", &token(1 << 20));
    assert_eq!(status(&response), "200", "within the time that a client waits: {}", guard.log());
}

#[test]
fn a_job_whose_names_are_never_answered_uses_few_threads_and_delays_nobody() {
    let Some(town) = Town::enter() else { return };
    let _origin = Origin::at(&format!("{PUBLIC}:80"));
    town.name("videos.example.com", &[&[PUBLIC]]);
    town.name("silent.example.com", &[&[]]);
    let guard = Guard::start("", &[]);
    let greedy = token(1 << 20);
    let other = token(1 << 20);
    thread::scope(|scope| {
        for _ in 0..24 {
            scope.spawn(|| assert_eq!(status(&guard.connect("silent.example.com:443", &greedy)), "502"));
        }
        eventually("a DNS query", || town.asked("silent.example.com").then_some(()));
        let response = guard.get("http://videos.example.com/sample.mp4", &other);
        assert_eq!(status(&response), "200");
        let threads = fs::read_dir(format!("/proc/{}/task", guard.child.id())).unwrap().count();
        assert!(threads < 20, "{threads} threads");
    });
}

#[test]
fn a_response_announces_that_its_connection_closes() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
        stream
            .write_all(b"HTTP/1.1 302 Found\r\nConnection: keep-alive\r\nLocation: /b\r\nContent-Length: 0\r\n\r\n")
            .unwrap();
        thread::park();
    });
    let guard = Guard::start("", &[&address.to_string()]);
    let mut stream = TcpStream::connect(guard.address).unwrap();
    let token = token(1 << 20);
    write!(stream, "GET http://{address}/a HTTP/1.1\r\nHost: {address}\r\n{token}\r\n").unwrap();
    let mut response = vec![0; 4096];
    let length = stream.read(&mut response).unwrap();
    let response = String::from_utf8_lossy(&response[..length]);
    let fields = "Location: /b\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    assert_eq!(response, format!("HTTP/1.1 302 Found\r\n{fields}"));
}
