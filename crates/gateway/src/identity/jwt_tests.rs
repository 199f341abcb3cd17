//! Tests of the token verifier: only issued tokens are accepted.

use data_encoding::BASE64URL_NOPAD as B64;
use serde_json::{Value, json};

use super::*;

const NOW: i64 = 1_000_000;

fn secret() -> SecretString {
    "0123456789abcdef0123456789abcdef".into()
}

fn verifier(expected: &Expected) -> JwtVerifier {
    JwtVerifier::new(&secret(), expected, Duration::from_secs(30))
}

fn token(claims: &Value) -> String {
    issue(&secret(), claims).unwrap()
}

fn verify(claims: &Value) -> Result<TokenGrant, TokenError> {
    verifier(&Expected::default()).verify(&token(claims), NOW)
}

#[test]
fn an_issued_token_names_its_user_and_scopes() {
    let verified = verify(&json!({"sub": "ana", "scope": "media:read", "exp": NOW + 1})).unwrap();
    assert_eq!((verified.user.as_str(), verified.issuer), ("ana", Issuer::Own));
    assert!(verified.scopes.contains("media:read") && !verified.scopes.contains("downloads:write"));
}

#[test]
fn expiry_and_start_are_enforced_with_no_more_than_the_leeway() {
    assert!(verify(&json!({"sub": "ana", "exp": NOW - 30})).is_ok());
    assert_eq!(verify(&json!({"sub": "ana", "exp": NOW - 31})).unwrap_err(), TokenError::Expired);
    assert!(verify(&json!({"sub": "ana", "exp": NOW + 9, "nbf": NOW + 30})).is_ok());
    assert_eq!(verify(&json!({"sub": "ana", "exp": NOW + 99, "nbf": NOW + 31})).unwrap_err(), TokenError::Early);
}

#[test]
fn a_genuine_token_without_expiry_or_subject_is_unusable_but_not_forged() {
    for claims in [
        json!({"sub": "ana"}),
        json!({"sub": "ana", "exp": "soon"}),
        json!({"exp": NOW + 9}),
        json!({"sub": "", "exp": NOW + 9}),
        json!({"sub": 7, "exp": NOW + 9}),
        json!({"sub": ["ana"], "exp": NOW + 9}),
    ] {
        assert_eq!(verify(&claims).unwrap_err(), TokenError::Unusable, "{claims}");
    }
}

#[test]
fn scopes_are_a_string_or_a_list_and_words_that_are_not_scopes_are_ignored() {
    let scopes = |scope: Value| verify(&json!({"sub": "ana", "exp": NOW + 9, "scope": scope})).unwrap().scopes;
    let only = |words: &[&str]| Scopes::Only(words.iter().map(|word| (*word).into()).collect());
    assert_eq!(scopes(json!("media:read Files.Read/All api://x/y openid")), only(&["media:read", "openid"]));
    assert_eq!(scopes(json!(["media:read", "Files.Read", 7, null, "a b"])), only(&["media:read", "a", "b"]));
    for none in [json!(""), json!("UPPER Case!"), json!([]), json!(null), json!(7), json!({"media:read": true})] {
        assert_eq!(scopes(none.clone()), only(&[]), "{none}");
    }
    assert_eq!((scopes(json!("a *")), scopes(json!(["*"]))), (Scopes::All, Scopes::All));
}

#[test]
fn a_subject_with_other_characters_gets_a_distinct_user_name() {
    let user = |sub: &str| verify(&json!({"sub": sub, "exp": NOW + 9})).unwrap().user;
    assert!(user("auth0|7").as_str().starts_with("auth0_7."));
    assert_ne!(user("auth0|7"), user("auth0_7"));
    assert_ne!(user("auth0|7"), user(user("auth0|7").as_str()));
}

#[test]
fn alg_none_another_algorithm_and_another_key_are_invalid() {
    let payload = B64.encode(json!({"sub": "admin", "exp": NOW + 9}).to_string().as_bytes());
    let header = |alg: &str| B64.encode(json!({"alg": alg, "typ": "JWT"}).to_string().as_bytes());
    let valid = token(&json!({"sub": "admin", "exp": NOW + 9}));
    let signature = valid.rsplit_once('.').unwrap().1;
    let forged = issue(&"another secret of 32 bytes or more".into(), &json!({"sub": "admin", "exp": NOW + 9})).unwrap();
    let v = verifier(&Expected::default());
    for t in [
        format!("{}.{payload}.", header("none")),
        format!("{}.{payload}", header("none")),
        format!("{}.{payload}.{signature}", header("None")),
        format!("{}.{payload}.{signature}", header("HS512")),
        format!("{}.{payload}.{signature}", header("RS256")),
        forged,
        String::new(),
        "..".into(),
        "a.b.c".into(),
        "x".repeat(100_000),
    ] {
        assert_eq!(v.verify(&t, NOW).unwrap_err(), TokenError::Invalid, "{t:.60}");
    }
}

#[test]
fn a_header_that_references_a_key_is_refused_even_if_the_signature_matches() {
    for extra in ["jku", "x5u"] {
        let mut header = Header::new(Algorithm::HS256);
        let url = Some("https://evil.example/keys".to_owned());
        if extra == "jku" {
            header.jku = url;
        } else {
            header.x5u = url;
        }
        let key = EncodingKey::from_secret(secret().expose_secret().as_bytes());
        let t = jsonwebtoken::encode(&header, &json!({"sub": "ana", "exp": NOW + 9}), &key).unwrap();
        assert_eq!(verifier(&Expected::default()).verify(&t, NOW).unwrap_err(), TokenError::Invalid, "{extra}");
    }
}

#[test]
fn issuer_and_audience_are_required_if_configured() {
    let expected = Expected { issuer: Some("home".into()), audience: Some("sallyport".into()) };
    let check = |claims: Value| verifier(&expected).verify(&token(&claims), NOW).is_ok();
    assert!(check(json!({"sub": "ana", "exp": NOW + 9, "iss": "home", "aud": "sallyport"})));
    assert!(check(json!({"sub": "ana", "exp": NOW + 9, "iss": "home", "aud": ["x", "sallyport"]})));
    assert!(!check(json!({"sub": "ana", "exp": NOW + 9, "aud": "sallyport"})));
    assert!(!check(json!({"sub": "ana", "exp": NOW + 9, "iss": "home"})));
    assert!(!check(json!({"sub": "ana", "exp": NOW + 9, "iss": "other", "aud": "sallyport"})));
}

#[test]
fn public_keys_verify_only_their_own_algorithm() {
    let ed = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let ec = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let mut v = verifier(&Expected::default());
    v.add_public_key(JwtAlgorithm::EdDSA, ed.public_key_pem().as_bytes(), Some("e".into()), &Expected::default())
        .unwrap();
    v.add_public_key(JwtAlgorithm::ES256, ec.public_key_pem().as_bytes(), None, &Expected::default()).unwrap();
    let sign = |alg, kid: Option<&str>, key: EncodingKey| {
        let header = Header { kid: kid.map(str::to_owned), ..Header::new(alg) };
        jsonwebtoken::encode(&header, &json!({"sub": "ana", "exp": NOW + 9}), &key).unwrap()
    };
    let ed_key = || EncodingKey::from_ed_pem(ed.serialize_pem().as_bytes()).unwrap();
    let p256_key = || EncodingKey::from_ec_pem(ec.serialize_pem().as_bytes()).unwrap();
    assert_eq!(v.verify(&sign(Algorithm::EdDSA, Some("e"), ed_key()), NOW).unwrap().issuer, Issuer::Foreign);
    assert!(v.verify(&sign(Algorithm::EdDSA, Some("f"), ed_key()), NOW).is_err());
    assert!(v.verify(&sign(Algorithm::EdDSA, None, ed_key()), NOW).is_err());
    assert!(v.verify(&sign(Algorithm::ES256, None, p256_key()), NOW).is_ok());
    // The classic confusion: a public key's text used as an HMAC secret.
    let confused = sign(Algorithm::HS256, None, EncodingKey::from_secret(ec.public_key_pem().as_bytes()));
    assert!(v.verify(&confused, NOW).is_err());
}

#[test]
fn an_rs256_key_verifies_rs256_and_nothing_else() {
    let rsa = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let mut v = verifier(&Expected::default());
    v.add_public_key(JwtAlgorithm::RS256, rsa.public_key_pem().as_bytes(), None, &Expected::default()).unwrap();
    let sign = |alg| {
        let key = EncodingKey::from_rsa_pem(rsa.serialize_pem().as_bytes()).unwrap();
        jsonwebtoken::encode(&Header::new(alg), &json!({"sub": "ana", "exp": NOW + 9}), &key).unwrap()
    };
    assert_eq!(v.verify(&sign(Algorithm::RS256), NOW).unwrap().issuer, Issuer::Foreign);
    for other in [Algorithm::RS384, Algorithm::RS512, Algorithm::PS256] {
        assert!(v.verify(&sign(other), NOW).is_err(), "{other:?}");
    }
}
