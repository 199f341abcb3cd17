//! An origin is allowed by its exact bytes or not at all.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, header};
use sallyport_gateway::policy::{CorsHeaders, CorsPolicy, Origin};

use super::parts;

/// The first line is an origin of the policy; each other line is an `Origin` that a browser might send.
pub fn run(data: &[u8]) {
    let (allowed, rest) = parts::text(data);
    let Ok(origin) = allowed.parse::<Origin>() else { return };
    let (scheme, _) = allowed.split_once("://").expect("an origin has a scheme");
    assert!(!["file", "data", "blob", "javascript", "about", "ftp", "ws", "wss"].contains(&scheme), "{allowed:?}");
    assert!(!allowed.ends_with('/') && !allowed.contains(['*', '@', '?', '#', ' ', '\\']), "{allowed:?}");
    assert!(allowed.is_ascii() && !allowed.bytes().any(|b| b.is_ascii_uppercase()), "{allowed:?}");
    let policy = CorsPolicy {
        origins: vec![origin],
        credentials: true,
        allow_headers: HeaderValue::from_static("content-type"),
        expose_headers: HeaderValue::from_static("etag"),
        max_age: Duration::from_secs(1),
    };
    let sent: Vec<_> = rest.split(|b| *b == b'\n').filter_map(|line| HeaderValue::from_bytes(line).ok()).collect();
    for value in &sent {
        let headers: HeaderMap = [(header::ORIGIN, value.clone())].into_iter().collect();
        let allows = matches!(policy.headers(&headers), CorsHeaders::Allow { .. });
        assert_eq!(allows, value.as_bytes() == allowed.as_bytes(), "{value:?} of {allowed:?}");
    }
    if sent.len() > 1 {
        let headers: HeaderMap = sent.into_iter().map(|value| (header::ORIGIN, value)).collect();
        assert_eq!(policy.headers(&headers), CorsHeaders::Vary, "two origins at once");
    }
}
