//! TLS: versions, protocols, changing certificates, and redirects from the plain port.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    process::Command,
    sync::Arc,
    thread,
    time::Duration,
};

use rustls::{
    HandshakeKind, NamedGroup,
    crypto::{
        CryptoProvider, SupportedKxGroup,
        aws_lc_rs::{self, kx_group},
    },
};

use crate::{
    canary::Canary,
    client::{Request, client_config, client_config_with, connect, finish, handshake, send_plain},
    instance::{Instance, eventually},
};

#[test]
fn tls_1_2_and_1_3_are_supported_with_http_1_1_and_2() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    for (version, expected) in [(&rustls::version::TLS12, "TLSv1.2"), (&rustls::version::TLS13, "TLSv1.3")] {
        let mut stream = connect(i.tls, &i.authority(), &[version]).unwrap();
        stream.write_all(&Request::new("GET", "/api/downloads").key(i.key()).bytes()).unwrap();
        let mut response = String::new();
        let _ = stream.read_to_string(&mut response);
        assert!(response.starts_with("HTTP/1.1 200"), "{response}");
        eventually("the version in the log", || {
            fs::read_to_string(i.path("data/access.log")).ok()?.contains(expected).then_some(())
        });
    }
    let http2 = curl(
        &i,
        &["-H", &format!("X-API-Key: {}", i.key()), "-w", "%{http_version}", "-o", "/dev/null"],
        "/api/downloads",
    );
    assert_eq!(http2, "2");
}

#[test]
fn the_modern_profile_supports_only_tls_1_3_and_both_accept_the_hybrid_key_exchange() {
    let canary = Canary::start();
    for (profile, speaks_1_2) in [("intermediate", true), ("modern", false)] {
        let i = Instance::with(&canary.address.to_string(), |i| {
            i.replace("profile = \"intermediate\"", &format!("profile = \"{profile}\""));
        });
        let speaks = |version| connect(i.tls, &i.authority(), &[version]).is_ok();
        assert_eq!((speaks(&rustls::version::TLS13), speaks(&rustls::version::TLS12)), (true, speaks_1_2), "{profile}");
        let group = |kx_groups: &[&'static dyn SupportedKxGroup]| {
            let provider = CryptoProvider { kx_groups: kx_groups.to_vec(), ..aws_lc_rs::default_provider() };
            let config = Arc::new(client_config_with(provider, &i.authority(), rustls::ALL_VERSIONS));
            let stream = handshake(TcpStream::connect(i.tls).unwrap(), &config, "localhost").ok()?;
            Some(stream.conn.negotiated_key_exchange_group()?.name())
        };
        assert_eq!(group(aws_lc_rs::DEFAULT_KX_GROUPS), Some(NamedGroup::X25519MLKEM768), "{profile}");
        assert_eq!(group(&[kx_group::X25519]), Some(NamedGroup::X25519));
        assert_eq!(group(&[kx_group::MLKEM768]), None, "the post-quantum half alone is refused");
    }
}

#[test]
fn a_returning_client_resumes_its_session() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let config = Arc::new(client_config(&i.authority(), &[version]));
        let kinds = [(); 3].map(|()| {
            let mut stream = handshake(TcpStream::connect(i.tls).unwrap(), &config, "localhost").unwrap();
            let kind = stream.conn.handshake_kind().unwrap();
            let request = Request::new("GET", "/api/downloads").key(i.key());
            assert_eq!(finish(&mut stream, &request.bytes()).status, 200);
            kind
        });
        assert_eq!(kinds, [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed], "{version:?}");
    }
}

#[test]
fn the_local_authority_serves_every_name_and_address_of_this_machine() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    for host in ["localhost", "127.0.0.1"] {
        let url = format!("https://{host}:{}/", i.tls.port());
        let output = Command::new("curl")
            .args(["-sS", "-o", "/dev/null", "--cacert"])
            .arg(i.authority())
            .arg(&url)
            .output()
            .unwrap();
        assert!(output.status.success(), "{url}: {output:?}");
    }
    let other = Instance::made(&[]);
    assert!(
        connect(i.tls, &other.authority(), rustls::ALL_VERSIONS).is_err(),
        "another instance's authority is not trusted here"
    );
}

#[test]
fn a_changed_certificate_is_served_and_a_broken_one_keeps_the_old() {
    let canary = Canary::start();
    let other = Instance::made(&[]);
    let i = Instance::with(&canary.address.to_string(), |i| {
        fs::create_dir(i.path("own")).unwrap();
        copy(i, i, "own");
        i.replace("mode = \"local-ca\"", "mode = \"files\"\ncert = \"own/server.pem\"\nkey = \"own/server.key\"");
    });
    let trusted_by = |who: &Instance| connect(i.tls, &who.authority(), rustls::ALL_VERSIONS).is_ok();
    assert!(trusted_by(&i) && !trusted_by(&other));
    copy(&other, &i, "own");
    eventually("the new certificate", || trusted_by(&other).then_some(()));
    fs::write(i.path("own/server.pem"), "-----BEGIN CERTIFICATE-----\nbroken").unwrap();
    eventually("a word about it", || i.stderr().contains("still serving the old one").then_some(()));
    assert!(trusted_by(&other));
    fs::copy(i.path("certs/server.pem"), i.path("own/server.pem")).unwrap();
    eventually("a word about key and certificate", || {
        (i.stderr().matches("still serving the old one").count() >= 2).then_some(())
    });
    assert!(trusted_by(&other), "a certificate without its key counts as broken");
    copy(&i, &i, "own");
    eventually("the first certificate again", || trusted_by(&i).then_some(()));
}

#[test]
fn a_certificate_that_is_being_written_is_served_once_it_stops_changing() {
    let canary = Canary::start();
    let other = Instance::made(&[]);
    let i = Instance::with(&canary.address.to_string(), |i| {
        fs::create_dir(i.path("own")).unwrap();
        copy(i, i, "own");
        i.replace("mode = \"local-ca\"", "mode = \"files\"\ncert = \"own/server.pem\"\nkey = \"own/server.key\"");
    });
    let replaced = || i.stderr().matches("the certificate was replaced").count();
    fs::copy(other.path("certs/server.key"), i.path("own/server.key")).unwrap();
    let chain = fs::read_to_string(other.path("certs/server.pem")).unwrap();
    for n in 0..30 {
        fs::write(i.path("own/server.pem"), format!("{chain}# {n}\n")).unwrap();
        // The interval is the subject: the file changes more often than the gateway looks at it.
        thread::sleep(Duration::from_millis(150));
        assert_eq!(replaced(), 0, "{n}");
    }
    eventually("the new certificate", || (replaced() == 1).then_some(()));
    assert!(connect(i.tls, &other.authority(), rustls::ALL_VERSIONS).is_ok());
}

fn copy(from: &Instance, to: &Instance, folder: &str) {
    for name in ["server.pem", "server.key"] {
        fs::copy(from.path("certs").join(name), to.path(folder).join(name)).unwrap();
    }
}

#[test]
fn the_plain_port_redirects_every_client_to_tls() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    let get = |host: &str, target: &str| {
        send_plain(i.plain, format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes())
    };
    let response = get("home.example:8080", "/a%20b?c=d");
    assert_eq!(response.status, 308);
    // The instance was created for port 8443, which `init` also used as the public port.
    let port = i.tls.port();
    assert_eq!(response.header("location"), Some(&*format!("https://home.example:{port}/a%20b?c=d")));
    let post = b"POST /api/download HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello";
    assert_eq!(send_plain(i.plain, post).status, 308);
    for host in ["", "evil.example/@", "a b"] {
        assert_eq!(get(host, "/").status, 400, "{host:?}");
    }
    assert!(canary.seen().is_empty());
}

#[test]
fn behind_a_router_that_forwards_443_each_client_is_redirected_to_the_port_that_it_can_reach() {
    let i = Instance::with(&Canary::start().address.to_string(), |i| {
        i.replace("listen = [", "public_url = \"https://home.example\"\nlisten = [");
        i.replace("trusted_proxies = []", "trusted_proxies = [\"127.0.0.0/8\"]");
    });
    let plain = i.plain.port();
    let tls = i.tls.port();
    let sent = |client: &str, host: &str| {
        let request = format!("GET /a?b HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-For: {client}\r\n\r\n");
        send_plain(i.plain, request.as_bytes()).header("location").unwrap().to_owned()
    };
    for (client, host, url) in [
        ("192.168.1.7", format!("192.168.1.5:{plain}"), format!("https://192.168.1.5:{tls}/a?b")),
        ("192.168.1.7", format!("nas.local:{plain}"), format!("https://nas.local:{tls}/a?b")),
        ("127.0.0.1", format!("localhost:{plain}"), format!("https://localhost:{tls}/a?b")),
        ("192.168.1.7", "home.example".to_owned(), "https://home.example/a?b".to_owned()),
        ("192.168.1.7", format!("home.example:{plain}"), "https://home.example/a?b".to_owned()),
        ("192.0.2.7", "home.example".to_owned(), "https://home.example/a?b".to_owned()),
        ("192.0.2.7", format!("videos.example:{plain}"), "https://videos.example/a?b".to_owned()),
    ] {
        assert_eq!(sent(client, &host), url, "{client} {host}");
    }
}

fn curl(i: &Instance, args: &[&str], path: &str) -> String {
    let resolve = format!("localhost:{}:127.0.0.1", i.tls.port());
    let mut command = Command::new("curl");
    command.args(["-sS", "--cacert"]).arg(i.authority()).args(["--resolve", &resolve]).args(args);
    let output = command.arg(format!("https://localhost:{}{path}", i.tls.port())).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}
