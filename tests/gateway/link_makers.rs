//! The credentials that links are created with: of a certificate chain only the needed part is stored, and only once.

use std::{fs, sync::Arc};

use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::{ALL_VERSIONS, ClientConfig, pki_types::CertificateDer};
use serde_json::{Value, json};

use crate::{
    canary::Canary,
    client::{Answer, Request, finish, handshake},
    client_authority::{Authority, Shown},
    instance::Instance,
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

fn make(i: &Instance, client: &Arc<ClientConfig>) -> Answer {
    let stream = handshake(std::net::TcpStream::connect(i.tls).unwrap(), client, "localhost").unwrap();
    finish(stream, &Request::new("POST", "/.sallyport/links").json(&json!({ "path": FILE }).to_string()).bytes())
}

fn made(i: &Instance, shown: &Shown, beside: &[CertificateDer<'static>]) -> String {
    let answer = make(i, &shown.client_beside(&i.authority(), ALL_VERSIONS, beside));
    assert_eq!(answer.status, 201, "{answer:?}");
    let url = answer.json()["url"].as_str().unwrap().to_owned();
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
        let answer = make(&i, &client);
        let body: Value = answer.json();
        assert_eq!((answer.status, &body["code"]), (422, &"link_refused".into()), "{body}");
        assert!(body["detail"].as_str().unwrap().contains("too large to be stored with a link"), "{body}");
    }
    assert_eq!(i.command(&["link", "list"])["links"], json!([]));
}
