//! Client certificates: whom they authenticate, which are refused, and what other sites' pages cannot do with them.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
    sync::Arc,
    time::Duration,
};

use data_encoding::BASE64URL_NOPAD as B64;
use rcgen::{DnType, ExtendedKeyUsagePurpose, SanType};
use rustls::{
    ClientConfig, HandshakeKind,
    version::{TLS12, TLS13},
};
use serde_json::Value;

use crate::{
    canary::Canary,
    client::{Request, Response, Tls, finish, handshake, try_finish},
    client_authority::{Authority, Shown, from_now},
    instance::{Instance, eventually},
};

const PATH: &str = "/api/downloads";

/// Starts a gateway that requests certificates of `authority` and has a user ana.
pub(crate) fn gateway(upstream: &SocketAddr, authority: &Authority, more: &str) -> Instance {
    gateway_with(upstream, authority, more, |_| ())
}

pub(crate) fn gateway_with(
    upstream: &SocketAddr,
    authority: &Authority,
    more: &str,
    change: impl FnOnce(&Instance),
) -> Instance {
    Instance::with(&upstream.to_string(), |i| {
        fs::write(i.path("clients.pem"), &authority.pem).unwrap();
        i.replace("\n[jwt]\n", &format!("\n[tls.clients]\nca = \"clients.pem\"\n{more}\n\n[jwt]\n"));
        i.command(&["user", "add", "ana"]);
        change(i);
    })
}

pub(crate) fn open(i: &Instance, client: &Arc<ClientConfig>) -> std::io::Result<Tls> {
    let tcp = TcpStream::connect(i.tls)?;
    tcp.set_read_timeout(Some(Duration::from_secs(20)))?;
    handshake(tcp, client, "localhost")
}

/// Returns `None` if the connection closes during its handshake, which a TLS 1.3 client notices only afterwards.
pub(crate) fn fetch(i: &Instance, shown: &Shown, request: &Request) -> Option<Response> {
    fetch_as(i, &shown.client(&i.authority(), rustls::ALL_VERSIONS), request)
}

pub(crate) fn fetch_as(i: &Instance, client: &Arc<ClientConfig>, request: &Request) -> Option<Response> {
    try_finish(open(i, client).ok()?, &request.bytes())
}

pub(crate) fn get() -> Request {
    Request::new("GET", PATH)
}

fn status_and_code(response: &Response) -> (u16, String) {
    (response.status, if response.status < 400 { String::new() } else { response.code() })
}

/// Sends one request over a connection that stays open.
pub(crate) fn exchange(stream: &mut Tls) -> (u16, String) {
    write!(stream, "GET {PATH} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut head = String::new();
    let mut byte = [0];
    while !head.ends_with("\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(char::from(byte[0]));
    }
    let length = head.lines().find_map(|l| l.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap()];
    stream.read_exact(&mut body).unwrap();
    let problem: Value = serde_json::from_slice(&body).unwrap_or_default();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), problem["code"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn a_certificate_authenticates_its_user_even_when_its_session_is_resumed() {
    let canary = Canary::start();
    let authority = Authority::new("clients");
    let i = gateway(&canary.address, &authority, "");
    for version in [&TLS12, &TLS13] {
        let client = authority.sign("ana").client(&i.authority(), &[version]);
        let kinds = [(); 3].map(|()| {
            let mut stream = open(&i, &client).unwrap();
            let response = finish(&mut stream, &get().bytes());
            assert_eq!(response.status, 200, "{response:?}");
            let line = i.log_line(&response);
            assert_eq!((&line["user"], &line["credential"]), (&"ana".into(), &"client-certificate".into()));
            stream.conn.handshake_kind().unwrap()
        });
        assert_eq!(kinds, [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed], "{version:?}");
    }
    let admin = fetch(&i, &authority.sign("admin"), &get()).unwrap();
    assert_eq!(admin.status, 200);
    let seen = canary.seen();
    let stated = |i: usize| {
        let payload = seen[i].header("x-sallyport-statement")[0].split('.').nth(1).unwrap().to_owned();
        let payload: Value = serde_json::from_slice(&B64.decode(payload.as_bytes()).unwrap()).unwrap();
        (payload["user"].clone(), payload["role"].clone())
    };
    assert_eq!((stated(0), stated(6)), (("ana".into(), "user".into()), ("admin".into(), "admin".into())));
    assert_eq!(seen[0].header("remote-user"), ["ana"]);
}

#[test]
fn a_client_without_a_certificate_can_use_another_credential() {
    let canary = Canary::start();
    let authority = Authority::new("clients");
    let i = gateway(&canary.address, &authority, "");
    assert_eq!(status_and_code(&i.send(&get())), (401, "not_authenticated".into()));
    assert_eq!(i.get(PATH).status, 200);
}

#[test]
fn a_wrong_certificate_ends_the_handshake() {
    let canary = Canary::start();
    let authority = Authority::new("clients");
    let i = gateway_with(&canary.address, &authority, "crl = [\"revoked.pem\"]", |i| {
        fs::write(i.path("revoked.pem"), authority.revoke(&[7])).unwrap();
    });
    let between = |from, to| {
        authority.sign_with("ana", |p| (p.not_before, p.not_after) = (from_now(from).into(), from_now(to).into()))
    };
    let server_only = authority.sign_with("ana", |p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    for (what, wrong) in [
        ("another authority's", Authority::new("clients").sign("ana")),
        ("expired", between(-7_200, -10)),
        ("not valid yet", between(3_600, 7_200)),
        ("a server's", server_only),
        ("revoked", authority.sign_numbered("ana", 7, &[])),
    ] {
        for version in [&TLS12, &TLS13] {
            let client = wrong.client(&i.authority(), &[version]);
            for request in [get(), get().key(i.key())] {
                let response = fetch_as(&i, &client, &request);
                assert!(response.is_none(), "{what} {version:?}: {response:?}");
            }
        }
    }
    assert!(canary.seen().is_empty());
    assert_eq!(fetch(&i, &authority.sign_numbered("ana", 8, &[]), &get()).unwrap().status, 200);
}

#[test]
fn a_certificate_of_an_unknown_user_is_refused_with_its_own_reason() {
    let canary = Canary::start();
    let authority = Authority::new("clients");
    let i = gateway(&canary.address, &authority, "");
    let named_too = |kind: DnType| authority.sign_with("ana", |p| p.distinguished_name.push(kind, "ben"));
    let unit = named_too(DnType::OrganizationalUnitName);
    assert_eq!(fetch(&i, &unit, &get()).unwrap().status, 200, "only the common name counts");
    let both = named_too(DnType::CustomDnType(vec![2, 5, 4, 3]));
    let nobody = authority.sign_with("ben", |p| p.distinguished_name.remove(DnType::CommonName).then_some(()).unwrap());
    for shown in
        [authority.sign("ben"), authority.sign("Ana"), authority.sign("a na"), authority.sign("ana\0"), nobody, both]
    {
        let response = fetch(&i, &shown, &get()).unwrap();
        assert_eq!(status_and_code(&response), (401, "unknown_user".into()));
        assert!(response.header("www-authenticate").is_some());
        let line = i.log_line(&response);
        assert_eq!((&line["code"], &line["user"]), (&"unknown_user".into(), &Value::Null));
    }
    assert_eq!(canary.seen().len(), 1);
}

#[test]
fn the_users_name_is_taken_from_the_configured_field() {
    let canary = Canary::start();
    let authority = Authority::new("clients");
    let mail = |name: &str| SanType::Rfc822Name(name.try_into().unwrap());
    let host = |name: &str| SanType::DnsName(name.try_into().unwrap());
    for (field, right, wrong) in [("email", mail("ana"), host("ana")), ("dns", host("ana"), mail("ana"))] {
        let i = gateway(&canary.address, &authority, &format!("user = \"{field}\""));
        let status = |names: &[SanType]| fetch(&i, &authority.sign_numbered("ana", 1, names), &get()).unwrap().status;
        assert_eq!(status(std::slice::from_ref(&right)), 200, "{field}");
        assert_eq!(status(&[right.clone(), wrong.clone()]), 200, "{field}");
        for names in [&[][..], &[wrong], &[right.clone(), right]] {
            assert_eq!(status(names), 401, "{field} {names:?}");
        }
    }
}

#[test]
fn a_certificate_yields_to_an_explicit_credential_and_never_stands_in_for_a_wrong_one() {
    let canary = Canary::start();
    let authority = Authority::new("clients");
    let i = gateway(&canary.address, &authority, "");
    let ana = authority.sign("ana");
    let response = fetch(&i, &ana, &get().key(i.key())).unwrap();
    assert_eq!(i.log_line(&response)["user"], "admin");
    assert_eq!(i.log_line(&response)["credential"], "api-key");
    for (request, expected) in [
        (get().key("sp_wrong"), (401, "bad_credential")),
        (get().bearer("a.b.c"), (401, "bad_credential")),
        (get().header("Authorization", "Digest x"), (401, "bad_credential")),
        (get().key(i.key()).bearer(i.key()), (400, "two_credentials")),
        (Request::new("GET", "/api/stream/a?sp_user=ana&sp_exp=1&sp_kid=k&sp_id=i&sp_sig=AAAA"), (403, "bad_link")),
    ] {
        let response = fetch(&i, &ana, &request).unwrap();
        assert_eq!(status_and_code(&response), (expected.0, expected.1.to_owned()), "{request:?}");
    }
    let unknown = fetch(&i, &authority.sign("ben"), &get().key(i.key())).unwrap();
    assert_eq!(unknown.status, 200, "the explicit key counts, whomever the certificate names");
    assert_eq!(canary.seen().len(), 2);
}

#[test]
fn a_route_that_accepts_no_certificates_ignores_them() {
    let canary = Canary::start();
    let authority = Authority::new("clients");
    let i = gateway_with(&canary.address, &authority, "", |i| {
        let routes = "[[route]]\nname = \"keys\"\nmethods = [\"GET\"]\npath = \"/keys\"\ncredentials = [\"api-key\"]\n\
            [[route]]\nname = \"all\"\nmethods = [\"GET\"]\npath = \"/all\"\n\
            [[route]]\nname = \"open\"\nmethods = [\"GET\"]\npath = \"/open\"\ncredentials = []\nanonymous = true\n";
        fs::write(i.path("policies/own.toml"), routes).unwrap();
        i.replace("policy = \"worker\"", "policy = \"own\"");
    });
    let ana = authority.sign("ana");
    let get = |path: &str| status_and_code(&fetch(&i, &ana, &Request::new("GET", path)).unwrap());
    assert_eq!(get("/keys"), (401, "not_authenticated".into()));
    assert_eq!(get("/all"), (200, String::new()), "by default a route accepts them");
    assert_eq!(get("/open").0, 200);
    let users: Vec<_> = canary.seen().iter().map(|seen| seen.header("remote-user").len()).collect();
    assert_eq!(users, [1, 0]);
}

#[test]
fn pages_of_other_sites_cannot_change_anything_with_a_certificate() {
    let canary = Canary::start();
    let authority = Authority::new("clients");
    let i = gateway_with(&canary.address, &authority, "", |i| {
        i.replace("cors_origins = []", "cors_origins = [\"https://app.example.com\"]");
    });
    let ana = authority.sign("ana");
    let delete = || Request::new("DELETE", "/api/downloads/x");
    let upgrade = || get().header("Connection", "Upgrade").header("Upgrade", "websocket");
    for request in [delete(), upgrade()] {
        for (name, value) in [
            ("Origin", "https://evil.example"),
            ("Origin", "null"),
            ("Sec-Fetch-Site", "cross-site"),
            ("Sec-Fetch-Site", "same-site"),
            ("Origin", "https://app.example.com"),
        ] {
            let response = fetch(&i, &ana, &request.clone().header(name, value)).unwrap();
            assert_eq!(status_and_code(&response), (403, "foreign_origin".into()), "{name}: {value}");
        }
    }
    assert!(canary.seen().is_empty());
    let allowed = delete().header("Origin", "https://app.example.com").header("Sec-Fetch-Site", "cross-site");
    assert_eq!(fetch(&i, &ana, &allowed.clone().key(i.key())).unwrap().status, 200, "that page has its own key");
    for own in [
        delete(),
        delete().header("Sec-Fetch-Site", "none"),
        delete().header("Origin", "https://localhost").header("Sec-Fetch-Site", "same-origin"),
        get().header("Sec-Fetch-Site", "cross-site"),
    ] {
        assert_eq!(fetch(&i, &ana, &own).unwrap().status, 200, "{own:?}");
    }
    i.replace_in("policies/worker.toml", "[cors]\n", "[cors]\ncredentials = true\n");
    eventually("credentials for that page", || {
        fetch(&i, &ana, &allowed).filter(|response| response.status == 200).map(drop)
    });
    assert_eq!(fetch(&i, &ana, &delete().header("Origin", "https://evil.example")).unwrap().status, 403);
}

#[test]
fn a_client_with_a_valid_certificate_is_not_banned_for_wrong_paths() {
    let canary = Canary::start();
    let authority = Authority::new("clients");
    let i = gateway_with(&canary.address, &authority, "", |i| {
        i.replace("shared_addresses = [\"127.0.0.0/8\", \"::1/128\"]", "shared_addresses = []");
        i.replace("include_local = false", "include_local = true");
        i.replace("forbidden_paths = 20", "forbidden_paths = 3");
    });
    let ana = authority.sign("ana");
    for n in 0..6 {
        let response = fetch(&i, &ana, &Request::new("GET", &format!("/wrong/{n}")));
        assert_eq!(response.map(|response| response.status), Some(404), "{n}");
    }
}

#[test]
fn a_trusted_proxys_certificate_is_not_its_clients() {
    let canary = Canary::start();
    let authority = Authority::new("clients");
    let i = gateway_with(&canary.address, &authority, "", |i| {
        i.replace("trusted_proxies = []", "trusted_proxies = [\"127.0.0.1/32\"]");
    });
    let response = fetch(&i, &authority.sign("ana"), &get()).unwrap();
    assert_eq!(status_and_code(&response), (401, "not_authenticated".into()));
}

#[test]
fn an_unusable_authority_prevents_startup_and_is_reported_by_check() {
    let i = Instance::made(&[]);
    i.replace("\n[jwt]\n", "\n[tls.clients]\nca = \"clients.pem\"\n\n[jwt]\n");
    let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
    for text in [None, Some(""), Some("x"), Some(key.as_str())] {
        if let Some(text) = text {
            fs::write(i.path("clients.pem"), text).unwrap();
        }
        let output = i.spawn("gateway", &[]).wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{text:?}");
        assert!(i.stderr().contains("clients.pem"));
        assert_eq!(i.command_fails(&["check"])["ok"], false, "{text:?}");
    }
}

#[tokio::test]
async fn an_http2_stream_belongs_to_its_connections_user() {
    let canary = Canary::start();
    let authority = Authority::new("clients");
    let i = gateway(&canary.address, &authority, "");
    let mut config = ClientConfig::clone(&authority.sign("ana").client(&i.authority(), rustls::ALL_VERSIONS));
    config.alpn_protocols = vec![b"h2".to_vec()];
    let config = Arc::new(config);
    for _ in 0..2 {
        let tcp = tokio::net::TcpStream::connect(i.tls).await.unwrap();
        let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
        let stream = tokio_rustls::TlsConnector::from(Arc::clone(&config)).connect(name, tcp).await.unwrap();
        let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        for (key, expected) in [(None, 200), (Some("sp_wrong"), 401), (Some(i.key()), 200)] {
            let mut request = http::Request::get(format!("https://localhost{PATH}"));
            if let Some(key) = key {
                request = request.header("x-api-key", key);
            }
            let (response, _) = client.send_request(request.body(()).unwrap(), true).unwrap();
            assert_eq!(response.await.unwrap().status(), expected, "{key:?}");
        }
    }
    let users: Vec<_> = canary.seen().iter().map(|seen| seen.header("remote-user").join("")).collect();
    assert_eq!(users, ["ana", "admin", "ana", "admin"]);
}

#[test]
fn a_certificate_that_was_issued_here_works_with_curl_and_openssl() {
    let canary = Canary::start();
    let mut i = Instance::made(&["--app", "worker", "--upstream", &canary.address.to_string()]);
    i.command(&["user", "add", "ana"]);
    let out = i.path("ana.p12");
    let create = |i: &Instance, out: &Path, user: &str| {
        i.output(&["certificate", "create", "--user", user, "--days", "9", "--out", out.to_str().unwrap()])
    };
    assert!(!create(&i, &i.path("x.p12"), "nobody").status.success() && !i.path("certs/clients-ca.pem").exists());
    let made: Value = serde_json::from_slice(&create(&i, &out, "ana").stdout).unwrap();
    assert_eq!(made["in_use"], false);
    assert!(!create(&i, &out, "ana").status.success(), "existing files are not overwritten");
    for name in ["ana.p12", "ana.pem", "certs/clients-ca.key"] {
        assert_eq!(fs::metadata(i.path(name)).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
    }
    assert_ne!(fs::read(i.path("certs/clients-ca.key")).unwrap(), fs::read(i.path("certs/ca.key")).unwrap());

    let password = format!("pass:{}", made["password"].as_str().unwrap());
    let read = |password: &str| {
        let mut openssl = Command::new("openssl");
        openssl.args(["pkcs12", "-nodes", "-passin", password, "-in"]).arg(&out).output().unwrap()
    };
    let text = String::from_utf8(read(&password).stdout).unwrap();
    assert!(text.contains("BEGIN CERTIFICATE") && text.contains("BEGIN PRIVATE KEY"), "{text}");
    assert_eq!(text.matches("BEGIN CERTIFICATE").count(), 1, "it does not contain its authority as something to trust");
    assert!(!read("pass:").status.success());
    fs::write(i.path("unsealed.pem"), text).unwrap();

    i.replace("\n[jwt]\n", "\n[tls.clients]\nca = \"certs/clients-ca.pem\"\n\n[jwt]\n");
    i.start_role("gateway");
    for (file, version) in [("ana.pem", "--http1.1"), ("ana.pem", "--http2"), ("unsealed.pem", "--http2")] {
        let output = Command::new("curl")
            .args(["-sS", version, "-o", "/dev/null", "-w", "%{http_code}", "--cacert"])
            .arg(i.authority())
            .arg("--cert")
            .arg(i.path(file))
            .arg(format!("https://localhost:{}{PATH}", i.tls.port()))
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "200", "{file} {version}: {output:?}");
    }
    let again: Value = serde_json::from_slice(&create(&i, &i.path("second.pem"), "ana").stdout).unwrap();
    assert_eq!((&again["in_use"], &again["pkcs12"]), (&true.into(), &i.path("second.p12").to_str().unwrap().into()));
}

#[test]
fn certificates_are_requested_as_soon_as_the_configuration_says_so() {
    let canary = Canary::start();
    let authority = Authority::new("clients");
    let i = Instance::start(&canary);
    let client = authority.sign("admin").client(&i.authority(), &[&TLS13]);
    assert_eq!(fetch_as(&i, &client, &get()).unwrap().status, 401, "no certificate is requested");
    fs::write(i.path("clients.pem"), &authority.pem).unwrap();
    i.replace("\n[jwt]\n", "\n[tls.clients]\nca = \"clients.pem\"\n\n[jwt]\n");
    eventually("the authority", || fetch_as(&i, &client, &get()).filter(|response| response.status == 200));
    let mut stream = open(&i, &client).unwrap();
    i.replace("\n[tls.clients]\nca = \"clients.pem\"\n", "");
    eventually("its removal", || fetch_as(&i, &client, &get()).filter(|response| response.status == 401));
    assert_eq!(
        exchange(&mut stream),
        (401, "bad_credential".into()),
        "a certificate presented earlier is no longer accepted"
    );
}
