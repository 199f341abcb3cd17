//! Access ends when its credential expires or is revoked, and when the key or user behind it is removed.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rusqlite::Connection;
use sallyport_core::clock;
use serde_json::{Value, json};

use crate::{
    canary::Canary,
    client::{Request, Tls, connect},
    instance::{Instance, eventually},
};

const POLICY: &str = "[upstream]\nstatement = true\n\
    [[route]]\nname = \"all\"\nmethods = [\"GET\"]\npath = \"/{*rest}\"\nscopes = []\n\
    credentials = [\"api-key\", \"jwt\", \"client-certificate\", \"link\"]\n\
    [[route]]\nname = \"object\"\nmethods = [\"GET\"]\npath = \"/object/{id}\"\nscopes = []\n\
    credentials = [\"offlinetube-link\"]\nlink_object = \"id\"\n";

/// Access ends within two seconds, plus some time for a busy machine.
const WITHIN: Duration = Duration::from_secs(4);

/// Starts an upstream whose responses tick forever, over a WebSocket if the client asks for one.
fn ticking() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut head = [0; 8192];
                let n = stream.read(&mut head).unwrap_or(0);
                let switches = String::from_utf8_lossy(&head[..n]).to_ascii_lowercase().contains("upgrade: websocket");
                let response: &[u8] = if switches {
                    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n"
                } else {
                    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
                };
                let _ = stream.write_all(response);
                while stream.write_all(b"data: tick\n\n").is_ok() {
                    // The pace of the response.
                    thread::sleep(Duration::from_millis(50));
                }
            });
        }
    });
    address
}

pub(crate) fn instance(upstream: SocketAddr) -> Instance {
    instance_with(upstream, |_| ())
}

pub(crate) fn instance_with(upstream: SocketAddr, change: impl FnOnce(&Instance)) -> Instance {
    Instance::with(&upstream.to_string(), |i| {
        fs::write(i.path("policies/mine.toml"), POLICY).unwrap();
        i.replace("policy = \"worker\"", "policy = \"mine\"");
        i.replace("leeway = \"30s\"", "leeway = \"0s\"");
        change(i);
    })
}

/// A response that has begun.
struct Stream {
    what: String,
    tls: Tls,
}

impl Stream {
    fn open(i: &Instance, what: &str, target: &str, fields: &str) -> Self {
        let mut tls = connect(i.tls, &i.authority(), rustls::ALL_VERSIONS).unwrap();
        write!(tls, "GET {target} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n").unwrap();
        let mut seen = String::new();
        let mut buffer = [0; 4096];
        while !seen.contains("tick") {
            let n = tls.read(&mut buffer).unwrap();
            seen.push_str(&String::from_utf8_lossy(&buffer[..n]));
            assert!(n > 0 && !seen.contains("problem"), "{what}: {seen}");
        }
        Self { what: what.to_owned(), tls }
    }

    fn by_key(i: &Instance, what: &str, key: &str) -> Self {
        Self::open(i, what, "/a", &format!("X-API-Key: {key}\r\n"))
    }

    fn by_token(i: &Instance, what: &str, token: &str) -> Self {
        Self::open(i, what, "/a", &format!("Authorization: Bearer {token}\r\n"))
    }

    fn socket_by_token(i: &Instance, what: &str, token: &str) -> Self {
        let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n";
        Self::open(i, what, "/a", &format!("Authorization: Bearer {token}\r\n{upgrade}"))
    }

    fn by_link(i: &Instance, what: &str, target: &str) -> Self {
        Self::open(i, what, target, "")
    }

    /// Reads to the end of the response.
    fn ends(mut self, since: Instant) {
        let mut buffer = [0; 4096];
        while matches!(self.tls.read(&mut buffer), Ok(1..)) {
            assert!(since.elapsed() < WITHIN, "it continues: {}", self.what);
        }
    }

    /// Checks that the response continues, after others had enough time to end.
    fn goes_on(mut self) {
        let mut buffer = [0; 4096];
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(3) {
            assert!(matches!(self.tls.read(&mut buffer), Ok(1..)), "it ended: {}", self.what);
        }
    }
}

fn all_end(streams: impl IntoIterator<Item = Stream>, since: Instant) {
    streams.into_iter().for_each(|stream| stream.ends(since));
}

pub(crate) fn path_of(made: &Value) -> String {
    made["url"].as_str().unwrap().split_once("localhost").unwrap().1.trim_start_matches(|c| c != '/').to_owned()
}

pub(crate) fn command_link(i: &Instance, args: &[&str]) -> String {
    path_of(&i.command(&[&["link", "create"], args].concat()))
}

pub(crate) fn post_link(i: &Instance, fields: &[(&str, &str)], body: &Value) -> crate::client::Response {
    let request =
        fields.iter().fold(Request::new("POST", "/.sallyport/links"), |r, (name, value)| r.header(name, value));
    i.send(&request.json(&body.to_string()))
}

pub(crate) fn get(i: &Instance, target: &str) -> (u16, String) {
    let response = i.send(&Request::new("GET", target));
    (response.status, if response.status < 400 { String::new() } else { response.code() })
}

pub(crate) fn hang_up(i: &Instance) {
    assert!(Command::new("kill").args(["-HUP", &i.pid().to_string()]).status().unwrap().success());
}

pub(crate) fn last_used(i: &Instance, id: &Value) -> Value {
    hang_up(i);
    let listed = i.command(&["key", "list"]);
    let keys = listed["keys"].as_array().unwrap();
    keys.iter().find(|listed| listed["id"] == *id).unwrap()["last_used"].clone()
}

pub(crate) fn write_secret(i: &Instance, name: &str) {
    let path = i.path("data/secrets").join(name);
    fs::write(&path, "0123456789abcdef".repeat(4)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn running_responses_end_when_their_credential_expires() {
    let i = instance(ticking());
    let control = Stream::by_key(&i, "a key that does not expire", i.key());
    let token = i.new_token(&["--expires", "10s"]);
    let streams = [
        Stream::by_token(&i, "a token", &token),
        Stream::socket_by_token(&i, "a WebSocket by a token", &token),
        Stream::by_key(&i, "a key", &i.new_key(&["--expires", "10s"])),
        Stream::by_link(&i, "a link", &command_link(&i, &["/x", "--expires", "10s"])),
        Stream::by_link(
            &i,
            "a link in OfflineTube's style",
            &command_link(&i, &["/object/x", "--style", "offlinetube", "--expires", "10s"]),
        ),
    ];
    // The lifetime of the credentials is the subject.
    thread::sleep(Duration::from_secs(10));
    all_end(streams, Instant::now());
    control.goes_on();
}

/// Starts curl with a running response over HTTP/2.
fn over_http2(i: &Instance, field: &str) -> Child {
    let authority = i.authority();
    let url = format!("https://localhost:{}/a", i.tls.port());
    let mut curl = Command::new("curl");
    curl.args(["-sN", "--http2", "--cacert", authority.to_str().unwrap(), "-H", field, &url]);
    let mut child = curl.stdout(Stdio::piped()).spawn().unwrap();
    let mut ticks = [0; 64];
    child.stdout.as_mut().unwrap().read_exact(&mut ticks).unwrap();
    assert!(String::from_utf8_lossy(&ticks).contains("tick"));
    child
}

#[test]
fn running_responses_over_http2_end_in_the_same_time() {
    let i = instance(ticking());
    i.command(&["user", "add", "ana"]);
    let made = i.command(&["key", "create"]);
    let key = |key: &str| format!("X-API-Key: {key}");
    let mut control = over_http2(&i, &key(i.key()));
    let ended = [
        over_http2(&i, &key(made["key"].as_str().unwrap())),
        over_http2(&i, &key(&i.new_key(&["--user", "ana"]))),
        over_http2(&i, &format!("Authorization: Bearer {}", i.new_token(&["--user", "ana"]))),
    ];
    i.command(&["key", "revoke", made["id"].as_str().unwrap()]);
    i.command(&["user", "remove", "ana"]);
    let since = Instant::now();
    for mut curl in ended {
        std::io::copy(curl.stdout.as_mut().unwrap(), &mut std::io::sink()).unwrap();
        assert!(since.elapsed() < WITHIN);
        assert!(!curl.wait().unwrap().success(), "a response that was cut short looks complete");
    }
    assert!(control.try_wait().unwrap().is_none(), "another response continues");
    control.kill().unwrap();
    control.wait().unwrap();
}

/// Returns when a key was last used, or null.

#[test]
fn running_responses_end_when_their_user_is_removed() {
    let i = instance(ticking());
    i.command(&["user", "add", "ana"]);
    let control = Stream::by_key(&i, "another user's key", i.key());
    let token = i.new_token(&["--user", "ana"]);
    let streams = [
        Stream::by_token(&i, "a token", &token),
        Stream::socket_by_token(&i, "a WebSocket by a token", &token),
        Stream::by_key(&i, "a key", &i.new_key(&["--user", "ana"])),
        Stream::by_link(&i, "a link", &command_link(&i, &["/x", "--user", "ana"])),
        Stream::by_link(
            &i,
            "a link in OfflineTube's style",
            &command_link(&i, &["/object/x", "--style", "offlinetube", "--user", "ana"]),
        ),
    ];
    i.command(&["user", "remove", "ana"]);
    all_end(streams, Instant::now());
    control.goes_on();
}

#[test]
fn running_responses_end_when_the_key_behind_them_is_replaced_or_removed() {
    let ed = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let i = instance_with(ticking(), |i| {
        fs::write(i.path("idp.pem"), ed.public_key_pem()).unwrap();
        i.replace("\n[links]", "\n[[jwt.key]]\nalgorithm = \"EdDSA\"\nfile = \"idp.pem\"\n\n[links]");
    });
    let foreign = {
        let claims = json!({"sub": "zoe", "scope": "*", "exp": clock::unix_now() + 600});
        let key = EncodingKey::from_ed_pem(ed.serialize_pem().as_bytes()).unwrap();
        jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), &claims, &key).unwrap()
    };
    let control = Stream::by_key(&i, "a key", i.key());
    let own = Stream::by_token(&i, "a token signed with the gateway's secret", &i.new_token(&[]));
    let theirs = Stream::by_token(&i, "a token verified by a public key", &foreign);
    let link = Stream::by_link(&i, "a link", &command_link(&i, &["/x"]));
    let target = command_link(&i, &["/object/x", "--style", "offlinetube"]);
    let offlinetube = Stream::by_link(&i, "a link in OfflineTube's style", &target);

    write_secret(&i, "jwt.key");
    write_secret(&i, "offlinetube.key");
    hang_up(&i);
    eventually("the reload", || i.stderr().contains("configuration and policies were reloaded").then_some(()));
    all_end([own, offlinetube], Instant::now());
    for _ in 0..2 {
        i.command(&["link", "rotate"]);
    }
    link.ends(Instant::now());
    i.replace("\n[[jwt.key]]\nalgorithm = \"EdDSA\"\nfile = \"idp.pem\"\n", "");
    eventually("the reload", || (i.stderr().matches("policies were reloaded").count() >= 2).then_some(()));
    theirs.ends(Instant::now());
    control.goes_on();
}

#[test]
fn running_responses_end_when_their_user_or_key_loses_permissions() {
    let i = instance(ticking());
    i.command(&["user", "add", "eva", "--role", "admin"]);
    let control = Stream::by_key(&i, "another administrator's", i.key());
    let made = i.command(&["key", "create"]);
    let narrowed = Stream::by_key(&i, "a key", made["key"].as_str().unwrap());
    let demoted = [
        Stream::by_key(&i, "her key", &i.new_key(&["--user", "eva"])),
        Stream::by_token(&i, "her token", &i.new_token(&["--user", "eva"])),
    ];
    let db = Connection::open(i.path("data/state.db")).unwrap();
    db.execute("UPDATE user SET role = 'user' WHERE name = 'eva'", []).unwrap();
    db.execute("UPDATE api_key SET scopes = 'media:read' WHERE id = ?", [made["id"].as_str().unwrap()]).unwrap();
    all_end(demoted.into_iter().chain([narrowed]), Instant::now());
    control.goes_on();
}

#[test]
fn a_request_whose_key_is_revoked_while_its_body_arrives_is_refused() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    let made = i.command(&["key", "create"]);
    let body = r#"{"url":"https://example.com/a.mp4"}"#;
    let mut tls = connect(i.tls, &i.authority(), rustls::ALL_VERSIONS).unwrap();
    write!(
        tls,
        "POST /api/download HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-API-Key: {}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{}",
        made["key"].as_str().unwrap(),
        body.len(),
        &body[..9]
    )
    .unwrap();
    // The head was judged, and the gateway waits for the rest of the body.
    eventually("the key's use", || last_used(&i, &made["id"]).is_string().then_some(()));
    i.command(&["key", "revoke", made["id"].as_str().unwrap()]);
    tls.write_all(&body.as_bytes()[9..]).unwrap();
    let mut response = String::new();
    let _ = tls.read_to_string(&mut response);
    assert!(response.starts_with("HTTP/1.1 401 ") && response.contains("bad_credential"), "{response}");
    assert!(canary.seen().is_empty());
}

#[test]
fn revocations_are_enforced_even_if_other_state_cannot_be_read() {
    let canary = Canary::start();
    let i = instance(canary.address);
    let link = command_link(&i, &["/x"]);
    let db = Connection::open(i.path("data/state.db")).unwrap();
    let junk = "INSERT INTO ban VALUES ('not an address', '', 0, NULL, 1)";
    let name = "INSERT INTO user (name, role, created) VALUES ('not a name!', 'user', 0)";
    let keys = i.path("data/secrets/link.keys");
    let [ours, theirs] =
        ["link.keys", "offlinetube.key"].map(|name| fs::read(i.path("data/secrets").join(name)).unwrap());
    let revoked = |what: &str| {
        let made = i.command(&["key", "create"]);
        let by_key = || i.send(&Request::new("GET", "/a").key(made["key"].as_str().unwrap())).status;
        assert_eq!(by_key(), 200, "{what}");
        let output = i.output(&["key", "revoke", made["id"].as_str().unwrap()]);
        assert!(output.status.success(), "{what}: {output:?}");
        assert_eq!(by_key(), 401, "{what}");
        assert_eq!(get(&i, &link).0, 200, "{what}: links are verified with the last readable keys");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert_eq!(revoked("nothing"), "");
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(revoked("a file that others can read").contains("link.keys"));
    let rotated = i.output(&["link", "rotate"]);
    assert!(!rotated.status.success(), "{rotated:?}");
    fs::remove_file(&keys).unwrap();
    assert!(revoked("a file that is gone").contains("link.keys"));
    assert!(!keys.exists(), "a new file would invalidate every link");
    fs::remove_file(i.path("data/secrets/offlinetube.key")).unwrap();
    assert!(revoked("two files that are gone").contains("offlinetube.key"));
    for (name, bytes) in [("link.keys", ours), ("offlinetube.key", theirs)] {
        fs::write(i.path("data/secrets").join(name), bytes).unwrap();
        fs::set_permissions(i.path("data/secrets").join(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    assert_eq!(revoked("nothing after the repair"), "");
    db.execute(junk, []).unwrap();
    assert!(revoked("a ban").contains("state database"));
    db.execute("DELETE FROM ban", []).unwrap();
    db.execute(name, []).unwrap();
    assert_eq!(revoked("a user with an invalid name, who is ignored"), "");
}
