//! The URL of a source: http or https to a public place, judged as it is written and again by what its name resolves to.

use thiserror::Error;
use url::{Host, Url};

use crate::{
    address::{is_public, is_public_host},
    config::HostPort,
    lookup::Lookups,
    worker::owner::Owner,
};

/// In bytes.
pub(crate) const MAX_LENGTH: usize = 2_048;

/// yt-dlp takes instructions for its extractors from such a fragment.
const SMUGGLED: &str = "__youtubedl_smuggle";

/// A URL that may be fetched, as far as its text tells.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SourceUrl {
    url: Url,
    allowed: bool,
}

/// Why a URL is not fetched.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum SourceError {
    #[error("the URL is longer than 2048 bytes")]
    TooLong,
    #[error("this is not an http or https URL")]
    NotHttp,
    #[error("the URL holds characters that belong in none")]
    Characters,
    #[error("the URL holds a user name or a password")]
    Credentials,
    #[error("the URL points at a private address, which is not in worker.allow_private")]
    Private,
}

/// Why a URL is not fetched after all.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum ResolveError {
    #[error("the host name could not be resolved")]
    Unresolved,
    #[error("the host name resolves to a private address, and is not in worker.allow_private")]
    Private,
}

impl SourceUrl {
    /// Reads what a client wrote, without white space around it, as comes along when a URL is copied. `allowed` names the
    /// places that may be private.
    pub(crate) fn parse(text: &str, allowed: &[HostPort]) -> Result<Self, SourceError> {
        let text = text.trim();
        if text.len() > MAX_LENGTH {
            return Err(SourceError::TooLong);
        }
        if text.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\') {
            return Err(SourceError::Characters);
        }
        let url = Url::parse(text).map_err(|_| SourceError::NotHttp)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(SourceError::NotHttp);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(SourceError::Credentials);
        }
        if url.fragment().is_some_and(|f| f.contains(SMUGGLED)) {
            return Err(SourceError::Characters);
        }
        let host = url.host().ok_or(SourceError::NotHttp)?;
        let allowed = allowed.iter().any(|place| place.matches(&url));
        if allowed || is_public_host(&host) { Ok(Self { url, allowed }) } else { Err(SourceError::Private) }
    }

    /// The URL in its one normal spelling; it starts with `http`.
    pub(crate) fn as_str(&self) -> &str {
        self.url.as_str()
    }

    /// Judges every address that the name has now. What yt-dlp connects to later is the egress guard's to judge.
    /// The lookup counts as one of `user`'s.
    pub(crate) async fn resolve(&self, lookups: &Lookups<Owner>, user: &Owner) -> Result<(), ResolveError> {
        let (Some(Host::Domain(name)), false) = (self.url.host(), self.allowed) else { return Ok(()) };
        let port = self.url.port_or_known_default().unwrap_or(443);
        let found = lookups.addresses(user.clone(), name, port).await.map_err(|_| ResolveError::Unresolved)?;
        if found.iter().all(|address| is_public(address.ip())) { Ok(()) } else { Err(ResolveError::Private) }
    }
}

/// Whether an address that is refused as a client's is one that yt-dlp made for itself: with instructions for an extractor behind it,
/// with characters that are encoded when it is asked for, or no address of the web at all. `judge` has the last word on its host.
pub(crate) fn is_of_yt_dlp(text: &str, judge: impl Fn(&str) -> Result<SourceUrl, SourceError>) -> bool {
    match Url::parse(text) {
        Ok(mut url) if matches!(url.scheme(), "http" | "https") => {
            url.set_fragment(None);
            judge(url.as_str()).is_ok()
        }
        Ok(url) => url.cannot_be_a_base() && !matches!(url.scheme(), "file" | "data" | "javascript"),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> Option<SourceError> {
        SourceUrl::parse(text, &[]).err()
    }

    #[test]
    fn only_http_to_a_public_place_passes() {
        assert_eq!(refused("https://example.com/watch?v=1#t=3"), None);
        assert_eq!(refused("HTTP://EXAMPLE.com"), None);
        for text in ["", "-x", "--exec=id", "example.com", "file:///etc/passwd", "ftp://example.com/", "ytsearch:x"] {
            assert_eq!(refused(text), Some(SourceError::NotHttp), "{text}");
        }
        for text in [" https://example.com/", "https://example.com/\n", "\u{a0}https://example.com/\r\n"] {
            assert_eq!(SourceUrl::parse(text, &[]).unwrap().as_str(), "https://example.com/", "{text:?}");
        }
        for text in ["https://exam\nple.com", "https:\\\\example.com", "https://e.com/a\tb", "https://e.com/a b"] {
            assert_eq!(refused(text), Some(SourceError::Characters), "{text}");
        }
        for text in ["http://a@example.com/", "http://a:b@example.com/", "http://1.1.1.1@127.0.0.1/"] {
            assert_eq!(refused(text), Some(SourceError::Credentials), "{text}");
        }
        for text in ["http://127.1/", "http://[::ffff:10.0.0.1]/", "http://localhost/", "http://0xa9fea9fe/latest"] {
            assert_eq!(refused(text), Some(SourceError::Private), "{text}");
        }
        assert_eq!(refused(&format!("https://example.com/{}", "x".repeat(2_100))), Some(SourceError::TooLong));
        assert_eq!(refused("https://example.com/#__youtubedl_smuggle=%7B%7D"), Some(SourceError::Characters));
    }

    #[test]
    fn an_allowed_private_place_is_that_host_and_port_only() {
        let allowed = ["127.0.0.1:8080".parse().unwrap()];
        let parse = |text| SourceUrl::parse(text, &allowed).map(|s| s.as_str().to_owned());
        assert_eq!(parse("http://127.1:8080/a"), Ok("http://127.0.0.1:8080/a".to_owned()));
        assert_eq!(parse("http://127.0.0.1:8081/a"), Err(SourceError::Private));
        assert_eq!(parse("http://127.0.0.2:8080/a"), Err(SourceError::Private));
    }
}
