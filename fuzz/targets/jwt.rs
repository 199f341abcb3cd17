//! A token is accepted only if it is byte for byte one that was issued, and its claims are valid.

use std::sync::OnceLock;

use sallyport_core::names::username::UserName;
use sallyport_gateway::identity::jwt::issue;
use serde_json::{Value, json};

use super::{parts::byte, site};

const NOW: i64 = 1_800_000_000;
const NOW_AND_LEEWAY: std::ops::RangeInclusive<f64> = 1_799_999_995.0..=1_800_000_005.0;

pub fn run(data: &[u8]) {
    let (choice, data) = byte(data);
    if choice & 1 == 0 { forged(data) } else { issued(data) }
}

/// Returns the only token that was issued.
fn token() -> &'static str {
    static TOKEN: OnceLock<String> = OnceLock::new();
    TOKEN.get_or_init(|| issue(&site::secret(), &json!({"sub": "ana", "exp": NOW + 60})).unwrap())
}

/// Input: a token in which `~` is replaced by the valid token, so that small changes of it are short inputs.
fn forged(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (start, rest) = text.split_once('~').unwrap_or((text, ""));
    let presented = if text.contains('~') { format!("{start}{}{rest}", token()) } else { text.to_owned() };
    let verified = site::jwt().verify(&presented, NOW).is_ok();
    assert_eq!(verified, presented == token(), "{presented}");
    changed(data);
}

/// Checks that a change of one byte makes the token invalid.
fn changed(data: &[u8]) {
    let [at, high, with, ..] = *data else { return };
    let mut bytes = token().as_bytes().to_vec();
    let at = (usize::from(at) | usize::from(high) << 8) % bytes.len();
    bytes[at] = with & 0x7f;
    let presented = String::from_utf8(bytes).unwrap();
    let verified = site::jwt().verify(&presented, NOW).is_ok();
    assert_eq!(verified, presented == token(), "{presented}");
}

/// Checks claims that are signed with the valid key.
fn issued(data: &[u8]) {
    let Ok(claims) = serde_json::from_slice::<Value>(data) else { return };
    let Ok(token) = issue(&site::secret(), &claims) else { return };
    let Ok(verified) = site::jwt().verify(&token, NOW) else { return };
    let sub = claims["sub"].as_str().expect("sub is required");
    assert_eq!(UserName::of_subject(sub).as_ref(), Some(&verified.user));
    assert_eq!(verified.user.as_str() == sub, sub.parse::<UserName>().is_ok() && !sub.ends_with("@sub"), "{sub}");
    assert!(verified.user.as_str().parse::<UserName>().is_ok(), "{sub}");
    let exp = claims["exp"].as_f64().expect("exp is required");
    assert!(exp.is_finite() && exp >= *NOW_AND_LEEWAY.start(), "{claims}");
    let nbf = claims["nbf"].as_f64();
    assert!(nbf.is_none_or(|nbf| nbf <= *NOW_AND_LEEWAY.end()), "{claims}");
}
