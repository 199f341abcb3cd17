//! Cross-origin requests by the Fetch standard: origins match exactly, the gateway answers preflights, and never sends `*`.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use super::{origin::Origin, site::App};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Which origins may read an application's responses, and what they may send.
#[derive(Clone, Debug)]
pub struct CorsPolicy {
    /// The allowed origins.
    pub origins: Vec<Origin>,
    /// Whether browsers may send credentials (cookies, client certificates).
    pub credentials: bool,
    /// The allowed request headers, as one field value.
    pub allow_headers: HeaderValue,
    /// The response headers that scripts may read, as one field value.
    pub expose_headers: HeaderValue,
    /// How long browsers may cache the response to a preflight.
    pub max_age: Duration,
}

/// The CORS headers of a response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CorsHeaders {
    /// None: the route has no CORS.
    #[default]
    None,
    /// Only `Vary: Origin`: the route has CORS, but the origin is missing or not allowed.
    Vary,
    /// The origin may read the response.
    Allow {
        /// `Access-Control-Allow-Origin`.
        origin: HeaderValue,
        /// `Access-Control-Allow-Credentials: true`.
        credentials: bool,
        /// `Access-Control-Expose-Headers`.
        expose: HeaderValue,
    },
}

/// The response to an allowed preflight.
#[derive(Clone, Debug)]
pub struct PreflightResponse {
    /// The application.
    pub app: Arc<App>,
    /// The headers that depend on the origin.
    pub cors: CorsHeaders,
    /// `Access-Control-Allow-Methods`.
    pub methods: HeaderValue,
    /// `Access-Control-Allow-Headers`.
    pub headers: HeaderValue,
    /// `Access-Control-Max-Age`, in seconds.
    pub max_age: u64,
}

impl CorsPolicy {
    /// Returns the CORS headers for the response to a request with these headers.
    #[must_use]
    pub fn headers(&self, headers: &HeaderMap) -> CorsHeaders {
        match sole(headers, &header::ORIGIN) {
            Some(origin) if self.allows(origin) => CorsHeaders::Allow {
                origin: origin.clone(),
                credentials: self.credentials,
                expose: self.expose_headers.clone(),
            },
            Some(_) | None => CorsHeaders::Vary,
        }
    }

    /// Returns the CORS headers for a response by the gateway itself without a known route, so that pages of an allowed origin can read
    /// why the request was refused.
    #[must_use]
    pub fn headers_without_route(&self, headers: &HeaderMap) -> CorsHeaders {
        if self.origins.is_empty() { CorsHeaders::None } else { self.headers(headers) }
    }

    fn allows(&self, origin: &HeaderValue) -> bool {
        self.origins.iter().any(|allowed| allowed.is(origin))
    }
}

/// Returns the method that a preflight asks for; `None` if the request is not a preflight.
pub(super) fn preflight_method(method: &Method, headers: &HeaderMap) -> Option<Method> {
    if method != Method::OPTIONS || !headers.contains_key(header::ORIGIN) {
        return None;
    }
    sole(headers, &header::ACCESS_CONTROL_REQUEST_METHOD).and_then(|m| Method::from_bytes(m.as_bytes()).ok())
}

/// Returns true if the request comes from a page of another origin, or from one that hides its origin.
///
/// Browsers send one header or two (Fetch; Fetch Metadata, section 2.3), and either one suffices to mark a request as foreign. A page
/// under `Referrer-Policy: no-referrer` sends `Origin: null` with its own forms. Only in that case does `Sec-Fetch-Site: same-origin`
/// decide: no page can set that header, and a sandboxed page, whose origin is also `null`, is `cross-site`.
pub(super) fn is_foreign(headers: &HeaderMap, host: &str) -> bool {
    let own_site = |value: &HeaderValue| value == "same-origin" || value == "none";
    if !headers.get_all(SEC_FETCH_SITE).iter().all(own_site) {
        return true;
    }
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let Some(origin) = origins.next() else { return false };
    let hidden = origin == "null" && sole(headers, &SEC_FETCH_SITE).is_some_and(|site| site == "same-origin");
    !(hidden || is_own(origin, host)) || origins.next().is_some()
}

/// Returns true for the origin of this host over TLS; port 443 can be present or omitted on either side.
fn is_own(origin: &HeaderValue, host: &str) -> bool {
    let without_default = |authority: &str| authority.strip_suffix(":443").unwrap_or(authority).to_ascii_lowercase();
    let authority = origin.to_str().ok().and_then(|text| text.strip_prefix("https://"));
    authority.is_some_and(|authority| without_default(authority) == without_default(host))
}

fn sole<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> CorsPolicy {
        CorsPolicy {
            origins: vec!["https://app.example.com".parse().unwrap()],
            credentials: false,
            allow_headers: HeaderValue::from_static("content-type"),
            expose_headers: HeaderValue::from_static("content-range"),
            max_age: Duration::from_hours(2),
        }
    }

    fn headers(origins: &[&'static str]) -> HeaderMap {
        origins.iter().map(|o| (header::ORIGIN, HeaderValue::from_static(o))).collect()
    }

    #[test]
    fn only_the_exact_origin_is_allowed() {
        assert!(matches!(policy().headers(&headers(&["https://app.example.com"])), CorsHeaders::Allow { .. }));
        for origin in [
            "http://app.example.com",
            "https://app.example.com:443",
            "https://app.example.com.evil.example",
            "https://APP.example.com",
            "https://example.com",
            "https://evilapp.example.com",
            "null",
            "*",
            "",
            "https://app.example.com/",
        ] {
            assert_eq!(policy().headers(&headers(&[origin])), CorsHeaders::Vary, "{origin}");
        }
        assert_eq!(policy().headers(&headers(&[])), CorsHeaders::Vary);
        let mut two = headers(&["https://app.example.com"]);
        two.append(header::ORIGIN, HeaderValue::from_static("https://app.example.com"));
        assert_eq!(policy().headers(&two), CorsHeaders::Vary);
    }

    #[test]
    fn an_origin_is_foreign_unless_it_is_the_host_over_tls() {
        assert!(!is_foreign(&headers(&[]), "h:8443"));
        assert!(!is_foreign(&headers(&["https://h:8443"]), "h:8443"));
        for origin in ["https://h", "http://h:8443", "https://evil.example", "null", ""] {
            assert!(is_foreign(&headers(&[origin]), "h:8443"), "{origin}");
        }
        for (origin, host) in
            [("https://h", "h:443"), ("https://h:443", "h"), ("https://[::1]", "[::1]:443"), ("https://H", "h")]
        {
            assert!(!is_foreign(&headers(&[origin]), host), "{origin} {host}");
        }
        for (origin, host) in
            [("https://h", "h:80"), ("http://h", "h:443"), ("https://h:443:443", "h"), ("https://h", "x:443")]
        {
            assert!(is_foreign(&headers(&[origin]), host), "{origin} {host}");
        }
        for (sites, foreign) in [
            (&["same-origin"][..], false),
            (&["cross-site"], true),
            (&["same-site"], true),
            (&["none"], true),
            (&["same-origin", "same-origin"], true),
            (&[], true),
        ] {
            let mut headers = headers(&["null"]);
            for site in sites {
                headers.append(SEC_FETCH_SITE, HeaderValue::from_static(site));
            }
            assert_eq!(is_foreign(&headers, "h:8443"), foreign, "null {sites:?}");
            headers.append(header::ORIGIN, HeaderValue::from_static("https://h:8443"));
            assert!(is_foreign(&headers, "h:8443"), "two origins {sites:?}");
        }
        for (site, foreign) in
            [("cross-site", true), ("same-site", true), ("x", true), ("same-origin", false), ("none", false)]
        {
            for origins in [&[][..], &["https://h:8443"]] {
                let mut headers = headers(origins);
                headers.insert(SEC_FETCH_SITE, HeaderValue::from_static(site));
                assert_eq!(is_foreign(&headers, "h:8443"), foreign, "{site} {origins:?}");
            }
        }
    }
}
