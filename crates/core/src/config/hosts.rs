//! Checks the hosts and prefixes of applications, and finds those that can never get a request.

use url::Host;

use super::app::AppConfig;
use crate::addresses::Authority;

/// Returns what is wrong with a host name and what to write instead; `None` if requests can have it.
pub(super) fn error(text: &str) -> Option<String> {
    let bare = text.split_once("://").map_or(text, |(_, rest)| rest).split('/').next().unwrap_or_default();
    if bare != text {
        return Some(format!("{text:?} is a URL; write only the host, {:?}", without_port(bare)));
    }
    if text.contains('*') {
        let what = "* is not a wildcard here, so no request would match; list each host, or leave hosts empty for all";
        return Some(format!("{text:?}: {what}"));
    }
    if text.parse::<std::net::Ipv6Addr>().is_ok() {
        return Some(format!("an IPv6 address must be in brackets; write \"[{text}]\""));
    }
    let without_port = without_port(text);
    if without_port != text {
        return Some(format!("{text:?}: hosts are compared without a port; write {without_port:?}"));
    }
    if let Some(name) = text.strip_suffix('.') {
        return Some(format!("{text:?} ends in a dot; write {name:?}"));
    }
    match Host::parse(text) {
        // If the parser changes the name, such as one in another script, requests spell it differently.
        Ok(host) if host.to_string() == text => None,
        Ok(host) => Some(format!("requests spell {text:?} as {:?}; write it that way", host.to_string())),
        Err(_) => Some(format!("{text:?} is not a host name; write, for example, \"home.example.com\"")),
    }
}

fn without_port(text: &str) -> &str {
    let authority = Authority::split(text);
    if authority.port.is_some_and(|port| !port.is_empty()) { authority.host } else { text }
}

/// A host for which an application gets no requests, and the earlier application that takes them.
pub(super) struct ShadowedHost<'a> {
    /// The index of the host; `None` if this concerns every host.
    pub(super) host: Option<usize>,
    pub(super) by: &'a str,
}

/// Returns the hosts of `app` for which it gets no requests, because an earlier application takes them all.
pub(super) fn shadowed<'a>(app: &AppConfig, before: &'a [AppConfig]) -> Vec<ShadowedHost<'a>> {
    let earlier = |host: Option<&String>| {
        let mut covering = before.iter().filter(|earlier| covers(&earlier.prefix, &app.prefix));
        covering.find(|earlier| earlier.hosts.is_empty() || host.is_some_and(|host| earlier.hosts.contains(host)))
    };
    if app.hosts.is_empty() {
        return earlier(None).map(|earlier| ShadowedHost { host: None, by: &earlier.name }).into_iter().collect();
    }
    let hosts = app.hosts.iter().enumerate();
    hosts
        .filter_map(|(i, host)| earlier(Some(host)).map(|earlier| ShadowedHost { host: Some(i), by: &earlier.name }))
        .collect()
}

/// Returns true if every path under `other` is also under `prefix`, by whole segments.
fn covers(prefix: &str, other: &str) -> bool {
    let mut segments = other.trim_end_matches('/').split('/');
    prefix.trim_end_matches('/').split('/').all(|wanted| segments.next() == Some(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_must_be_written_as_requests_spell_it() {
        for text in ["home.example.com", "localhost", "192.0.2.1", "[2001:db8::1]", "xn--bcher-kva.example"] {
            assert_eq!(error(text), None, "{text}");
        }
        for (text, mend) in [
            ("https://home.example.com", "\"home.example.com\""),
            ("https://home.example.com:8443/x", "\"home.example.com\""),
            ("home.example.com:8443", "\"home.example.com\""),
            ("home.example.com/", "\"home.example.com\""),
            ("*.example.com", "list each host"),
            ("*", "leave hosts empty"),
            ("2001:db8::1", "\"[2001:db8::1]\""),
            ("[2001:db8::1]:443", "\"[2001:db8::1]\""),
            ("home.example.com.", "\"home.example.com\""),
            ("bücher.example", "\"xn--bcher-kva.example\""),
            ("a b", "not a host name"),
            ("", "not a host name"),
        ] {
            assert!(error(text).is_some_and(|fault| fault.contains(mend)), "{text}: {:?}", error(text));
        }
    }

    #[test]
    fn a_prefix_covers_whole_segments() {
        assert!(covers("/", "/a") && covers("/a", "/a/") && covers("/a/", "/a/b") && covers("/", "/"));
        assert!(!covers("/a", "/ab") && !covers("/a/b", "/a") && !covers("/a", "/"));
    }
}
