//! The credentials that links are created with: a link ends with its own, and of a certificate chain only the needed part is stored,
//! and only once.

use std::{fs, sync::Arc, thread, time::Duration};

use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::{ALL_VERSIONS, ClientConfig, pki_types::CertificateDer};
use sallyport_core::clock;
use serde_json::{Value, json};

use crate::{
    canary::Canary,
    client::{Request, Response, finish, handshake},
    client_authority::{Authority, Shown},
    grants::{get, hang_up, instance, last_used, path_of, post_link, write_secret},
    instance::{Instance, eventually},
};

const FILE: &str = "/api/stream/a.mp4";
const MANY_BYTES: usize = 12 << 10;

fn gateway(canary: &Canary, authority: &Authority) -> Instance {
    Instance::with(&canary.address.to_string(), |i| {
        fs::write(i.path("clients.pem"), &authority.pem).unwrap();
        i.replace("\n[jwt]\n", "\n[tls.clients]\nca = \"clients.pem\"\n\n[jwt]\n");
        i.command(&["user", "add", "ana"]);
    })
}

/// Creates a certificate of an unrelated authority, which no path needs.
fn junk(bytes: usize) -> CertificateDer<'static> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.custom_extensions = vec![extension(bytes)];
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
}

fn extension(bytes: usize) -> CustomExtension {
    CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![0xab; bytes])
}

fn make(i: &Instance, client: &Arc<ClientConfig>) -> Response {
    let stream = handshake(std::net::TcpStream::connect(i.tls).unwrap(), client, "localhost").unwrap();
    finish(stream, &Request::new("POST", "/.sallyport/links").json(&json!({ "path": FILE }).to_string()).bytes())
}

fn made(i: &Instance, shown: &Shown, beside: &[CertificateDer<'static>]) -> String {
    let response = make(i, &shown.client_beside(&i.authority(), ALL_VERSIONS, beside));
    assert_eq!(response.status, 201, "{response:?}");
    let url = response.json()["url"].as_str().unwrap().to_owned();
    url[url.find("/api/").unwrap()..].to_owned()
}

/// Returns the number of makers in the database, and the length of their longest proof.
fn makers(i: &Instance) -> (i64, i64) {
    let database = rusqlite::Connection::open(i.path("data/state.db")).unwrap();
    let row = "SELECT count(*), max(length(proof)) FROM link_maker";
    database.query_row(row, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
}

fn opens(i: &Instance, target: &str) -> u16 {
    i.send(&Request::new("GET", target)).status
}

/// Makes the gateway reload its state.
fn reread(i: &Instance, name: &str) {
    i.command(&["user", "add", name]);
}

#[test]
fn unneeded_certificates_of_a_chain_are_not_stored_with_links() {
    let canary = Canary::start();
    let authority = Authority::new("clients");
    let i = gateway(&canary, &authority);
    let ana = authority.sign("ana");
    let links = [
        made(&i, &ana, &[junk(MANY_BYTES)]),
        made(&i, &ana, &[junk(MANY_BYTES), junk(MANY_BYTES)]),
        made(&i, &ana, &[]),
    ];
    let (count, longest) = makers(&i);
    assert!(count == 1 && longest < 1_500, "{count} makers of up to {longest} bytes");
    assert_eq!(links.each_ref().map(|link| opens(&i, link)), [200; 3]);
    reread(&i, "ben");
    assert_eq!(links.each_ref().map(|link| opens(&i, link)), [200; 3]);
    // As older versions stored it.
    let database = rusqlite::Connection::open(i.path("data/state.db")).unwrap();
    let chain = format!(" {}", data_encoding::BASE64.encode(&junk(MANY_BYTES)));
    assert_eq!(database.execute("UPDATE link_maker SET proof = proof || ?", [chain]).unwrap(), 1);
    drop(database);
    reread(&i, "eve");
    assert_eq!(links.each_ref().map(|link| opens(&i, link)), [200; 3]);
    assert!(makers(&i).1 > 12_000);
    made(&i, &ana, &[]);
    assert!(makers(&i).1 < 1_500, "the latest proof replaces it");
}

#[test]
fn the_needed_path_of_a_certificate_is_stored_and_read_again() {
    let canary = Canary::start();
    let root = Authority::with_levels_below("root", 1);
    let (below, certificate) = root.intermediate("below");
    let i = gateway(&canary, &root);
    let ana = below.sign("ana");
    let link = made(&i, &ana, &[junk(MANY_BYTES), certificate.clone(), junk(MANY_BYTES)]);
    let (count, longest) = makers(&i);
    assert!(count == 1 && longest > 800 && longest < 3_000, "{count} makers of up to {longest} bytes");
    reread(&i, "ben");
    assert_eq!(opens(&i, &link), 200);
    i.command(&["user", "remove", "ana"]);
    assert_eq!(opens(&i, &link), 410);
}

#[test]
fn a_credential_that_is_too_large_creates_no_link_and_the_client_is_told_why() {
    let canary = Canary::start();
    let root = Authority::with_levels_below("root", 1);
    let (below, certificate) = root.intermediate("below");
    let i = gateway(&canary, &root);
    let large = root.sign_with("ana", |params| params.custom_extensions = vec![extension(MANY_BYTES)]);
    let many = [vec![certificate], (0..8).map(|_| junk(64)).collect()].concat();
    for (shown, beside) in [(large, vec![]), (below.sign("ana"), many)] {
        let client = shown.client_beside(&i.authority(), ALL_VERSIONS, &beside);
        let response = make(&i, &client);
        let body: Value = response.json();
        assert_eq!((response.status, &body["code"]), (422, &"link_refused".into()), "{body}");
        assert!(body["detail"].as_str().unwrap().contains("too large to be stored with a link"), "{body}");
    }
    assert_eq!(i.command(&["link", "list"])["links"], json!([]));
}

#[test]
fn using_a_link_does_not_count_as_using_the_key_behind_it() {
    let i = instance(Canary::start().address);
    let made = i.command(&["key", "create"]);
    let key = made["key"].as_str().unwrap();
    let link = post_link(&i, &[("X-API-Key", key)], &json!({ "path": "/x" }));
    assert_eq!(link.status, 201);
    let used = || last_used(&i, &made["id"]);
    let first = eventually("its use", || Some(used()).filter(Value::is_string));
    // The next second, in which another use would show.
    thread::sleep(Duration::from_millis(1_100));
    assert_eq!(get(&i, &path_of(&link.json())).0, 200);
    i.command(&["user", "add", "ana"]);
    assert_eq!(used(), first);
}

#[test]
fn a_link_ends_with_the_credential_that_created_it() {
    let canary = Canary::start();
    let i = instance(canary.address);
    i.command(&["user", "add", "ana"]);
    let key = i.command(&["key", "create", "--user", "ana", "--expires", "1h"]);
    let token = i.new_token(&["--expires", "2h"]);
    let make = |name: &str, value: &str, body: Value| {
        let made = post_link(&i, &[(name, value)], &body);
        assert_eq!(made.status, 201, "{made:?}");
        made.json()
    };
    let by_key = make("X-API-Key", key["key"].as_str().unwrap(), json!({"path": "/x", "expires": "7d"}));
    let bearer = format!("Bearer {token}");
    let by_token = make("Authorization", &bearer, json!({"path": "/x", "expires": "7d", "user": "ana"}));
    let by_command = i.command(&["link", "create", "/x", "--expires", "7d"]);
    let left = |made: &Value| {
        let expires: jiff::Timestamp = made["expires"].as_str().unwrap().parse().unwrap();
        expires.as_second() - clock::unix_now()
    };
    assert!((3_500..=3_600).contains(&left(&by_key)), "the link does not outlast the key: {by_key}");
    assert!((7_100..=7_200).contains(&left(&by_token)), "the link does not outlast the token: {by_token}");
    assert!(left(&by_command) > 600_000);
    let listed = i.command(&["link", "list"])["links"].as_array().unwrap().clone();
    assert_eq!((&listed[0]["made_by"]["credential"], &listed[0]["made_by"]["id"]), (&json!("api-key"), &key["id"]));
    assert_eq!((&listed[1]["made_by"]["credential"], &listed[1]["made_by"]["user"]), (&json!("jwt"), &json!("admin")));
    assert_eq!(listed[2]["made_by"], Value::Null);

    let [by_key, by_token, by_command] = [by_key, by_token, by_command].map(|made| path_of(&made));
    let open = |target: &String| get(&i, target).0;
    assert_eq!([open(&by_key), open(&by_token), open(&by_command)], [200; 3]);
    i.command(&["key", "revoke", key["id"].as_str().unwrap()]);
    assert_eq!((get(&i, &by_key), open(&by_token)), ((410, "expired_link".into()), 200));
    assert_eq!(i.command(&["link", "list"])["links"][0]["revoked"], true);
    write_secret(&i, "jwt.key");
    hang_up(&i);
    eventually("the end of the token", || (open(&by_token) == 410).then_some(()));
    assert_eq!(open(&by_command), 200);
}

#[test]
fn links_of_an_administrator_for_others_end_with_the_administrator() {
    let canary = Canary::start();
    let mut i = instance(canary.address);
    for args in [&["user", "add", "ana"][..], &["user", "add", "eva", "--role", "admin"]] {
        i.command(args);
    }
    let eva = i.new_key(&["--user", "eva"]);
    let made = post_link(&i, &[("X-API-Key", &eva)], &json!({"path": "/x", "user": "ana"}));
    let target = path_of(&made.json());
    i.kill();
    i.start_role("gateway");
    assert_eq!(get(&i, &target).0, 200, "the maker is still known after a restart");
    i.command(&["user", "remove", "eva"]);
    assert_eq!(get(&i, &target), (410, "expired_link".into()));
}
