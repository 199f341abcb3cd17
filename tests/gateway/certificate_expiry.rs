//! Client certificates that expire or are revoked, and authorities that change, while the gateway runs.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    thread,
    time::{Duration, Instant},
};

use rustls::version::{TLS12, TLS13};

use crate::{
    canary::Canary,
    client::{Request, Tls},
    client_authority::{Authority, Shown, from_now},
    client_certificates::{exchange, fetch, fetch_as, gateway, gateway_with, get, open},
    instance::{Instance, eventually},
};

#[test]
fn a_certificate_is_checked_on_each_request_of_a_connection_until_it_expires() {
    let canary = Canary::start();
    let authority = Authority::new("clients");
    let i = gateway(&canary.address, &authority, "");
    let short = authority.sign_with("ana", |p| p.not_after = from_now(3).into());
    let mut stream = open(&i, &short.client(&i.authority(), &[&TLS13])).unwrap();
    assert_eq!(exchange(&mut stream).0, 200);
    let refused = eventually("its expiry", || Some(exchange(&mut stream)).filter(|response| response.0 != 200));
    assert_eq!(refused, (401, "expired_credential".into()));
}

/// An upstream whose answer never ends.
fn endless() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n");
                while stream.write_all(b"x").is_ok() {
                    // The pace of the response.
                    thread::sleep(Duration::from_millis(50));
                }
            });
        }
    });
    address
}

/// Returns how long a running answer continues.
fn runs_on(mut stream: Tls, since: Instant) -> Duration {
    let mut buffer = [0; 1024];
    while matches!(stream.read(&mut buffer), Ok(1..)) {
        assert!(since.elapsed() < Duration::from_secs(8), "the response continues");
    }
    since.elapsed()
}

fn begin(i: &Instance, shown: &Shown) -> Tls {
    let mut stream = open(i, &shown.client(&i.authority(), &[&TLS13])).unwrap();
    stream.write_all(&get().bytes()).unwrap();
    assert!(stream.read(&mut [0; 17]).unwrap() > 0);
    stream
}

#[test]
fn removing_a_user_ends_their_keys_certificates_and_running_answers() {
    let authority = Authority::new("clients");
    let i = gateway(&endless(), &authority, "");
    let key = i.new_key(&["--user", "ana"]);
    let ana = authority.sign("ana");
    let other = authority.sign("admin");
    let stream = begin(&i, &ana);
    let untouched = begin(&i, &other);
    let mut idle = open(&i, &ana.client(&i.authority(), &[&TLS12])).unwrap();
    i.command(&["user", "remove", "ana"]);
    let since = Instant::now();
    assert_eq!(exchange(&mut idle), (401, "unknown_user".into()));
    assert_eq!(i.send(&get().key(&key)).status, 401);
    assert!(runs_on(stream, since) < Duration::from_secs(5));
    let users = i.command(&["user", "list"]);
    assert_eq!(users["users"].as_array().unwrap().len(), 1);
    for (name, what) in [("ana", "there is no user"), ("admin", "only administrator")] {
        let output = i.output(&["user", "remove", name]);
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&output.stderr).contains(what), "{output:?}");
    }
    drop(untouched);
}

#[test]
fn revocation_lists_and_authorities_are_replaced_at_run_time() {
    let endless = endless();
    let authority = Authority::new("clients");
    let i = gateway_with(&endless, &authority, "crl = [\"revoked.pem\"]", |i| {
        fs::write(i.path("revoked.pem"), authority.revoke(&[1])).unwrap();
    });
    let shown = authority.sign_numbered("ana", 7, &[]);
    let client = shown.client(&i.authority(), &[&TLS13]);
    let stream = begin(&i, &shown);
    let mut idle = open(&i, &client).unwrap();

    fs::write(i.path("revoked.pem"), "-----BEGIN X509 CRL-----\nbroken").unwrap();
    eventually("the error", || i.stderr().contains("reload failed").then_some(()));
    drop(begin(&i, &shown));

    fs::write(i.path("revoked.pem"), authority.revoke(&[7])).unwrap();
    eventually("the end of new connections", || {
        fetch_as(&i, &client, &Request::new("GET", "/none")).is_none().then_some(())
    });
    let since = Instant::now();
    assert_eq!(exchange(&mut idle), (401, "bad_credential".into()));
    assert!(runs_on(stream, since) < Duration::from_secs(5));
    assert_eq!(i.stderr().matches("reload failed").count(), 1, "once");

    let new = Authority::new("clients, once more");
    fs::write(i.path("revoked.pem"), new.revoke(&[])).unwrap();
    fs::write(i.path("clients.pem"), &new.pem).unwrap();
    let theirs = new.sign("ana");
    eventually("the new authority", || fetch(&i, &theirs, &Request::new("GET", "/none")));
    let old = authority.sign_numbered("ana", 9, &[]);
    assert!(fetch(&i, &old, &Request::new("GET", "/none")).is_none(), "the old authority is no longer trusted");
}

#[test]
fn a_client_whose_authority_was_removed_is_not_guessing() {
    let canary = Canary::start();
    let authority = Authority::new("clients");
    let i = gateway_with(&canary.address, &authority, "", |i| {
        i.replace("shared_addresses = [\"127.0.0.0/8\", \"::1/128\"]", "shared_addresses = []");
    });
    let client = authority.sign("ana").client(&i.authority(), &[&TLS13]);
    let mut open = open(&i, &client).unwrap();
    assert_eq!(exchange(&mut open).0, 200);
    i.replace("\n[tls.clients]\nca = \"clients.pem\"\n", "");
    eventually("the reload", || (exchange(&mut open) == (401, "bad_credential".into())).then_some(()));
    for _ in 0..12 {
        assert_eq!(exchange(&mut open), (401, "bad_credential".into()), "more often than guesses lead to a ban");
    }
}
