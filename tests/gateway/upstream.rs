//! Upstream applications that are down, slow, or on a Unix socket.

use std::time::{Duration, Instant};

use crate::{
    canary::{Canary, nobody, silent},
    client::Request,
    instance::Instance,
};

#[test]
fn an_application_that_is_down_is_reported_within_three_seconds() {
    let i = Instance::with(&nobody().to_string(), |_| ());
    let start = Instant::now();
    let response = i.get("/api/downloads");
    assert_eq!((response.status, response.code().as_str()), (502, "upstream_unreachable"));
    assert!(start.elapsed() < Duration::from_secs(3));
    assert_eq!(response.header("vary"), Some("Origin"), "also on a response of this kind");
    let line = i.log_line(&response);
    assert_eq!(
        (&line["status"], &line["code"], &line["user"]),
        (&502.into(), &"upstream_unreachable".into(), &"admin".into())
    );
}

#[test]
fn an_application_that_is_too_slow_times_out() {
    let i = Instance::with(&silent().to_string(), |i| i.replace("timeout = \"60s\"   #", "timeout = \"1s\" #"));
    let response = i.get("/api/downloads");
    assert_eq!((response.status, response.code().as_str()), (504, "upstream_timeout"));
    let canary = Canary::with(Duration::from_millis(1_200));
    let i = Instance::start(&canary);
    assert_eq!(i.get("/api/downloads").status, 200, "slow, but within the timeout");
}

#[test]
fn an_upstream_can_be_a_unix_socket() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("app.sock");
    let canary = Canary::on_socket(&socket);
    let i = Instance::with(&format!("unix:{}", socket.display()), |_| ());
    assert_eq!(i.get("/api/downloads").body, b"canary");
    assert_eq!(canary.only().header("remote-user"), ["admin"]);
}

#[test]
fn a_request_goes_to_the_first_app_whose_host_and_prefix_match() {
    let one = Canary::start();
    let two = Canary::start();
    let i = Instance::with(&one.address.to_string(), |i| {
        let second = format!(
            "hosts = [\"one.example\"]\nprefix = \"/\"\n\n[[app]]\nname = \"two\"\npolicy = \"worker\"\nupstream = \"{}\"\nprefix = \"/api/stream\"\n#",
            two.address
        );
        i.replace("hosts = []        #", &second);
        i.replace("\nprefix = \"/\"\ncors", "\ncors");
        i.replace("names = []", "names = [\"one.example\", \"other.example\"]");
    });
    let get = |host: &str, path: &str| {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nX-API-Key: {}\r\n\r\n", i.key());
        i.send_bytes(request.as_bytes()).status
    };
    assert_eq!(get("one.example", "/api/downloads"), 200);
    assert_eq!(get("ONE.example:8443", "/api/downloads"), 200);
    assert_eq!(get("other.example", "/api/stream/x"), 200);
    assert_eq!(get("other.example", "/api/downloads"), 404);
    assert_eq!(get("other.example", "/api/streams/x"), 404);
    assert_eq!((one.seen().len(), two.seen().len()), (2, 1));
}

#[test]
fn many_requests_share_a_connection_and_each_is_judged() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    let mut bytes = Vec::new();
    let keep = |request: Request| String::from_utf8(request.bytes()).unwrap().replace("Connection: close\r\n", "");
    let mut stream = crate::client::connect(i.tls, &i.authority(), rustls::ALL_VERSIONS).unwrap();
    for request in [
        Request::new("GET", "/api/downloads").key(i.key()),
        Request::new("GET", "/api/downloads"),
        Request::new("GET", "/x").key(i.key()),
    ] {
        std::io::Write::write_all(&mut stream, keep(request).as_bytes()).unwrap();
        let mut buffer = [0; 4096];
        let mut response = Vec::new();
        while !response.ends_with(b"canary") && !response.ends_with(b"}") {
            let n = std::io::Read::read(&mut stream, &mut buffer).unwrap();
            assert!(n > 0, "the connection was closed");
            response.extend_from_slice(&buffer[..n]);
        }
        bytes.push(String::from_utf8_lossy(&response)[9..12].to_owned());
    }
    assert_eq!(bytes, ["200", "401", "404"]);
    assert_eq!(canary.seen().len(), 1);
}

/// Starts a strict app under a prefix or host, and a lax one for the rest, in front of the same upstream.
fn strict_and_lax(canary: &Canary, strict: &str) -> Instance {
    Instance::with(&canary.address.to_string(), |i| {
        let lax =
            "[[route]]\nname = \"all\"\nmethods = [\"GET\"]\npath = \"/{*rest}\"\ncredentials = []\nanonymous = true\n";
        std::fs::write(i.path("policies/lax.toml"), format!("path_parameters = true\n{lax}")).unwrap();
        let second =
            format!("[[app]]\nname = \"lax\"\npolicy = \"lax\"\nupstream = \"{}\"\n\n[insecure]", canary.address);
        i.replace("[insecure]", &second);
        i.replace("names = []", "names = [\"localhost\", \"a.example\", \"b.example\"]");
        let place = if strict.starts_with("prefix") { "prefix = \"/\"" } else { "hosts = []" };
        i.replace(&format!("\n{place}"), &format!("\n{strict}"));
    })
}

#[test]
fn no_spelling_of_a_prefix_bypasses_its_app() {
    let canary = Canary::start();
    let i = strict_and_lax(&canary, "prefix = \"/api\"");
    let get = |path: &str| i.send(&Request::new("GET", path)).status;
    for path in [
        "/api/downloads",
        "/%61pi/downloads",
        "/ap%69/downloads",
        "/api;v=1/downloads",
        "/api%3Bv=1/downloads",
        "/api/x",
        "/api",
    ] {
        assert!((400..500).contains(&get(path)), "{path}");
    }
    assert!(canary.seen().is_empty(), "{:?}", canary.seen());
    assert_eq!((get("/other"), get("/apix"), get("/x;v=1")), (200, 200, 200));
}

#[test]
fn no_spelling_of_a_host_bypasses_its_app() {
    let canary = Canary::start();
    let i = strict_and_lax(&canary, "hosts = [\"a.example\"]");
    let get = |host: &str| {
        i.send_bytes(format!("GET /api/downloads HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes())
            .status
    };
    for host in
        ["a.example", "A.EXAMPLE", "a.example:443", "a.example.", "a.example.:443", "a.example:443:1", "a.example:"]
    {
        assert!((400..500).contains(&get(host)), "{host}");
    }
    assert!(canary.seen().is_empty(), "{:?}", canary.seen());
    assert_eq!(get("b.example"), 200);
}

#[test]
fn a_link_is_created_for_the_app_that_serves_its_path() {
    let canary = Canary::start();
    let i = strict_and_lax(&canary, "prefix = \"/elsewhere\"");
    i.replace("[[app]]\nname = \"lax\"\npolicy = \"lax\"", "[[app]]\nname = \"lax\"\npolicy = \"worker\"");
    let mut i = i;
    i.kill();
    i.start_role("gateway");
    let made = i.post("/.sallyport/links", "{\"path\":\"/api/stream/x\"}");
    assert_eq!(made.status, 201, "{made:?}");
    let url = made.json()["url"].as_str().unwrap().to_owned();
    assert_eq!(i.send(&Request::new("GET", url.split_once("localhost").unwrap().1)).status, 200);
}
