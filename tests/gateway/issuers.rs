//! Tokens of other issuers, which vouch for users under a public key in the configuration.

use std::fs;

use data_encoding::BASE64URL_NOPAD as B64;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::KeyPair;
use rusqlite::Connection;
use sallyport_core::clock;
use serde_json::{Value, json};

use crate::{
    canary::Canary,
    client::Request,
    instance::{Instance, eventually},
};

const PATH: &str = "/api/downloads";

/// Starts a gateway that trusts an issuer; returns it with the issuer's key.
fn with_issuer(canary: &Canary) -> (Instance, KeyPair) {
    let ed = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let i = Instance::with(&canary.address.to_string(), |i| {
        fs::write(i.path("idp.pem"), ed.public_key_pem()).unwrap();
        let key =
            "\n[[jwt.key]]\nalgorithm = \"EdDSA\"\nfile = \"idp.pem\"\nid = \"k1\"\naudience = \"home\"\n\n[links]";
        i.replace("\n[links]", key);
    });
    (i, ed)
}

/// Signs a token of that issuer, which has `claims` besides the usual ones.
fn token(issuer: &KeyPair, claims: &Value) -> String {
    let mut all = json!({"sub": "ana", "aud": ["home", "other"], "exp": clock::unix_now() + 60});
    all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
    let header = Header { kid: Some("k1".into()), ..Header::new(Algorithm::EdDSA) };
    let key = EncodingKey::from_ed_pem(issuer.serialize_pem().as_bytes()).unwrap();
    jsonwebtoken::encode(&header, &all, &key).unwrap()
}

#[test]
fn tokens_as_identity_providers_write_them_are_accepted() {
    let canary = Canary::start();
    let (i, ed) = with_issuer(&canary);
    let send = |claims: Value| i.send(&Request::new("GET", PATH).bearer(&token(&ed, &claims)));
    for scope in [
        json!("downloads:read"),
        json!("openid profile https://graph.example/Files.Read downloads:read"),
        json!(["Files.Read/All", "downloads:read"]),
        json!(["openid downloads:read", 7]),
    ] {
        assert_eq!(send(json!({ "scope": scope })).status, 200, "{scope}");
    }
    for scope in [json!("Downloads:Read"), json!(["downloads"]), json!({"downloads:read": 1}), json!(null), json!([])] {
        assert_eq!(send(json!({ "scope": scope })).status, 403, "{scope}");
    }
    let before = canary.seen().len();
    let subjects = ["auth0|5f7c8ec7", "auth0_5f7c8ec7", "Zo\u{eb} <admin>", "a\r\nRemote-User: admin", "admin\0", "-x"];
    for sub in subjects {
        assert_eq!(send(json!({"sub": sub, "scope": "downloads:read"})).status, 200, "{sub}");
    }
    let seen = canary.seen().split_off(before);
    let users: Vec<_> = seen.iter().map(|seen| seen.header("remote-user")).collect();
    assert!(users.iter().all(|values| values.len() == 1 && values[0] != "admin"), "{users:?}");
    let mut names: Vec<_> = users.iter().map(|values| values[0].to_owned()).collect();
    assert!(names[0].starts_with("auth0_5f7c8ec7.") && names[0].ends_with("@sub"), "{names:?}");
    assert_eq!(names[1], "auth0_5f7c8ec7");
    // A subject that equals the name made from another subject gets a different name.
    let first = names[0].clone();
    assert_eq!(send(json!({"sub": first, "scope": "downloads:read"})).status, 200);
    names.push(canary.seen().last().unwrap().header("remote-user")[0].to_owned());
    names.sort();
    names.dedup();
    assert_eq!(names.len(), subjects.len() + 1);
    for claims in [json!({"aud": "other"}), json!({"sub": ""}), json!({"sub": 7}), json!({"exp": "soon"})] {
        assert_eq!(send(claims.clone()).code(), "bad_credential", "{claims}");
    }
}

#[test]
fn tokens_under_a_public_key_are_accepted_but_make_nobody_an_administrator() {
    let canary = Canary::start();
    let ed = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let i = Instance::with(&canary.address.to_string(), |i| {
        fs::write(i.path("idp.pem"), ed.public_key_pem()).unwrap();
        let key = "\n[[jwt.key]]\nalgorithm = \"EdDSA\"\nfile = \"idp.pem\"\nid = \"k1\"\nissuer = \"https://id.example\"\n\n[links]";
        i.replace("\n[links]", key);
    });
    let sign = |issuer: &str, kid: &str| {
        let header = Header { kid: Some(kid.into()), ..Header::new(Algorithm::EdDSA) };
        let claims = json!({"sub": "admin", "scope": "*", "exp": clock::unix_now() + 60, "iss": issuer});
        jsonwebtoken::encode(&header, &claims, &EncodingKey::from_ed_pem(ed.serialize_pem().as_bytes()).unwrap())
            .unwrap()
    };
    let send = |token: &str| i.send(&Request::new("GET", PATH).bearer(token));
    assert_eq!(send(&sign("https://id.example", "k1")).status, 200);
    for token in [sign("https://evil.example", "k1"), sign("https://id.example", "k2")] {
        let response = send(&token);
        assert_eq!((response.status, response.code().as_str()), (401, "bad_credential"));
    }
    let statement = canary.only();
    let payload = statement.header("x-sallyport-statement")[0].split('.').nth(1).unwrap().to_owned();
    let payload: Value = serde_json::from_slice(&B64.decode(payload.as_bytes()).unwrap()).unwrap();
    assert_eq!((&payload["user"], &payload["role"]), (&"admin".into(), &"user".into()));
}

#[test]
fn a_user_whose_stored_role_is_unknown_can_do_nothing_and_affects_nobody_else() {
    let canary = Canary::start();
    let (i, ed) = with_issuer(&canary);
    i.command(&["user", "add", "eva"]);
    let key = i.new_key(&["--user", "eva"]);
    let vouched = |user: &str| {
        let claims = json!({"sub": user, "scope": "*", "iat": clock::unix_now()});
        i.send(&Request::new("GET", PATH).bearer(&token(&ed, &claims)))
    };
    let by_key = |key: &str| i.send(&Request::new("GET", PATH).key(key)).status;
    assert_eq!((by_key(&key), vouched("eva").status, vouched("stranger").status), (200, 200, 200));
    let database = Connection::open(i.path("data/state.db")).unwrap();
    database.execute("UPDATE user SET role = 'owner' WHERE name = 'eva'", []).unwrap();
    eventually("the refusal of the key", || (by_key(&key) == 401).then_some(()));
    assert_eq!(vouched("eva").code(), "unknown_user", "an issuer must not vouch for a user who was added");
    assert_eq!((by_key(i.key()), vouched("stranger").status), (200, 200));
    let log = i.stderr();
    assert!(log.contains("the role of eva"), "{log}");
    i.command(&["user", "remove", "eva"]);
    i.command(&["user", "add", "eva", "--role", "user"]);
    assert_eq!(by_key(&i.new_key(&["--user", "eva"])), 200);
}
