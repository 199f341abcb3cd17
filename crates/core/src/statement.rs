//! The gateway's signed statement about a request, for an upstream that trusts only what the gateway has signed.
//!
//! One header value, `v1.PAYLOAD.MAC`: PAYLOAD is the base64url encoding of a JSON object, and MAC is the base64url encoding of HMAC-SHA256
//! over a domain label and PAYLOAD as sent. A statement is bound to receiver, method and target, and is valid for [`LIFETIME`]. A receiver
//! also refuses a request ID that it has already seen, so a copied header is worthless.

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

use crate::{
    names::{role::Role, username::UserName},
    secrets::hmac_sha256::hmac_sha256,
};

/// The header that carries a statement from gateway to worker.
pub const HEADER: &str = "x-sallyport-statement";

/// The maximum difference between a statement's time and the receiver's clock, in either direction.
pub const LIFETIME: Duration = Duration::from_secs(30);

const DOMAIN: &[u8] = b"sallyport statement v1\0";

/// A user's limits in an application, within those of the application; without a number, the application's own limit applies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UserLimits {
    /// Concurrent downloads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrent_downloads: Option<NonZeroU32>,
    /// Waiting downloads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting_downloads: Option<NonZeroU32>,
    /// The size of a file, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_filesize: Option<NonZeroU64>,
}

/// The receiver of a request, and the request.
#[derive(Clone, Copy, Debug)]
pub struct Delivery<'a> {
    /// The address at which the receiver listens, as in the configuration; None for a receiver that cannot know it, which accepts any.
    pub to: Option<&'a str>,
    /// The method.
    pub method: &'a str,
    /// Path and query.
    pub target: &'a str,
}

/// The user and the request, as the gateway authenticated and forwarded them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// The authenticated user; absent on a route that needs no credential.
    pub user: Option<UserName>,
    /// Distinguishes the user from earlier users of the same name; absent if there were none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// The role in which the request is made.
    pub role: Role,
    /// The user's limits.
    #[serde(default, skip_serializing_if = "UserLimits::are_none")]
    pub limits: UserLimits,
    /// The receiver: where the application listens, as in the configuration.
    pub to: String,
    /// The request ID, unique for each request.
    pub request_id: String,
    /// The method, as forwarded.
    pub method: String,
    /// Path and query, byte for byte as forwarded.
    pub target: String,
    /// When it was signed, in seconds since the Unix epoch.
    pub at: i64,
    /// The query of a link to the object beside this one, if the request came by link and its route passes such links on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// The ID of the link that the request came by, so that the limits of a link can be lower than those of its user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_id: Option<String>,
}

/// Why a statement is refused.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum StatementError {
    /// The value does not have the form `v1.PAYLOAD.MAC`, or the payload does not parse.
    #[error("the statement is malformed")]
    Malformed,
    /// The MAC does not match the payload and the key.
    #[error("the statement's signature is invalid")]
    Forged,
    /// Its time differs too much from the current time.
    #[error("the statement has expired")]
    Expired,
    /// It is for an application that listens elsewhere.
    #[error("the statement is for an application that listens elsewhere")]
    OtherReceiver,
    /// It is for another method or target.
    #[error("the statement is for another request")]
    OtherRequest,
}

impl UserLimits {
    fn are_none(&self) -> bool {
        *self == Self::default()
    }
}

/// The key that gateway and worker share (`secrets/worker.key`).
pub struct StatementKey(SecretBox<[u8]>);

impl StatementKey {
    /// Creates a key from the secret's bytes.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        Self(SecretBox::new(secret.into()))
    }

    /// Returns the signed header value for `statement`.
    #[must_use]
    pub fn sign(&self, statement: &Statement) -> String {
        let json = serde_json::to_vec(statement).unwrap_or_default();
        let payload = BASE64URL_NOPAD.encode(&json);
        let mac = self.mac(payload.as_bytes()).finalize().into_bytes();
        format!("v1.{payload}.{}", BASE64URL_NOPAD.encode(&mac))
    }

    /// Verifies that a header value was signed for this `delivery` around `now` (Unix seconds), and returns the statement.
    ///
    /// # Errors
    /// Returns a [`StatementError`] otherwise. The payload is not parsed before its MAC has been verified.
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
            limits: UserLimits { max_filesize: NonZeroU64::new(7), ..UserLimits::default() },
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
    fn a_statement_is_accepted_for_its_own_request_only() {
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
