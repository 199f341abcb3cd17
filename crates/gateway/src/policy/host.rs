//! The host of a request, as an authority that every parser reads the same way.

use std::net::Ipv6Addr;

use sallyport_core::addresses::Authority;

/// Returns true for a host name or an IP address with an optional port. A final dot is refused, since it is another spelling of the
/// same name.
pub(super) fn is_authority(text: &str) -> bool {
    let Authority { host, port } = Authority::split(text);
    (is_host_name(host) || is_ipv6(host)) && port.is_none_or(is_port)
}

fn is_ipv6(host: &str) -> bool {
    let inner = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    inner.is_some_and(|address| address.parse::<Ipv6Addr>().is_ok())
}

fn is_port(text: &str) -> bool {
    text.len() <= 5 && text.parse::<u16>().is_ok()
}

fn is_host_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    !name.is_empty() && !name.ends_with('.') && name.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_one_host_with_at_most_one_port() {
        for text in
            ["h", "home.example:8443", "a_b-c", "192.0.2.1:80", "[::1]", "[::1]:443", "h:0", "h:00080", "h:65535"]
        {
            assert!(is_authority(text), "{text}");
        }
        for text in [
            "",
            ":",
            ":80",
            "h:",
            "h:65536",
            "h:000080",
            "h:x",
            "h:+80",
            "h:1:2",
            "a:b:1",
            "::1",
            "h.",
            "h.:80",
            "a b",
            "u@h",
            "h/",
            "[",
            "[]",
            "[::1",
            "[::1]x",
            "[::1]:",
            "[::1]:x",
            "[::1]:1:2",
            "[h]",
            "[192.0.2.1]",
            "[[::1]]",
            "::1]",
            "é",
        ] {
            assert!(!is_authority(text), "{text}");
        }
    }
}
