//! Server names: each gets its certificate, and a connection accepts requests for the names that its certificate covers.

use std::{fs, net::TcpStream, path::PathBuf, process::Command, sync::Arc};

use crate::{
    canary::Canary,
    client::{self, Response},
    instance::{Instance, eventually},
};

/// Starts a gateway with a second certificate, for b.example and *.b.example, besides the local authority's.
fn gateway(canary: &Canary, change: impl FnOnce(&Instance)) -> Instance {
    Instance::with(&canary.address.to_string(), |i| {
        write_certificate(i, &["b.example", "*.b.example"]);
        i.replace("\n[jwt]\n", "\n[[tls.certificate]]\ncert = \"b.pem\"\nkey = \"b.key\"\n\n[jwt]\n");
        change(i);
    })
}

fn write_certificate(i: &Instance, names: &[&str]) {
    let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    fs::write(i.path("b.key"), made.signing_key.serialize_pem()).unwrap();
    fs::write(i.path("b.pem"), made.cert.pem()).unwrap();
}

/// Returns the roots of a client that trusts both certificates.
fn roots(i: &Instance) -> PathBuf {
    let both = [i.authority(), i.path("b.pem")].map(|path| fs::read(path).unwrap()).concat();
    fs::write(i.path("roots.pem"), both).unwrap();
    i.path("roots.pem")
}

/// Sends a request for `host` over a connection for `name`.
fn get(i: &Instance, name: &str, host: &str) -> std::io::Result<Response> {
    let config = Arc::new(client::client_config(&roots(i), rustls::ALL_VERSIONS));
    let stream = client::handshake(TcpStream::connect(i.tls)?, &config, name)?;
    let request =
        format!("GET /api/downloads HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nX-API-Key: {}\r\n\r\n", i.key());
    Ok(client::finish(stream, request.as_bytes()))
}

#[test]
fn each_name_gets_its_certificate_and_changed_certificates_are_served() {
    let canary = Canary::start();
    let i = gateway(&canary, |_| ());
    let status = |name: &str| get(&i, name, name).map(|a| a.status).ok();
    for name in ["localhost", "127.0.0.1", "b.example", "a.b.example"] {
        assert_eq!(status(name), Some(200), "{name}");
    }
    assert_eq!(status("c.example"), None, "no certificate covers it");
    write_certificate(&i, &["c.example"]);
    eventually("the new certificate", || status("c.example"));
    assert_eq!((status("b.example"), status("localhost")), (None, Some(200)));
}

#[test]
fn a_request_for_a_host_that_the_certificate_does_not_cover_is_misdirected() {
    let canary = Canary::start();
    let i = gateway(&canary, |_| ());
    for (name, host) in [
        ("localhost", "b.example"),
        ("b.example", "localhost"),
        ("a.b.example", "c.example:8443"),
        ("b.example", "127.0.0.1"),
    ] {
        let response = get(&i, name, host).unwrap();
        assert_eq!((response.status, response.code().as_str()), (421, "misdirected"), "{host} over {name}");
        let line = i.log_line(&response);
        assert_eq!((&line["code"], &line["host"]), (&"misdirected".into(), &host.into()));
    }
    assert!(canary.seen().is_empty());
}

#[test]
fn a_connection_accepts_requests_for_every_name_of_its_certificate() {
    let canary = Canary::start();
    let i = gateway(&canary, |_| ());
    for (name, host) in [
        ("localhost", "LOCALHOST:8443"),
        ("localhost", "127.0.0.1"),
        ("localhost", "[::1]:8443"),
        ("b.example", "a.b.example"),
        ("a.b.example", "B.example:443"),
    ] {
        assert_eq!(get(&i, name, host).unwrap().status, 200, "{host} over {name}");
    }
    assert_eq!(get(&i, "127.0.0.1", "c.example").unwrap().status, 200, "a client that sends no server name");
}

#[test]
fn a_connection_for_an_uncovered_name_accepts_that_name_and_those_of_the_default_certificate() {
    let canary = Canary::start();
    let i = gateway(&canary, |_| ());
    let status = |host: &str| {
        let place = format!("unknown.example:{}", i.tls.port());
        let output = Command::new("curl")
            .args([
                "-sSk",
                "--http1.1",
                "-o",
                "/dev/null",
                "-w",
                "%{http_code}",
                "--resolve",
                &format!("{place}:127.0.0.1"),
            ])
            .args(["-H", &format!("Host: {host}"), "-H", &format!("X-API-Key: {}", i.key())])
            .arg(format!("https://{place}/api/downloads"))
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!((status("unknown.example"), status("localhost")), ("200".to_owned(), "200".to_owned()));
    assert_eq!((status("b.example"), status("other.example")), ("421".to_owned(), "421".to_owned()));
}

#[test]
fn a_trusted_proxys_connection_accepts_requests_for_every_host() {
    let canary = Canary::start();
    let i = gateway(&canary, |i| i.replace("trusted_proxies = []", "trusted_proxies = [\"127.0.0.1/32\"]"));
    assert_eq!(get(&i, "localhost", "b.example").unwrap().status, 200);
}

#[tokio::test]
async fn http2_streams_must_match_the_name_of_their_connection() {
    let canary = Canary::start();
    let i = gateway(&canary, |_| ());
    let stream = client::connect_http2(i.tls, &i.authority()).await;
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    for (host, expected) in [("localhost", 200), ("b.example", 421), ("127.0.0.1", 200)] {
        let request = http::Request::get(format!("https://{host}/api/downloads")).header("x-api-key", i.key());
        let (response, _) = client.send_request(request.body(()).unwrap(), true).unwrap();
        assert_eq!(response.await.unwrap().status(), expected, "{host}");
    }
}
