//! Examples and attacks from the RFCs: JWS (RFC 7515, appendix A), the JOSE cookbook (RFC 7520), best practices (RFC 8725).

use jsonwebtoken::{DecodingKey, crypto};

use super::{verifying_key::validation, *};

const NOW: i64 = 1_300_000_000;
/// "{"iss":"joe", "exp":1300819380, …}" with embedded line ends, as in the examples of RFC 7515.
const CLAIMS: &str = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
const A1_KEY: &str = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
const A1: (&str, &str) = ("eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9", "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
const A2_N: &str = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";
const A2: (&str, &str) = (
    "eyJhbGciOiJSUzI1NiJ9",
    "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
);
const A3_XY: (&str, &str) =
    ("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0");
const A3: (&str, &str) =
    ("eyJhbGciOiJFUzI1NiJ9", "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q");
const A5_NONE: &str = "eyJhbGciOiJub25lIn0";
/// RFC 7520, section 4.4: HS256 over a text that is not a set of claims.
const COOKBOOK_KEY: &str = "hJtXIZ2uSN5kbQfbtTNWbpdmhkV8FJG-Onbc6mxCcYg";
const COOKBOOK: [&str; 3] = [
    "eyJhbGciOiJIUzI1NiIsImtpZCI6IjAxOGMwYWU1LTRkOWItNDcxYi1iZmQ2LWVlZjMxNGJjNzAzNyJ9",
    "SXTigJlzIGEgZGFuZ2Vyb3VzIGJ1c2luZXNzLCBGcm9kbywgZ29pbmcgb3V0IHlvdXIgZG9vci4gWW91IHN0ZXAgb250byB0aGUgcm9hZCwgYW5kIGlmIHlvdSBkb24ndCBrZWVwIHlvdXIgZmVldCwgdGhlcmXigJlzIG5vIGtub3dpbmcgd2hlcmUgeW91IG1pZ2h0IGJlIHN3ZXB0IG9mZiB0by4",
    "s0h6KThzkfBBBkLspW1h84VsJZFTsPPqMDA7g1Md7p0",
];

fn own_secret() -> SecretString {
    "0123456789abcdef0123456789abcdef".into()
}

/// Returns a verifier with the keys of the examples besides its own.
fn verifier() -> JwtVerifier {
    let mut verifier = JwtVerifier::new(&own_secret(), &Expected::default(), Duration::ZERO);
    for (algorithm, key, _) in examples() {
        let validation = validation(algorithm, &Expected::default());
        let fingerprint = Fingerprint::of(b"of a test", &[]);
        verifier.keys.push(VerifyingKey {
            fingerprint,
            kid: None,
            issuer: Issuer::Foreign,
            algorithm,
            key,
            validation,
        });
    }
    verifier
}

/// Returns algorithm, key, and header with signature.
fn examples() -> [(Algorithm, DecodingKey, (&'static str, &'static str)); 3] {
    [
        (Algorithm::HS256, DecodingKey::from_base64_secret(&standard(A1_KEY)).unwrap(), A1),
        (Algorithm::RS256, DecodingKey::from_rsa_components(A2_N, "AQAB").unwrap(), A2),
        (Algorithm::ES256, DecodingKey::from_ec_components(A3_XY.0, A3_XY.1).unwrap(), A3),
    ]
}

/// Converts base64url to standard base64.
fn standard(text: &str) -> String {
    data_encoding::BASE64.encode(&data_encoding::BASE64URL_NOPAD.decode(text.as_bytes()).unwrap())
}

/// Returns a token of these texts, signed with our own secret.
fn signed(header: &str, claims: &str) -> String {
    let encode = |text: &str| data_encoding::BASE64URL_NOPAD.encode(text.as_bytes());
    let message = format!("{}.{}", encode(header), encode(claims));
    let key = EncodingKey::from_secret(own_secret().expose_secret().as_bytes());
    format!("{message}.{}", crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap())
}

fn is_let_in(token: &str) -> bool {
    verifier().verify(token, NOW).is_ok()
}

#[test]
fn the_signatures_of_rfc_7515_and_rfc_7520_verify_and_changed_ones_do_not() {
    let cookbook = DecodingKey::from_base64_secret(&standard(COOKBOOK_KEY)).unwrap();
    let [header, payload, signature] = COOKBOOK;
    let message = format!("{header}.{payload}");
    assert!(crypto::verify(signature, message.as_bytes(), &cookbook, Algorithm::HS256).unwrap());
    for (algorithm, key, (header, signature)) in examples() {
        let message = format!("{header}.{CLAIMS}");
        assert!(crypto::verify(signature, message.as_bytes(), &key, algorithm).unwrap(), "{algorithm:?}");
        let other = format!("{header}.{CLAIMS}Q");
        assert!(!crypto::verify(signature, other.as_bytes(), &key, algorithm).unwrap(), "{algorithm:?}");
        let changed = format!("A{}", signature.get(1..).unwrap());
        assert!(!crypto::verify(&changed, message.as_bytes(), &key, algorithm).unwrap_or(false), "{algorithm:?}");
    }
}

#[test]
fn a_valid_signature_over_claims_without_a_subject_is_refused() {
    // The keys of the examples are known here; the examples have not expired, but have no subject.
    for (.., (header, signature)) in examples() {
        assert!(!is_let_in(&format!("{header}.{CLAIMS}.{signature}")), "{header}");
    }
    assert!(!is_let_in(&COOKBOOK.join(".")));
}

#[test]
fn only_the_signed_compact_form_is_accepted() {
    let good = signed(r#"{"alg":"HS256"}"#, r#"{"sub":"ana","exp":1300000009}"#);
    assert!(is_let_in(&good));
    let mut parts = good.split('.');
    let [header, payload, signature] = [(); 3].map(|()| parts.next().unwrap());
    for token in [
        format!("{A5_NONE}.{payload}."),
        format!("{header}.{payload}."),
        format!("{header}..{signature}"),
        format!("{good}.a.b"),
        format!("{good}."),
        format!("{good}="),
        format!("{good}\n"),
        format!("{header}.{payload}.{signature}A"),
        // RFC 7515, appendix A.6, and RFC 7520, section 5: the JSON form, and encrypted tokens.
        format!(r#"{{"payload":"{payload}","protected":"{header}","signature":"{signature}"}}"#),
        signed(r#"{"alg":"dir","enc":"A128GCM"}"#, r#"{"sub":"ana","exp":1300000009}"#),
    ] {
        assert!(!is_let_in(&token), "{token}");
    }
}

#[test]
fn header_parameters_cannot_change_the_verification() {
    // RFC 8725, sections 3.1, 3.5, 3.10.
    let claims = r#"{"sub":"ana","exp":1300000009}"#;
    assert!(is_let_in(&signed(r#"{"alg":"HS256","typ":"JWT","kid":"../../dev/null"}"#, claims)));
    for header in [
        r#"{"alg":"HS256","jwk":{"kty":"oct","k":"AAAA"}}"#,
        r#"{"alg":"HS256","jku":"https://evil.example/"}"#,
        r#"{"alg":"HS256","x5c":["AAAA"]}"#,
        r#"{"alg":"HS256","x5u":"https://evil.example/"}"#,
        r#"{"alg":"HS256","crit":["exp"],"exp":1}"#,
        r#"{"alg":"HS256","crit":["b64"],"b64":false}"#,
        r#"{"alg":"HS256","zip":"DEF"}"#,
        r#"{"alg":"HS256","enc":"A128GCM"}"#,
        r#"{"alg":"HS256","alg":"none"}"#,
        r#"{"alg":"hs256"}"#,
        r#"{"alg":["HS256"]}"#,
        r#"{"typ":"JWT"}"#,
        "[]",
        "",
    ] {
        assert!(!is_let_in(&signed(header, claims)), "{header}");
    }
}

#[test]
fn ambiguous_claims_are_refused() {
    // RFC 8725, sections 2.6 and 2.7.
    for claims in [
        r#"{"sub":"ana","sub":"admin","exp":1300000009}"#,
        r#"{"sub":"ana","exp":1,"exp":1300000009}"#,
        r#"{"sub":"ana","\u0073ub":"admin","exp":1300000009}"#,
        r#"{"sub":"ana","exp":1300000009}{}"#,
        r#"{"sub":"ana","exp":"1300000009"}"#,
        r#"{"sub":["ana"],"exp":1300000009}"#,
        r#"{"sub":"ana","exp":1e999}"#,
        "\u{feff}{\"sub\":\"ana\",\"exp\":1300000009}",
    ] {
        assert!(!is_let_in(&signed(r#"{"alg":"HS256"}"#, claims)), "{claims}");
    }
}

#[test]
fn a_signature_of_zeros_is_refused() {
    // Java accepted it with any key (CVE-2022-21449).
    let claims = data_encoding::BASE64URL_NOPAD.encode(br#"{"sub":"ana","exp":1300000009}"#);
    for zeros in [vec![0; 64], vec![], vec![0; 8]] {
        assert!(!is_let_in(&format!("{}.{claims}.{}", A3.0, data_encoding::BASE64URL_NOPAD.encode(&zeros))));
    }
}
