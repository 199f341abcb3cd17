//! Origins that a policy can allow: those of web pages, browser extensions and apps around a web view.

use std::str::FromStr;

use http::HeaderValue;
use sallyport_core::addresses::Authority;
use thiserror::Error;
use url::Url;

/// An origin as browsers serialise it: scheme, host and, unless it is the scheme's default, port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin(Box<str>);

/// A text that is not an origin.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "{0:?} is not an origin; write only scheme and host, such as \"https://app.example.com\" or \"chrome-extension://ID\""
)]
pub struct InvalidOrigin(String);

impl FromStr for Origin {
    type Err = InvalidOrigin;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if is_web_origin(text) || is_app_origin(text) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidOrigin(text.to_owned()))
        }
    }
}

impl Origin {
    /// Returns true if a browser sent this origin.
    pub(super) fn is(&self, sent: &HeaderValue) -> bool {
        self.0.as_bytes() == sent.as_bytes()
    }
}

/// Refuses `*`: neither browsers nor [`Origin::is`] support patterns.
fn is_web_origin(text: &str) -> bool {
    let url = Url::parse(text).ok().filter(|u| matches!(u.scheme(), "https" | "http"));
    url.is_some_and(|u| u.origin().ascii_serialization() == text) && !text.contains('*')
}

/// Accepts the origin of a browser extension or of an app with a web view: a custom scheme and an identifier, such as
/// `moz-extension://UUID`, `capacitor://localhost` or `app://main:1`. Schemes whose pages have no origin are refused.
fn is_app_origin(text: &str) -> bool {
    const WITHOUT: [&str; 10] = ["http", "https", "ws", "wss", "ftp", "file", "data", "blob", "javascript", "about"];
    let Some((scheme, authority)) = text.split_once("://") else { return false };
    let Authority { host, port } = Authority::split(authority);
    let in_scheme = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b);
    let in_host = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._".contains(&b);
    scheme.starts_with(|c: char| c.is_ascii_lowercase())
        && scheme.bytes().all(in_scheme)
        && !WITHOUT.contains(&scheme)
        && !host.is_empty()
        && host.bytes().all(in_host)
        && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|number| number.to_string() == port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anything_but_an_exact_origin_is_refused() {
        for text in [
            "*",
            "https://*.example.com",
            "null",
            "app.example.com",
            "https://app.example.com/",
            "https://A.example",
            "ftp://x.example",
            "https://x:443",
            "file://",
            "file://x",
            "data://x",
            "chrome-extension://",
            "chrome-extension://abc/",
            "chrome-extension://*",
            "Chrome-Extension://abc",
            "app://x:",
            "app://x:080",
            "app://x:70000",
            "app://u@x",
            "app://x y",
            "app://Main",
            "://x",
            "app:x",
        ] {
            assert!(text.parse::<Origin>().is_err(), "{text}");
        }
        for text in [
            "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
            "moz-extension://6a3a1f5e-52cc-4c43-8d0b-0a1b2c3d4e5f",
            "capacitor://localhost",
            "tauri://localhost",
            "app://main.view:1",
            "http://localhost:5173",
        ] {
            assert!(text.parse::<Origin>().is_ok(), "{text}");
        }
    }
}
