//! The host of a request, as an authority that every parser reads the same way.

use std::net::Ipv6Addr;

/// Returns true for a host name or an IP address with an optional port. A final dot is refused, since it is another spelling of the
/// same name.
pub(super) fn is_authority(text: &str) -> bool {
    let (host, rest) = if let Some(inner) = text.strip_prefix('[') {
        inner.split_once(']').map_or((false, ""), |(address, rest)| (address.parse::<Ipv6Addr>().is_ok(), rest))
    } else {
        let (name, rest) = text.split_at(text.find(':').unwrap_or(text.len()));
        (is_host_name(name), rest)
    };
    host && (rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port))
}

fn is_port(text: &str) -> bool {
    (1..=5).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

fn is_host_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    !name.is_empty() && !name.ends_with('.') && name.bytes().all(plain)
}
