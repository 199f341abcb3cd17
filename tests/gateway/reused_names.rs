//! A new user with the name of a removed one is a different user: no credential and no file passes to them.

use std::{fs, process::Command, time::Duration};

use data_encoding::BASE64URL_NOPAD as B64;
use jsonwebtoken::{EncodingKey, Header};
use sallyport_core::clock;
use sallyport_gateway::identity::offlinetube::OfflineTubeKey;
use serde_json::{Value, json};

use crate::{
    canary::{Canary, Seen},
    client::Request,
    grants::{command_link, get, hang_up, instance, write_secret},
    instance::{Instance, eventually},
};

/// Returns the gateway's statement about a request.
fn stated(seen: &Seen) -> Value {
    let payload = seen.header("x-sallyport-statement")[0].split('.').nth(1).unwrap().to_owned();
    serde_json::from_slice(&B64.decode(payload.as_bytes()).unwrap()).unwrap()
}

#[test]
fn a_new_user_with_a_reused_name_is_a_different_user() {
    let canary = Canary::start();
    let i = instance(canary.address);
    let add = || i.command(&["user", "add", "ana"]);
    add();
    let key = i.new_key(&["--user", "ana"]);
    let token = i.new_token(&["--user", "ana"]);
    let secret = EncodingKey::from_secret(&fs::read(i.path("data/secrets/jwt.key")).unwrap());
    let now = clock::unix_now();
    let sign = |claims: Value| jsonwebtoken::encode(&Header::default(), &claims, &secret).unwrap();
    let [undated, dated] = [
        json!({"sub": "ana", "scope": "*", "exp": now + 600}),
        json!({"sub": "ana", "scope": "*", "exp": now + 600, "iat": now}),
    ]
    .map(sign);
    let link = command_link(&i, &["/x", "--user", "ana"]);
    let offlinetube = command_link(&i, &["/object/x", "--style", "offlinetube", "--user", "ana"]);
    let by = |request: Request| i.send(&request).status;
    let by_token = |token: &str| by(Request::new("GET", "/a").bearer(token));
    let old = || [by(Request::new("GET", "/a").key(&key)), by_token(&token), by_token(&undated), by_token(&dated)];
    let links = || [get(&i, &link), get(&i, &offlinetube)];
    assert_eq!((old(), links().map(|(status, _)| status)), ([200; 4], [200; 2]));

    i.command(&["user", "remove", "ana"]);
    let gone = || (410, "expired_link".to_owned());
    assert_eq!((old(), links()), ([401; 4], [gone(), gone()]));
    add();
    assert_eq!((old(), links()), ([401; 4], [gone(), gone()]), "none of these belong to the new user");
    let refused = i.output(&["link", "create", "/object/x", "--style", "offlinetube", "--user", "ana"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("an earlier user had the name ana"), "{refused:?}");

    let since = clock::unix_now() + 1;
    let later = sign(json!({"sub": "ana", "scope": "*", "exp": since + 600, "iat": since}));
    let key = i.new_key(&["--user", "ana"]);
    let token = i.new_token(&["--user", "ana"]);
    let new = [by(Request::new("GET", "/a").key(&key)), by_token(&token), by_token(&later)];
    assert_eq!(new, [200; 3]);
    assert_eq!(get(&i, &command_link(&i, &["/x", "--user", "ana"])).0, 200);
    let seen = canary.seen();
    let first = stated(&seen[0]);
    let again = stated(&seen[seen.len() - 1]);
    assert_eq!((&first["user"], &first["generation"]), (&json!("ana"), &Value::Null));
    assert_eq!(again["user"], "ana");
    assert!(again["generation"].is_i64(), "the worker can tell them apart: {again}");
}

#[test]
fn a_long_offlinetube_link_of_a_removed_user_never_opens_for_a_new_user_with_that_name() {
    let canary = Canary::start();
    let i = instance(canary.address);
    i.command(&["user", "add", "ana"]);
    let secret = fs::read_to_string(i.path("data/secrets/offlinetube.key")).unwrap();
    let expires = clock::unix_now() + 7 * 24 * 3600 + 4;
    let signed = |secret: &str| {
        let key = OfflineTubeKey::new(secret.to_owned().into(), Duration::MAX, 0);
        format!("/object/x?{}", key.sign("x", &"ana".parse().unwrap(), expires))
    };
    assert_eq!(get(&i, &signed(&secret)).0, 403, "it has longer to go than links.max_expiry");
    i.command(&["user", "remove", "ana"]);
    i.command(&["user", "add", "ana"]);
    eventually("fewer than links.max_expiry", || (clock::unix_now() + 7 * 24 * 3600 >= expires).then_some(()));
    assert_eq!(get(&i, &signed(&secret)), (410, "expired_link".to_owned()));

    write_secret(&i, "offlinetube.key");
    hang_up(&i);
    let renewed = fs::read_to_string(i.path("data/secrets/offlinetube.key")).unwrap();
    eventually("the new secret", || (get(&i, &signed(&renewed)).0 == 200).then_some(()));
}

#[test]
fn a_certificate_of_a_removed_user_does_not_authenticate_a_new_user_with_that_name() {
    let canary = Canary::start();
    let i = Instance::with(&canary.address.to_string(), |i| {
        i.command(&["user", "add", "ana"]);
        i.command(&["certificate", "create", "--user", "ana", "--out", i.path("first.pem").to_str().unwrap()]);
        i.replace("\n[jwt]\n", "\n[tls.clients]\nca = \"certs/clients-ca.pem\"\n\n[jwt]\n");
    });
    let fetch = |file: &str| {
        let output = Command::new("curl")
            .args(["-sS", "-o", "/dev/null", "-w", "%{http_code}", "--cacert"])
            .arg(i.authority())
            .arg("--cert")
            .arg(i.path(file))
            .arg(format!("https://localhost:{}/api/downloads", i.tls.port()))
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert_eq!(fetch("first.pem"), "200");
    i.command(&["user", "remove", "ana"]);
    assert_eq!(fetch("first.pem"), "401");
    i.command(&["user", "add", "ana"]);
    i.command(&["certificate", "create", "--user", "ana", "--out", i.path("second.pem").to_str().unwrap()]);
    assert_eq!((fetch("first.pem"), fetch("second.pem")), ("401".to_owned(), "200".to_owned()));
}
