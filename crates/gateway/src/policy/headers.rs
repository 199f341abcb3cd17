//! Security headers that a policy adds to the responses of its application, parsed when the policy is compiled.

use http::HeaderValue;
use thiserror::Error;

use super::wire::{self, Setting};

/// The security headers of an application's responses. `None` keeps what the application sends, if anything.
#[derive(Clone, Debug)]
pub struct SecurityHeaders {
    /// `Strict-Transport-Security`; replaces the application's.
    pub transport_security: Option<HeaderValue>,
    /// `X-Content-Type-Options`; replaces the application's.
    pub content_type_options: Option<HeaderValue>,
    /// `Referrer-Policy`.
    pub referrer_policy: ReferrerPolicy,
    /// `X-Frame-Options`, unless the application's is stricter.
    pub frame_options: Option<HeaderValue>,
    /// `Content-Security-Policy`, if the application sends none.
    pub content_security_policy: Option<HeaderValue>,
}

/// The `Referrer-Policy` of an application's responses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReferrerPolicy {
    /// This value; replaces the application's.
    Set(HeaderValue),
    /// The application's value if it reveals no more than an origin to other sites, otherwise [`DEFAULT_REFERRER_POLICY`].
    Default,
    /// What the application sends, if anything.
    Application,
}

/// Reveals only the origin to other sites, while forms on an application's own pages still send their origin. Under `no-referrer`
/// a browser submits such forms with `Origin: null`, which many applications refuse.
pub const DEFAULT_REFERRER_POLICY: &str = "strict-origin-when-cross-origin";

/// A value that is not valid for its header.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum InvalidHeader {
    #[error(
        "{0:?} is not a valid Strict-Transport-Security value; write \"max-age=31536000\", optionally with \"; includeSubDomains\""
    )]
    TransportSecurity(String),
    #[error("{0:?} is not a valid X-Content-Type-Options value; write \"nosniff\"")]
    Sniffing(String),
    #[error(
        "{0:?} is not a referrer policy; write \"no-referrer\", \"same-origin\" or \"strict-origin-when-cross-origin\""
    )]
    ReferrerPolicy(String),
    #[error("{0:?} is not a valid X-Frame-Options value; write \"DENY\" or \"SAMEORIGIN\"")]
    FrameOptions(String),
    #[error(
        "{0:?} is not a valid Content-Security-Policy; write directives such as \"default-src 'self'; object-src 'none'\""
    )]
    ContentSecurityPolicy(String),
    #[error("true is not a value; write the header's value, or false to keep what the application sends")]
    True,
}

impl SecurityHeaders {
    /// Compiles `[headers]`, and reports each invalid value with its key to `fault`.
    pub(super) fn compile(headers: &wire::Headers, mut fault: impl FnMut(&'static str, InvalidHeader)) -> Self {
        use InvalidHeader as Invalid;
        let mut read = |key, setting: &Setting, fits: fn(&str) -> bool, otherwise: fn(String) -> Invalid| {
            read(setting, fits, otherwise).unwrap_or_else(|invalid| {
                fault(key, invalid);
                None
            })
        };
        let wire::Headers { hsts, content_type_options, referrer_policy, frame_options, content_security_policy: csp } =
            headers;
        Self {
            transport_security: read("hsts", hsts, is_hsts, Invalid::TransportSecurity),
            content_type_options: read("content_type_options", content_type_options, is_nosniff, Invalid::Sniffing),
            referrer_policy: match referrer_policy {
                None => ReferrerPolicy::Default,
                Some(setting) => read("referrer_policy", setting, is_referrer_policy, Invalid::ReferrerPolicy)
                    .map_or(ReferrerPolicy::Application, ReferrerPolicy::Set),
            },
            frame_options: read("frame_options", frame_options, is_frame_options, Invalid::FrameOptions),
            content_security_policy: read("content_security_policy", csp, is_csp, Invalid::ContentSecurityPolicy),
        }
    }
}

fn read(
    setting: &Setting,
    fits: fn(&str) -> bool,
    otherwise: fn(String) -> InvalidHeader,
) -> Result<Option<HeaderValue>, InvalidHeader> {
    match setting {
        Setting::Switch(true) => Err(InvalidHeader::True),
        Setting::Switch(false) => Ok(None),
        Setting::Text(text) if text.is_empty() => Ok(None),
        Setting::Text(text) => match HeaderValue::from_str(text) {
            Ok(value) if fits(text) => Ok(Some(value)),
            _ => Err(otherwise(text.clone())),
        },
    }
}

fn is_nosniff(text: &str) -> bool {
    text == "nosniff"
}

/// RFC 7034, section 2.1, without `ALLOW-FROM`, which browsers do not support.
fn is_frame_options(text: &str) -> bool {
    matches!(text, "DENY" | "SAMEORIGIN")
}

/// RFC 6797, section 6.1: `max-age` exactly once, and otherwise only directives that browsers know.
fn is_hsts(text: &str) -> bool {
    let mut ages = 0;
    let mut others = Vec::new();
    for directive in text.split(';').map(|d| d.trim().to_ascii_lowercase()) {
        match directive.strip_prefix("max-age=") {
            Some(age) if age.parse::<u32>().is_ok() => ages += 1,
            None if matches!(&*directive, "includesubdomains" | "preload") && !others.contains(&directive) => {
                others.push(directive);
            }
            _ => return false,
        }
    }
    ages == 1
}

/// Policies that reveal at most an origin to other sites.
const DISCREET: [&str; 6] = [
    "no-referrer",
    "origin",
    "origin-when-cross-origin",
    "same-origin",
    "strict-origin",
    "strict-origin-when-cross-origin",
];
/// Policies that reveal the whole URL to other sites, including the signature of a link.
const TELLTALE: [&str; 2] = ["no-referrer-when-downgrade", "unsafe-url"];

/// Accepts a list; a browser applies the last policy in it that it knows (Referrer Policy, section 8.1).
fn is_referrer_policy(text: &str) -> bool {
    text.split(',').map(str::trim).all(|policy| DISCREET.contains(&policy) || TELLTALE.contains(&policy))
}

/// Returns true if a browser that receives these `Referrer-Policy` values reveals at most an origin to other sites.
#[must_use]
pub fn is_discreet<'v>(values: impl Iterator<Item = &'v HeaderValue>) -> bool {
    let words = values.filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(','));
    let known = words.filter_map(|word| {
        let is = |policy: &&str| policy.eq_ignore_ascii_case(word.trim());
        if DISCREET.iter().any(is) { Some(true) } else { TELLTALE.iter().any(is).then_some(false) }
    });
    known.last().unwrap_or(false)
}

/// Accepts directives whose names consist of letters and `-` (CSP 3, section 2.3). A browser ignores unknown directives, so a typo
/// such as `default-src: 'self'` would silently protect nothing.
fn is_csp(text: &str) -> bool {
    let mut names = text.split(';').filter_map(|directive| directive.split_ascii_whitespace().next()).peekable();
    let named = names.peek().is_some();
    named && text.is_ascii() && names.all(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Setting {
        Setting::Text(text.to_owned())
    }

    #[test]
    fn a_policy_without_headers_gets_the_defaults() {
        let headers = SecurityHeaders::compile(&wire::Headers::default(), |key, e| unreachable!("{key}: {e}"));
        assert_eq!(headers.transport_security.unwrap(), "max-age=31536000");
        assert_eq!(headers.content_type_options.unwrap(), "nosniff");
        assert_eq!(headers.referrer_policy, ReferrerPolicy::Default);
        assert_eq!(headers.frame_options.unwrap(), "SAMEORIGIN");
        assert_eq!(headers.content_security_policy.unwrap(), "object-src 'none'; base-uri 'self'");
    }

    #[test]
    fn values_that_a_browser_would_not_understand_are_refused() {
        for (bad, fits) in [
            ("includeSubDomains", is_hsts as fn(&str) -> bool),
            ("max-age=1y", is_hsts),
            ("max-age=1; max-age=2", is_hsts),
            ("max-age=1;", is_hsts),
            ("max-age=1; includeSubDomain", is_hsts),
            ("never", is_referrer_policy),
            ("no-referrer, never", is_referrer_policy),
            ("default-src: 'self'", is_csp),
            (";", is_csp),
            ("default-src \u{2018}self\u{2019}", is_csp),
        ] {
            assert!(!fits(bad), "{bad}");
        }
        assert!(is_hsts("max-age=63072000; includeSubDomains; preload"));
        assert!(is_referrer_policy("no-referrer, same-origin"));
        assert!(is_csp("default-src 'self'; upgrade-insecure-requests;"));
    }

    #[test]
    fn each_fault_names_its_key_and_false_leaves_the_header_to_the_application() {
        let headers = wire::Headers {
            hsts: Setting::Switch(false),
            content_type_options: text("sniff"),
            referrer_policy: Some(Setting::Switch(true)),
            frame_options: text(""),
            content_security_policy: text("default-src 'self'\r\nx: y"),
        };
        let mut faults = Vec::new();
        let compiled = SecurityHeaders::compile(&headers, |key, _| faults.push(key));
        assert_eq!(faults, ["content_type_options", "referrer_policy", "content_security_policy"]);
        assert!(compiled.transport_security.is_none() && compiled.frame_options.is_none());
    }

    #[test]
    fn of_several_referrer_policies_the_last_known_one_counts() {
        let discreet = |texts: &[&'static str]| {
            let values: Vec<_> = texts.iter().map(|text| HeaderValue::from_static(text)).collect();
            is_discreet(values.iter())
        };
        for texts in [&["same-origin"][..], &["unsafe-url, Strict-Origin"], &["unsafe-url", "origin, later-one"]] {
            assert!(discreet(texts), "{texts:?}");
        }
        for texts in [&[][..], &[""], &["later-one"], &["no-referrer, unsafe-url"], &["origin", "UNSAFE-URL"]] {
            assert!(!discreet(texts), "{texts:?}");
        }
    }
}
