//! The page that a browser gets at `/` of the worker's site, which has no page of its own. All clients get the same page.

use std::sync::LazyLock;

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::trust_page::page_policy;

const PAGE: &str = include_str!("welcome.html");

/// The page's headers, in addition to those of every response of the gateway itself.
static HEADERS: LazyLock<HeaderMap> = LazyLock::new(|| {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Ok(policy) = HeaderValue::try_from(page_policy(PAGE)) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    headers
});

/// Adds the page's headers to a response of the gateway itself; returns the page's body.
pub(crate) fn fill(headers: &mut HeaderMap) -> Vec<u8> {
    for (name, value) in &*HEADERS {
        headers.insert(name, value.clone());
    }
    PAGE.as_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_loads_nothing_and_reveals_nothing_about_this_server() {
        for foreign in ["<script", "src=", "href=", "http:", "https:", "style=", "@import", "url(", "{{", "<form"] {
            assert!(!PAGE.contains(foreign), "{foreign}");
        }
        assert!(!PAGE.contains(env!("CARGO_PKG_VERSION")));
    }
}
