//! The page on the plain port that helps devices to trust the local authority.

use std::{fs, net::TcpStream, process::Command};

use data_encoding::{BASE64, HEXLOWER};
use sha2::{Digest, Sha256};

use crate::{
    canary::Canary,
    client::{Response, finish, send_plain},
    instance::{Instance, run},
};

const PATHS: [&str; 4] =
    ["/.sallyport/trust", "/.sallyport/ca.crt", "/.sallyport/ca.pem", "/.sallyport/ca.mobileconfig"];

fn fetch(i: &Instance, method: &str, path: &str) -> Response {
    send_plain(i.plain, format!("{method} {path} HTTP/1.1\r\nHost: 192.168.1.2:8080\r\n\r\n").as_bytes())
}

/// Returns the fingerprint that openssl computes for a certificate in this format.
fn fingerprint(i: &Instance, form: &str, bytes: &[u8]) -> String {
    fs::write(i.path("certificate"), bytes).unwrap();
    let mut openssl = Command::new("openssl");
    openssl.args(["x509", "-noout", "-fingerprint", "-sha256", "-inform", form, "-in"]).arg(i.path("certificate"));
    let output = openssl.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().split_once('=').unwrap().1.to_owned()
}

#[test]
fn page_and_files_show_the_same_certificate() {
    let i = Instance::start(&Canary::start());
    let expected = fingerprint(&i, "PEM", &fs::read(i.authority()).unwrap());
    let [page, der, pem, profile] = PATHS.map(|path| fetch(&i, "GET", path));
    let types = [&page, &der, &pem, &profile].map(|response| response.header("content-type").unwrap().to_owned());
    assert_eq!(
        types,
        [
            "text/html; charset=utf-8",
            "application/x-x509-ca-cert",
            "application/x-pem-file",
            "application/x-apple-aspen-config"
        ]
    );
    let page = String::from_utf8(page.body).unwrap();
    assert!(page.contains(&format!(">{expected}<")), "{page}");
    assert!(page.contains("Sallyport local authority ") && !page.contains("{{"), "{page}");
    for path in PATHS.iter().skip(1) {
        assert!(page.contains(&format!("href=\"{path}\"")), "{path}");
    }
    assert_eq!(fingerprint(&i, "DER", &der.body), expected);
    assert_eq!(HEXLOWER.encode(&Sha256::digest(&der.body)), expected.replace(':', "").to_lowercase());
    assert_eq!(fingerprint(&i, "PEM", &pem.body), expected);
    assert_eq!(pem.body, fs::read_to_string(i.authority()).unwrap().replace("\r\n", "\n").into_bytes());
    let profile = String::from_utf8(profile.body).unwrap();
    let data = profile.split_once("<data>").unwrap().1.split_once("</data>").unwrap().0;
    assert_eq!(BASE64.decode(data.as_bytes()).unwrap(), der.body);
    assert!(profile.contains("<string>com.apple.security.root</string>") && !profile.contains("{{"));
}

#[test]
fn the_page_can_load_nothing_and_cannot_be_framed() {
    let i = Instance::start(&Canary::start());
    for path in PATHS {
        let response = fetch(&i, "GET", path);
        assert_eq!(response.status, 200, "{path}");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
            ("cache-control", "no-store"),
            ("connection", "close"),
        ] {
            assert_eq!(response.headers(name), [value], "{path} {name}");
        }
        assert!(response.header("x-request-id").is_some() && response.header("date").is_some());
        let policy = response.headers("content-security-policy");
        assert_eq!(policy.len(), 1);
        assert!(policy[0].starts_with("default-src 'none';") && policy[0].contains("frame-ancestors 'none'"));
        assert!(!policy[0].contains("unsafe") && !policy[0].contains("script"), "{policy:?}");
        let page = String::from_utf8_lossy(&response.body);
        if let Some((_, style)) = page.split_once("<style>") {
            let hash = BASE64.encode(&Sha256::digest(style.split_once("</style>").unwrap().0));
            assert!(policy[0].contains(&format!("style-src 'sha256-{hash}'")), "{policy:?}");
        }
    }
}

#[test]
fn only_get_and_head_are_answered() {
    let i = Instance::start(&Canary::start());
    for path in PATHS {
        let get = fetch(&i, "GET", path);
        let head = fetch(&i, "HEAD", path);
        assert_eq!((head.status, head.body.len()), (200, 0));
        assert_eq!(head.header("content-length"), Some(&*get.body.len().to_string()));
        for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
            let refused = fetch(&i, method, path);
            assert_eq!((refused.status, refused.header("allow")), (405, Some("GET, HEAD")), "{method} {path}");
        }
        assert_eq!(fetch(&i, "GET", &format!("{path}?x=y")).body, get.body);
    }
    for path in ["/", "/.sallyport", "/.sallyport/", "/.sallyport/trust/", "/.sallyport/%74rust", "/.sallyport/ca.key"]
    {
        let response = fetch(&i, "GET", path);
        assert_eq!((response.status, response.body.len()), (308, 0), "{path}");
    }
    assert_eq!(i.get(PATHS[0]).status, 404, "there is no such page over TLS");
}

#[test]
fn clients_from_other_networks_are_redirected_to_tls() {
    let i = Instance::with(&Canary::start().address.to_string(), |i| {
        i.replace("trusted_proxies = []", "trusted_proxies = [\"127.0.0.0/8\"]");
        i.replace("proxy_protocol = false", "proxy_protocol = true");
    });
    let from = |client: &str, forwarded: &str, path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: {forwarded}\r\n\r\n");
        let stream = TcpStream::connect(i.plain).unwrap();
        finish(stream, format!("PROXY {client} 1 2\r\n{request}").as_bytes()).status
    };
    for path in PATHS {
        for client in ["TCP4 203.0.113.7 127.0.0.1", "TCP4 100.64.0.1 127.0.0.1", "TCP6 2001:db8::1 ::1"] {
            assert_eq!(from(client, "192.168.1.2", path), 308, "{client}");
        }
        for client in ["TCP4 192.168.1.2 127.0.0.1", "TCP4 10.0.0.1 127.0.0.1", "TCP6 fd00::1 ::1"] {
            assert_eq!(from(client, "203.0.113.7", path), 200, "{client}");
        }
        let proxy = "TCP4 127.0.0.2 127.0.0.1";
        assert_eq!(
            (from(proxy, "203.0.113.7", path), from(proxy, "192.168.1.2", path)),
            (308, 200),
            "the proxy's header decides"
        );
    }
}

#[test]
fn without_a_local_authority_there_is_no_page() {
    let i = Instance::with(&Canary::start().address.to_string(), |i| {
        i.replace("mode = \"local-ca\"", "mode = \"files\"\ncert = \"certs/server.pem\"\nkey = \"certs/server.key\"");
    });
    for path in PATHS {
        assert_eq!(fetch(&i, "GET", path).status, 308, "{path}");
    }
}

#[test]
fn init_says_where_the_page_is() {
    let dir = tempfile::tempdir().unwrap();
    let output = run(&["init", "--dir", dir.path().to_str().unwrap()]);
    let said = String::from_utf8(output.stdout).unwrap();
    let url = said.lines().find(|line| line.starts_with("http://")).unwrap();
    assert!(url.ends_with(":8080/.sallyport/trust"), "{said}");
}
