//! ACME: certificates from a real authority, with each challenge, and the possible failures.

use std::{fs, net::TcpStream, os::unix::fs::PermissionsExt, path::Path, process::Command, sync::Arc};

use rustls::pki_types::CertificateDer;

use crate::{
    admin::{eventually_metric, metric},
    canary::Canary,
    client::{self, Request, send_plain},
    instance::{Instance, eventually, free_addresses},
    name_server::Named,
    pebble::{Habits, Pebble},
};

const DOMAIN: &str = "home.example.org";

/// Creates a gateway that is not started yet, for an authority that does not exist yet.
fn made(canary: &Canary) -> Instance {
    Instance::made(&["--app", "worker", "--upstream", &canary.address.to_string()])
}

/// Configures ACME for `domains`, with `further` settings of `[tls.acme]` and the tables below it.
fn configure(i: &Instance, domains: &[&str], further: &str) {
    i.replace("mode = \"local-ca\"", &format!("mode = \"acme\"\ndomains = {domains:?}\nemail = \"me@example.org\""));
    i.replace("\n[jwt]\n", &format!("\n[tls.acme]\nretry = \"1s\"\n{further}\n[jwt]\n"));
}

fn nudge(i: &Instance) {
    assert!(Command::new("kill").args(["-HUP", &i.pid().to_string()]).status().unwrap().success());
}

/// Returns the leaf certificate for a client that asks for `name` and trusts only `root`.
fn leaf(i: &Instance, root: &Path, name: &str) -> Option<CertificateDer<'static>> {
    let config = Arc::new(client::client_config(root, rustls::ALL_VERSIONS));
    let stream = client::handshake(TcpStream::connect(i.tls).ok()?, &config, name).ok()?;
    Some(stream.conn.peer_certificates()?.first()?.clone().into_owned())
}

/// Waits for that certificate.
fn await_leaf(i: &Instance, pebble: &Pebble, name: &str) -> CertificateDer<'static> {
    let root = pebble.root();
    eventually("a certificate of the authority", || leaf(i, &root, name))
}

fn fetched_by(challenge: &str) {
    let canary = Canary::start();
    let mut i = made(&canary);
    let pebble = Pebble::start(&i, &Habits::default());
    configure(&i, &[DOMAIN], &format!("challenges = [\"{challenge}\"]\n{}", pebble.table()));
    i.start_role("gateway");
    await_leaf(&i, &pebble, DOMAIN);
    let config = Arc::new(client::client_config(&pebble.root(), rustls::ALL_VERSIONS));
    let stream = client::handshake(TcpStream::connect(i.tls).unwrap(), &config, DOMAIN).unwrap();
    let request =
        format!("GET /api/downloads HTTP/1.1\r\nHost: {DOMAIN}\r\nConnection: close\r\nX-API-Key: {}\r\n\r\n", i.key());
    assert_eq!(client::finish(stream, request.as_bytes()).status, 200);
    assert_eq!(i.get("/api/downloads").status, 200, "local names still get the local authority's certificate");
    eventually_metric(&i, "sallyport_acme_attempts_total{outcome=\"issued\"}", 1.0);
}

#[test]
fn a_certificate_is_issued_by_tls_alpn_01() {
    fetched_by("tls-alpn-01");
}

#[test]
fn a_certificate_is_issued_by_http_01() {
    fetched_by("http-01");
}

#[test]
fn accounts_and_certificates_are_readable_by_the_owner_only_and_survive_a_restart() {
    let canary = Canary::start();
    let mut i = made(&canary);
    let pebble = Pebble::start(&i, &Habits::default());
    configure(&i, &[DOMAIN, "media.example.org"], &pebble.table());
    i.start_role("gateway");
    let first = [DOMAIN, "media.example.org"].map(|name| await_leaf(&i, &pebble, name));
    assert_ne!(first[0], first[1], "each domain has its own certificate");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&i.path("data/acme")), 0o700);
    let files: Vec<_> = fs::read_dir(i.path("data/acme")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 3, "two certificates and an account: {files:?}");
    assert!(files.iter().all(|file| mode(file) == 0o600), "{files:?}");
    let account = files.iter().find(|file| file.extension().unwrap() == "json").unwrap();
    let account_before = fs::read(account).unwrap();
    i.kill();
    i.start_role("gateway");
    assert_eq!(leaf(&i, &pebble.root(), DOMAIN).as_ref(), Some(&first[0]), "from the first connection on");
    assert!(metric(&i, "sallyport_acme_attempts_total").abs() < f64::EPSILON, "nothing is ordered again");
    assert_eq!(fs::read(account).unwrap(), account_before);
}

#[test]
fn a_certificate_is_renewed_before_it_expires_and_no_connection_is_cut() {
    let canary = Canary::start();
    let mut i = made(&canary);
    let pebble = Pebble::start(&i, &Habits { validity: 12, ..Habits::default() });
    configure(&i, &[DOMAIN], &pebble.table());
    i.start_role("gateway");
    let first = await_leaf(&i, &pebble, DOMAIN);
    let root = pebble.root();
    let config = Arc::new(client::client_config(&root, rustls::ALL_VERSIONS));
    let old = client::handshake(TcpStream::connect(i.tls).unwrap(), &config, DOMAIN).unwrap();
    eventually("another certificate", || {
        let now = leaf(&i, &root, DOMAIN);
        assert!(now.is_some(), "at every moment there is a valid certificate");
        now.filter(|now| *now != first)
    });
    let request = Request::new("GET", "/api/downloads").key(i.key());
    assert_eq!(client::finish(old, &request.bytes()).status, 421, "localhost is not the old connection's name");
    assert!(metric(&i, "sallyport_acme_attempts_total{outcome=\"issued\"}") >= 2.0);
}

#[test]
fn requests_to_an_authority_that_rejects_good_nonces_are_retried() {
    let canary = Canary::start();
    let mut i = made(&canary);
    let pebble = Pebble::start(&i, &Habits { bad_nonces: 40, ..Habits::default() });
    configure(&i, &[DOMAIN], &pebble.table());
    i.start_role("gateway");
    await_leaf(&i, &pebble, DOMAIN);
}

#[test]
fn after_a_failed_challenge_the_next_one_is_tried() {
    let canary = Canary::start();
    let mut i = made(&canary);
    let [nobody] = free_addresses();
    let pebble = Pebble::start(&i, &Habits { tls_port: Some(nobody.port()), ..Habits::default() });
    configure(&i, &[DOMAIN], &pebble.table());
    i.start_role("gateway");
    await_leaf(&i, &pebble, DOMAIN);
    let log = i.stderr();
    let failure = log.lines().find(|line| line.contains("the authority could not validate the domain")).unwrap();
    assert!(failure.contains("TlsAlpn01") && failure.contains(DOMAIN), "{failure}");
    assert!(metric(&i, "sallyport_acme_attempts_total{outcome=\"not-convinced\"}").abs() < f64::EPSILON);
}

#[test]
fn a_refused_domain_is_logged_and_retried_and_the_others_are_served() {
    let canary = Canary::start();
    let mut i = made(&canary);
    let pebble = Pebble::start(&i, &Habits::default());
    configure(&i, &["blocked.example.org", DOMAIN], &pebble.table());
    i.start_role("gateway");
    await_leaf(&i, &pebble, DOMAIN);
    let refused = "sallyport_acme_attempts_total{outcome=\"refused\"}";
    eventually("two refusals", || (metric(&i, refused) >= 2.0).then_some(()));
    let root = i.authority();
    assert!(leaf(&i, &root, "blocked.example.org").is_some(), "the local authority certifies it in the meantime");
    let log = i.stderr();
    assert!(log.contains("rejectedIdentifier") && log.contains("could not get a certificate"), "{log}");
}

#[test]
fn an_unreachable_authority_does_not_delay_startup_and_is_retried_at_sighup() {
    let canary = Canary::start();
    let mut i = made(&canary);
    let mut pebble = Pebble::prepared(&i, &Habits::default());
    configure(&i, &[DOMAIN], &pebble.table());
    i.replace("retry = \"1s\"", "retry = \"1h\"");
    i.start_role("gateway");
    assert_eq!(i.get("/api/downloads").status, 200);
    eventually_metric(&i, "sallyport_acme_attempts_total{outcome=\"unreachable\"}", 1.0);
    pebble.run();
    nudge(&i);
    await_leaf(&i, &pebble, DOMAIN);
}

#[test]
fn the_second_authority_is_tried_when_the_first_fails() {
    let canary = Canary::start();
    let mut i = made(&canary);
    let away = Pebble::prepared(&i, &Habits::default());
    let pebble = Pebble::start(&i, &Habits::default());
    configure(&i, &[DOMAIN], &[away.table(), pebble.table()].concat());
    i.start_role("gateway");
    await_leaf(&i, &pebble, DOMAIN);
    eventually_metric(&i, "sallyport_acme_attempts_total{outcome=\"issued\"}", 1.0);
}

#[test]
fn a_new_authority_in_the_configuration_causes_a_new_certificate() {
    let canary = Canary::start();
    let mut i = made(&canary);
    let [old, new] = [Pebble::start(&i, &Habits::default()), Pebble::start(&i, &Habits::default())];
    configure(&i, &[DOMAIN], &old.table());
    i.start_role("gateway");
    await_leaf(&i, &old, DOMAIN);
    i.kill();
    i.replace(&old.table(), &new.table());
    i.start_role("gateway");
    await_leaf(&i, &new, DOMAIN);
}

#[test]
fn an_account_that_the_authority_has_lost_is_registered_again() {
    let canary = Canary::start();
    let mut i = made(&canary);
    let mut pebble = Pebble::start(&i, &Habits::default());
    configure(&i, &[DOMAIN], &pebble.table());
    i.start_role("gateway");
    await_leaf(&i, &pebble, DOMAIN);
    i.kill();
    pebble.end();
    pebble.run();
    fs::remove_file(i.path("data/acme").join(format!("{DOMAIN}.pem"))).unwrap();
    i.start_role("gateway");
    await_leaf(&i, &pebble, DOMAIN);
    eventually_metric(&i, "sallyport_acme_attempts_total{outcome=\"issued\"}", 1.0);
}

#[test]
fn an_account_is_bound_to_an_external_one_if_the_authority_requires_it() {
    const KEY: &str = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let canary = Canary::start();
    for (key, outcome) in [(KEY, "issued"), ("d3Jvbmcga2V5IHdyb25nIGtleSB3cm9uZyBrZXkgd3I", "refused")] {
        let mut i = made(&canary);
        let pebble = Pebble::start(&i, &Habits { external_account: Some(("home", KEY)), ..Habits::default() });
        let table = format!("{}key_id = \"home\"\nkey_file = \"eab.key\"\n", pebble.table());
        configure(&i, &[DOMAIN], &table);
        write_secret(&i.path("eab.key"), key);
        i.start_role("gateway");
        let series = format!("sallyport_acme_attempts_total{{outcome=\"{outcome}\"}}");
        eventually(&series, || (metric(&i, &series) >= 1.0).then_some(()));
    }
}

#[test]
fn a_hook_writes_and_removes_the_record_of_a_wildcard() {
    let canary = Canary::start();
    let mut i = made(&canary);
    let pebble = Pebble::start(&i, &Habits::default());
    write_hook(&i, &hook_for(&pebble, &i.path("hook.log")));
    let dns = "[tls.acme.dns]\nhook = [\"./hook\", \"--zone\", \"example.org\"]\nwait = \"0s\"\n";
    configure(&i, &["*.example.org"], &[dns, &pebble.table()].concat());
    i.start_role("gateway");
    await_leaf(&i, &pebble, "any.example.org");
    let calls = eventually("the second call", || {
        let log = fs::read_to_string(i.path("hook.log")).ok()?;
        (log.lines().count() == 2).then_some(log)
    });
    let calls: Vec<Vec<&str>> = calls.lines().map(|line| line.split(' ').collect()).collect();
    assert_eq!(calls[0][..4], ["--zone", "example.org", "add", "_acme-challenge.example.org"]);
    assert_eq!(calls[1][..4], ["--zone", "example.org", "remove", "_acme-challenge.example.org"]);
    assert_eq!((calls[0][4], calls[0][4].len()), (calls[1][4], 43), "the same value: a digest in base64url");
}

#[test]
fn a_hook_that_fails_is_quoted_and_one_that_hangs_does_not_delay_shutdown() {
    let canary = Canary::start();
    let mut i = made(&canary);
    let pebble = Pebble::start(&i, &Habits::default());
    write_hook(&i, "echo no such zone >&2; env >env.log; exit 3");
    let dns = "[tls.acme.dns]\nhook = [\"./hook\"]\nwait = \"0s\"\n";
    configure(&i, &[DOMAIN], &[dns, &pebble.table()].concat());
    let child = i.spawn("gateway", &[("JWT_SECRET_KEY", "a secret of at least thirty-two bytes")]);
    i.adopt(child);
    eventually("the hook's error", || i.stderr().contains("no such zone").then_some(()));
    let own = "sallyport_acme_attempts_total{outcome=\"own-fault\"}";
    eventually(own, || (metric(&i, own) >= 1.0).then_some(()));
    write_hook(&i, "touch hanging; exec sleep 1000");
    eventually("the hook", || i.path("hanging").exists().then_some(()));
    assert!(Command::new("kill").args(["-TERM", &i.pid().to_string()]).status().unwrap().success());
    i.await_end();
    let sleeping = Command::new("pgrep").args(["-f", "^sleep 1000$"]).output().unwrap();
    assert!(sleeping.stdout.is_empty(), "the hook is killed with the gateway");
}

const KEY: &str = "c29tZSBzZWNyZXQgdGhhdCBib3RoIG9mIHRoZW0ga25vdw==";

/// Starts a gateway that updates the zone of `named` with `key`.
fn updating(canary: &Canary, named: &Named, algorithm: &str, key: &str) -> (Instance, Pebble) {
    let mut i = made(canary);
    let pebble = Pebble::start(&i, &Habits { name_server: Some(named.address), ..Habits::default() });
    write_secret(&i.path("dns.key"), key);
    let dns = format!(
        "[tls.acme.dns]\nserver = \"{}\"\nzone = \"example.org\"\nkey_name = \"sallyport\"\nkey_file = \"dns.key\"\n\
         key_algorithm = \"{algorithm}\"\nwait = \"0s\"\n",
        named.address
    );
    configure(&i, &[DOMAIN], &[dns, pebble.table()].concat());
    i.start_role("gateway");
    (i, pebble)
}

#[test]
fn an_update_writes_and_removes_the_record_in_a_real_zone() {
    let canary = Canary::start();
    for algorithm in ["hmac-sha256", "hmac-sha384", "hmac-sha512"] {
        let named = Named::start(algorithm, KEY);
        let (i, pebble) = updating(&canary, &named, algorithm, KEY);
        await_leaf(&i, &pebble, DOMAIN);
        let log = eventually("both updates", || Some(named.log()).filter(|log| log.contains("deleting an RR")));
        assert!(log.contains("adding an RR at '_acme-challenge.home.example.org' TXT"), "{log}");
    }
}

#[test]
fn an_update_that_the_zone_refuses_is_logged() {
    let canary = Canary::start();
    let named = Named::start("hmac-sha256", KEY);
    let (i, _pebble) = updating(&canary, &named, "hmac-sha256", "YW5vdGhlciBzZWNyZXQsIG5vdCB0aGUgc2FtZSBvbmUhISE=");
    let own = "sallyport_acme_attempts_total{outcome=\"own-fault\"}";
    eventually(own, || (metric(&i, own) >= 1.0).then_some(()));
    assert!(i.stderr().contains(&named.address.to_string()), "{}", i.stderr());
    assert!(!named.log().contains("adding an RR"));
    assert_eq!(i.get("/api/downloads").status, 200);
}

#[test]
fn other_clients_see_nothing_of_challenges() {
    let canary = Canary::start();
    let mut i = made(&canary);
    let pebble = Pebble::start(&i, &Habits::default());
    configure(&i, &[DOMAIN], &pebble.table());
    i.start_role("gateway");
    await_leaf(&i, &pebble, DOMAIN);
    for path in ["/.well-known/acme-challenge/", "/.well-known/acme-challenge/x", "/.well-known/acme-challenge/../x"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {DOMAIN}\r\n\r\n");
        let response = send_plain(i.plain, request.as_bytes());
        assert_eq!(response.status, 308, "{path}: redirected to TLS as usual");
    }
    let handshake = |protocols: &[&[u8]]| {
        let mut config = client::client_config(&pebble.root(), rustls::ALL_VERSIONS);
        config.alpn_protocols = protocols.iter().map(|p| p.to_vec()).collect();
        client::handshake(TcpStream::connect(i.tls).unwrap(), &Arc::new(config), DOMAIN)
    };
    assert!(handshake(&[b"acme-tls/1"]).is_err(), "no validation is in progress");
    let both = handshake(&[b"acme-tls/1", b"http/1.1"]).unwrap();
    assert_eq!(both.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
}

#[test]
fn settings_that_cannot_work_are_faults() {
    let canary = Canary::start();
    let authority = "[[tls.acme.authority]]\ndirectory = \"https://ca.example/dir\"\n";
    for (domains, further, fault) in [
        (&[][..], "", "requires a domain"),
        (&["localhost"], "", "not a domain"),
        (&["192.0.2.1"], "", "not a domain"),
        (&["*.example.org"], "", "wildcard certificates only for \"dns-01\""),
        (&[DOMAIN], "challenges = [\"dns-01\"]", "requires [tls.acme.dns]"),
        (&[DOMAIN], "[tls.acme.dns]\nwait = \"1s\"", "either hook, or all of"),
        (&[DOMAIN], "[tls.acme.dns]\nhook = [\"x\"]\nzone = \"example.org\"", "either hook, or all of"),
        (&[DOMAIN], "[[tls.acme.authority]]\ndirectory = \"http://ca.example/dir\"", "must be an https URL"),
        (&[DOMAIN], &format!("{authority}key_id = \"a\""), "must be set together"),
        (&[DOMAIN], &format!("{authority}key_id = \"a\"\nkey_file = \"missing.key\""), "missing.key"),
        (&[DOMAIN], &format!("{authority}key_id = \"a\"\nkey_file = \"exposed.key\""), "chmod 600"),
        (&[DOMAIN], &format!("{authority}key_id = \"a\"\nkey_file = \"garbled.key\""), "garbled.key"),
    ] {
        let i = made(&canary);
        fs::write(i.path("exposed.key"), "AAAA").unwrap();
        write_secret(&i.path("garbled.key"), "not base64!");
        configure(&i, domains, further);
        let check = i.output(&["check"]);
        let report = String::from_utf8(check.stdout).unwrap();
        assert!(!check.status.success() && report.replace('\\', "").contains(fault), "{further}: {report}");
        let start = i.spawn("gateway", &[]).wait().unwrap();
        assert!(!start.success(), "{further}");
    }
    let i = made(&canary);
    i.replace(&format!("http_listen = [\"{}\"]", i.plain), "http_listen = []");
    configure(&i, &[DOMAIN], "challenges = [\"http-01\"]");
    assert!(String::from_utf8(i.output(&["check"]).stdout).unwrap().contains("requires gateway.http_listen"));
}

/// Returns a hook that logs its arguments and forwards them to the name server.
fn hook_for(pebble: &Pebble, log: &Path) -> String {
    let management = pebble.names.management;
    format!(
        "echo \"$@\" >>{log}\n\
         case $3 in add) what=set-txt;; *) what=clear-txt;; esac\n\
         curl -sf http://{management}/$what -d \"{{\\\"host\\\":\\\"$4.\\\",\\\"value\\\":\\\"$5\\\"}}\"",
        log = log.display()
    )
}

fn write_hook(i: &Instance, script: &str) {
    let new = i.path("hook.new");
    let hook = i.path("hook");
    fs::write(&new, format!("#!/bin/sh\ncd {}\n{script}\n", i.dir.path().display())).unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o700)).unwrap();
    fs::rename(new, hook).unwrap();
}

fn write_secret(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}
