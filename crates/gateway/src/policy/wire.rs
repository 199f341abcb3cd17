//! A policy file as written; `docs/policies.md` explains each key.

use std::{collections::BTreeMap, num::NonZeroU32};

use sallyport_core::config::{ByteSize, Duration, Rate};
use serde::Deserialize;

use super::{
    body::UnknownFields,
    error_style::{BasicChallenge, ErrorStyle},
    route::LimitBy,
};
use crate::identity::CredentialKind;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Policy {
    #[serde(default)]
    pub(super) defaults: Defaults,
    #[serde(default)]
    pub(super) cors: Cors,
    #[serde(default)]
    pub(super) headers: Headers,
    #[serde(default)]
    pub(super) upstream: Upstream,
    #[serde(default)]
    pub(super) errors: ErrorStyle,
    #[serde(default)]
    pub(super) basic_challenge: BasicChallenge,
    #[serde(default)]
    pub(super) path_parameters: bool,
    pub(super) route: Vec<Route>,
}

/// `[defaults]`, for routes that do not set a key themselves.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Defaults {
    pub(super) allow_from: Vec<String>,
    pub(super) deny_from: Vec<String>,
    pub(super) credentials: Vec<CredentialKind>,
    pub(super) rates: Vec<Limit>,
    pub(super) max_body: ByteSize,
    pub(super) cors: bool,
    pub(super) link_ignores: Vec<String>,
}

/// `[cors]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Cors {
    pub(super) origins: Vec<String>,
    pub(super) credentials: bool,
    pub(super) allow_headers: Vec<String>,
    pub(super) expose_headers: Vec<String>,
    pub(super) max_age: Duration,
}

/// `[headers]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Headers {
    pub(super) hsts: Setting,
    pub(super) content_type_options: Setting,
    pub(super) referrer_policy: Option<Setting>,
    pub(super) frame_options: Setting,
    pub(super) content_security_policy: Setting,
}

/// The value of a header; `false` or an empty string leaves it to the application.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected the header's value, or false to keep what the application sends")]
pub(super) enum Setting {
    Text(String),
    Switch(bool),
}

/// `[upstream]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Upstream {
    pub(super) statement: bool,
    pub(super) limits: UpstreamLimits,
}

/// `[upstream.limits]`
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub(super) struct UpstreamLimits {
    pub(super) concurrent_downloads: Option<NonZeroU32>,
    pub(super) waiting_downloads: Option<NonZeroU32>,
    pub(super) max_filesize: Option<ByteSize>,
}

/// `[[route]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Route {
    pub(super) name: String,
    pub(super) methods: Vec<String>,
    pub(super) path: String,
    pub(super) allow_from: Option<Vec<String>>,
    pub(super) deny_from: Option<Vec<String>>,
    pub(super) credentials: Option<Vec<CredentialKind>>,
    #[serde(default)]
    pub(super) anonymous: bool,
    #[serde(default)]
    pub(super) scopes: Vec<String>,
    pub(super) rates: Option<Vec<Limit>>,
    pub(super) cors: Option<bool>,
    pub(super) max_body: Option<ByteSize>,
    pub(super) body: Option<Body>,
    pub(super) link_object: Option<String>,
    pub(super) link_also: Option<String>,
    pub(super) link_ignores: Option<Vec<String>>,
    #[serde(default)]
    pub(super) file_names: bool,
    #[serde(default)]
    pub(super) app_headers: Vec<AppHeader>,
}

/// A header that a route passes on to its application instead of reading a credential from it.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum AppHeader {
    Authorization,
    XApiKey,
}

/// One element of `rates`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limit {
    #[serde(rename = "limit")]
    pub(super) rate: Rate,
    #[serde(default)]
    pub(super) by: LimitBy,
    pub(super) burst: Option<std::num::NonZeroU32>,
}

/// `[route.body]`: the JSON object that the route accepts.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Body {
    #[serde(default)]
    pub(super) unknown: UnknownFields,
    pub(super) fields: BTreeMap<String, Field>,
}

/// One of `[route.body.fields]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Field {
    #[serde(rename = "type")]
    pub(super) kind: FieldType,
    #[serde(default)]
    pub(super) required: bool,
    pub(super) values: Option<Vec<String>>,
    pub(super) min: Option<i64>,
    pub(super) max: Option<i64>,
}

/// The type of a field.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum FieldType {
    Text,
    Words,
    OneOf,
    MediaUrl,
    Integer,
    Boolean,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            allow_from: Vec::new(),
            deny_from: Vec::new(),
            credentials: vec![CredentialKind::ApiKey, CredentialKind::Jwt, CredentialKind::ClientCertificate],
            rates: Vec::new(),
            max_body: ByteSize(64 << 10),
            cors: false,
            link_ignores: ADDED_BY_OTHERS.map(str::to_owned).into(),
        }
    }
}

/// Parameters that sites, mail programs and campaigns add to links that people share.
const ADDED_BY_OTHERS: [&str; 12] =
    ["fbclid", "gclid", "dclid", "gbraid", "wbraid", "msclkid", "twclid", "ttclid", "igsh", "igshid", "mc_*", "utm_*"];

impl Default for Headers {
    fn default() -> Self {
        let text = |text: &str| Setting::Text(text.to_owned());
        Self {
            hsts: text("max-age=31536000"),
            content_type_options: text("nosniff"),
            referrer_policy: None,
            frame_options: text("SAMEORIGIN"),
            content_security_policy: text("object-src 'none'; base-uri 'self'"),
        }
    }
}

impl Default for Cors {
    fn default() -> Self {
        let list = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        Self {
            origins: Vec::new(),
            credentials: false,
            allow_headers: list(&["Authorization", "Content-Type", "Range", "X-API-Key"]),
            expose_headers: list(&[
                "Accept-Ranges",
                "Content-Disposition",
                "Content-Length",
                "Content-Range",
                "ETag",
                "Last-Modified",
                "RateLimit",
                "RateLimit-Policy",
                "Retry-After",
                "X-Request-Id",
            ]),
            max_age: Duration(std::time::Duration::from_hours(2)),
        }
    }
}
