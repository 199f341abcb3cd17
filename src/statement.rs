//! The signed statement of who asks: what the gateway tells an upstream that believes only what the gateway signed.
//!
//! One header value, `v1.PAYLOAD.MAC`: PAYLOAD is the base64url of a JSON object, MAC the base64url of
//! HMAC-SHA256 over a domain label and PAYLOAD as sent. It is bound to receiver, method and target and lives for
//! [`LIFETIME`]; a receiver also refuses a request id that it has already seen, so a copied header is worth nothing.

use std::{
    num::{NonZeroU32, NonZeroU64},
    time::Duration,
};

use data_encoding::BASE64URL_NOPAD;
use hmac::{Hmac, Mac};
use secrecy::{ExposeSecret, SecretBox};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use thiserror::Error;

use crate::{mac::hmac_sha256, username::UserName};

/// The header that carries a statement from gateway to worker.
pub const HEADER: &str = "x-sallyport-statement";

/// How far a statement's time may lie from the receiver's clock, either way.
pub const LIFETIME: Duration = Duration::from_secs(30);

const DOMAIN: &[u8] = b"sallyport statement v1\0";

/// As whom somebody asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// For what is his own.
    User,
    /// For everybody's.
    Admin,
}

/// What a user may have of an application, beside what it allows anybody; without a number, as much as that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Downloads at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrent_downloads: Option<NonZeroU32>,
    /// Downloads that wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting_downloads: Option<NonZeroU32>,
    /// The size of a file, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_filesize: Option<NonZeroU64>,
}

/// To whom a request goes, and which.
#[derive(Clone, Copy, Debug)]
pub struct Delivery<'a> {
    /// Where the receiver listens, as the configuration has it; a receiver that cannot know takes any.
    pub to: Option<&'a str>,
    /// The method.
    pub method: &'a str,
    /// Path and query.
    pub target: &'a str,
}

/// Who asks for what, as the gateway found it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// The authenticated user; absent on a route that needs no credential.
    pub user: Option<UserName>,
    /// What tells the user from those who had the name before; absent where nobody had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// As whom.
    pub role: Role,
    /// What he may have.
    #[serde(default, skip_serializing_if = "Limits::are_none")]
    pub limits: Limits,
    /// Whom this is for: where the application listens, as the configuration has it.
    pub to: String,
    /// The request id, unique for each request.
    pub request_id: String,
    /// The method, as forwarded.
    pub method: String,
    /// Path and query, byte for byte as forwarded.
    pub target: String,
    /// When it was signed, in seconds since the Unix epoch.
    pub at: i64,
    /// The query of a link to the object beside this one that goes with it, where the request came by a link and its route
    /// hands such on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// The id of the link that the request came by, so that what one link may take up can be less than what its user may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_id: Option<String>,
}

/// Why a statement is not believed.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum StatementError {
    /// Not of the form `v1.PAYLOAD.MAC`, or the payload does not parse.
    #[error("the statement is malformed")]
    Malformed,
    /// The MAC does not fit the payload and the key.
    #[error("the statement's signature is wrong")]
    Forged,
    /// Its time is too far from now.
    #[error("the statement has expired")]
    Expired,
    /// It was made for an application that listens elsewhere.
    #[error("the statement is for an application that listens elsewhere")]
    OtherReceiver,
    /// It was made for another method or target.
    #[error("the statement is for another request")]
    OtherRequest,
}

impl Limits {
    fn are_none(&self) -> bool {
        *self == Self::default()
    }
}

/// The key that gateway and worker share (`secrets/worker.key`).
pub struct StatementKey(SecretBox<[u8]>);

impl StatementKey {
    /// Takes the secret's bytes.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        Self(SecretBox::new(secret.into()))
    }

    /// The header value that states `statement`.
    #[must_use]
    pub fn sign(&self, statement: &Statement) -> String {
        let json = serde_json::to_vec(statement).unwrap_or_default();
        let payload = BASE64URL_NOPAD.encode(&json);
        let mac = self.mac(payload.as_bytes()).finalize().into_bytes();
        format!("v1.{payload}.{}", BASE64URL_NOPAD.encode(&mac))
    }

    /// Reads a header value that must have been signed for this `delivery` around `now` (Unix seconds).
    ///
    /// # Errors
    /// Anything else than that, as a [`StatementError`]; nothing of the payload is looked at before its MAC was checked.
    pub fn verify(&self, value: &str, delivery: Delivery<'_>, now: i64) -> Result<Statement, StatementError> {
        let (payload, mac) =
            value.strip_prefix("v1.").and_then(|rest| rest.split_once('.')).ok_or(StatementError::Malformed)?;
        let mac = BASE64URL_NOPAD.decode(mac.as_bytes()).map_err(|_| StatementError::Malformed)?;
        self.mac(payload.as_bytes()).verify_slice(&mac).map_err(|_| StatementError::Forged)?;
        let json = BASE64URL_NOPAD.decode(payload.as_bytes()).map_err(|_| StatementError::Malformed)?;
        let statement: Statement = serde_json::from_slice(&json).map_err(|_| StatementError::Malformed)?;
        if now.abs_diff(statement.at) > LIFETIME.as_secs() {
            return Err(StatementError::Expired);
        }
        let Delivery { to, method, target } = delivery;
        if to.is_some_and(|to| statement.to != to) {
            return Err(StatementError::OtherReceiver);
        }
        if statement.method != method || statement.target != target {
            return Err(StatementError::OtherRequest);
        }
        Ok(statement)
    }

    fn mac(&self, payload: &[u8]) -> Hmac<Sha256> {
        let mut mac = hmac_sha256(self.0.expose_secret());
        mac.update(DOMAIN);
        mac.update(payload);
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TO: &str = "127.0.0.1:8001";

    fn statement() -> Statement {
        Statement {
            user: Some("ana".parse().unwrap()),
            generation: None,
            role: Role::User,
            limits: Limits { max_filesize: NonZeroU64::new(7), ..Limits::default() },
            to: TO.into(),
            request_id: "r1".into(),
            method: "GET".into(),
            target: "/api/downloads?x=1".into(),
            at: 1_000,
            link: None,
            link_id: Some("l1".into()),
        }
    }

    fn delivery<'a>(to: &'a str, method: &'a str, target: &'a str) -> Delivery<'a> {
        Delivery { to: Some(to), method, target }
    }

    #[test]
    fn what_was_signed_is_believed_for_its_own_request_only() {
        let key = StatementKey::new(b"0123456789abcdef0123456789abcdef");
        let value = key.sign(&statement());
        let right = delivery(TO, "GET", "/api/downloads?x=1");
        assert_eq!(key.verify(&value, right, 1_030), Ok(statement()));
        assert_eq!(key.verify(&value, Delivery { to: None, ..right }, 1_000), Ok(statement()));
        for other in [delivery(TO, "POST", "/api/downloads?x=1"), delivery(TO, "GET", "/api/downloads")] {
            assert_eq!(key.verify(&value, other, 1_000), Err(StatementError::OtherRequest), "{other:?}");
        }
        let other = delivery("127.0.0.1:8002", "GET", "/api/downloads?x=1");
        assert_eq!(key.verify(&value, other, 1_000), Err(StatementError::OtherReceiver));
        assert_eq!(key.verify(&value, right, 1_031), Err(StatementError::Expired));
    }

    #[test]
    fn a_forged_or_garbled_statement_is_refused() {
        let key = StatementKey::new(b"0123456789abcdef0123456789abcdef");
        let other = StatementKey::new(b"another key of at least 32 bytes").sign(&statement());
        let right = delivery(TO, "GET", "/api/downloads?x=1");
        assert_eq!(key.verify(&other, right, 1_000), Err(StatementError::Forged));
        for value in ["", "v1", "v1.", "v1..", "v2.a.b", "v1.!.!"] {
            assert!(key.verify(value, right, 1_000).is_err(), "{value:?}");
        }
    }
}
