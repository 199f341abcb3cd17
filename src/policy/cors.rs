//! Cross-origin requests by the Fetch standard: exact origins, preflights answered here, nothing ever `*`.

use std::{str::FromStr, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use thiserror::Error;
use url::Url;

use super::site::App;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// An origin as browsers serialise it: scheme, host and, where it is not the scheme's own, port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin(Box<str>);

/// A text that is no origin.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0:?} is not an origin; write scheme and host only, like \"https://app.example.com\"")]
pub struct InvalidOrigin(String);

/// Which origins may read an app's answers, and what they may send.
#[derive(Clone, Debug)]
pub struct CorsPolicy {
    /// The origins.
    pub origins: Vec<Origin>,
    /// Whether cookies may come along.
    pub credentials: bool,
    /// Request headers, as one field value.
    pub allow_headers: HeaderValue,
    /// Response headers that scripts may read, as one field value.
    pub expose_headers: HeaderValue,
    /// How long a preflight's answer holds.
    pub max_age: Duration,
}

/// What CORS adds to an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CorsAnswer {
    /// Nothing: the route has no CORS.
    #[default]
    None,
    /// `Vary: Origin` only: the route has CORS, this origin is not allowed or there is none.
    Vary,
    /// The origin may read the answer.
    Allow {
        /// `Access-Control-Allow-Origin`.
        origin: HeaderValue,
        /// `Access-Control-Allow-Credentials: true`.
        credentials: bool,
        /// `Access-Control-Expose-Headers`.
        expose: HeaderValue,
    },
}

/// The answer to a preflight that is allowed.
#[derive(Clone, Debug)]
pub struct PreflightAnswer {
    /// The application.
    pub app: Arc<App>,
    /// The origin's part.
    pub cors: CorsAnswer,
    /// `Access-Control-Allow-Methods`.
    pub methods: HeaderValue,
    /// `Access-Control-Allow-Headers`.
    pub headers: HeaderValue,
    /// `Access-Control-Max-Age`, in seconds.
    pub max_age: u64,
}

impl FromStr for Origin {
    type Err = InvalidOrigin;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let url = Url::parse(text).ok().filter(|u| matches!(u.scheme(), "https" | "http"));
        let serialised = url.map(|u| u.origin().ascii_serialization());
        match serialised {
            // A browser knows no patterns, and nor does the comparison below.
            Some(origin) if origin == text && !text.contains('*') => Ok(Self(origin.into())),
            _ => Err(InvalidOrigin(text.to_owned())),
        }
    }
}

impl CorsPolicy {
    /// What to add to an answer to a request with these headers.
    #[must_use]
    pub fn answer(&self, headers: &HeaderMap) -> CorsAnswer {
        match sole(headers, &header::ORIGIN) {
            Some(origin) if self.allows(origin) => CorsAnswer::Allow {
                origin: origin.clone(),
                credentials: self.credentials,
                expose: self.expose_headers.clone(),
            },
            _ => CorsAnswer::Vary,
        }
    }

    fn allows(&self, origin: &HeaderValue) -> bool {
        self.origins.iter().any(|o| o.0.as_bytes() == origin.as_bytes())
    }
}

/// The method that a preflight asks for; None where the request is no preflight.
pub(super) fn preflight_method(method: &Method, headers: &HeaderMap) -> Option<Method> {
    if method != Method::OPTIONS || !headers.contains_key(header::ORIGIN) {
        return None;
    }
    sole(headers, &header::ACCESS_CONTROL_REQUEST_METHOD).and_then(|m| Method::from_bytes(m.as_bytes()).ok())
}

/// True when the request comes from a page of another origin, or from one that hides its origin; browsers tell by one header or
/// two (Fetch; Fetch Metadata, section 2.3), and one that tells is enough.
pub(super) fn is_foreign(headers: &HeaderMap, host: &str) -> bool {
    let own_site = |value: &HeaderValue| value == "same-origin" || value == "none";
    if !headers.get_all(SEC_FETCH_SITE).iter().all(own_site) {
        return true;
    }
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let Some(origin) = origins.next() else { return false };
    let own = origin.as_bytes().strip_prefix(b"https://").is_some_and(|o| o.eq_ignore_ascii_case(host.as_bytes()));
    !own || origins.next().is_some()
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
        assert!(matches!(policy().answer(&headers(&["https://app.example.com"])), CorsAnswer::Allow { .. }));
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
            assert_eq!(policy().answer(&headers(&[origin])), CorsAnswer::Vary, "{origin}");
        }
        assert_eq!(policy().answer(&headers(&[])), CorsAnswer::Vary);
        let mut two = headers(&["https://app.example.com"]);
        two.append(header::ORIGIN, HeaderValue::from_static("https://app.example.com"));
        assert_eq!(policy().answer(&two), CorsAnswer::Vary);
    }

    #[test]
    fn what_is_no_origin_does_not_parse() {
        for text in [
            "*",
            "https://*.example.com",
            "null",
            "app.example.com",
            "https://app.example.com/",
            "https://A.example",
            "ftp://x.example",
            "https://x:443",
        ] {
            assert!(text.parse::<Origin>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_origin_is_foreign_unless_it_is_the_host_over_tls() {
        assert!(!is_foreign(&headers(&[]), "h:8443"));
        assert!(!is_foreign(&headers(&["https://h:8443"]), "h:8443"));
        for origin in ["https://h", "http://h:8443", "https://evil.example", "null", ""] {
            assert!(is_foreign(&headers(&[origin]), "h:8443"), "{origin}");
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
