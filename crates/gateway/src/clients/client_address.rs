//! The client's address: the peer of the socket, or the address that trusted proxies report in one header, read from the right.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName, HeaderValue, header};
use sallyport_core::config::{ForwardedHeader, ProxyConfig};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Returns the rightmost address in the header that is not a trusted proxy's if `peer` is a trusted proxy, and `peer` otherwise.
///
/// Reading stops at an entry that is not an address: any client could have written the entries to its left.
#[must_use]
pub fn client_address(peer: IpAddr, headers: &HeaderMap, proxies: &ProxyConfig) -> IpAddr {
    if !proxies.trust(peer) {
        return peer;
    }
    match proxies.header {
        ForwardedHeader::XForwardedFor => {
            let entries = lines(headers, X_FORWARDED_FOR).flat_map(|line| line.rsplit(|b| *b == b','));
            first_stranger(peer, entries.map(|entry| parse(entry.trim_ascii())), proxies)
        }
        ForwardedHeader::Forwarded => {
            let elements = lines(headers, header::FORWARDED).flat_map(|line| line.rsplit(unquoted(b',')));
            first_stranger(peer, elements.map(|element| parse(node(element)?)), proxies)
        }
    }
}

/// Returns the lines of a header, the last one first. They are bytes, so that invalid text spoils only its own entry.
fn lines(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &[u8]> {
    headers.get_all(name).iter().rev().map(HeaderValue::as_bytes)
}

fn first_stranger(peer: IpAddr, entries: impl Iterator<Item = Option<IpAddr>>, proxies: &ProxyConfig) -> IpAddr {
    let mut client = peer;
    for entry in entries {
        let Some(address) = entry else { return client };
        client = address;
        if !proxies.trust(address) {
            return client;
        }
    }
    client
}

/// Parses "192.0.2.1", "2001:db8::1" or "[2001:db8::1]", each with an optional port.
fn parse(entry: &[u8]) -> Option<IpAddr> {
    let entry = std::str::from_utf8(entry).ok()?;
    let bare = entry.strip_prefix('[').and_then(|e| e.strip_suffix(']')).unwrap_or(entry);
    let address = bare.parse().ok().or_else(|| entry.parse::<SocketAddr>().ok().map(|a| a.ip()));
    address.map(|a: IpAddr| a.to_canonical())
}

/// Returns the `for` of an element such as `for="[2001:db8::1]:80";proto=https`. It must occur only once (RFC 7239, section 4).
fn node(element: &[u8]) -> Option<&[u8]> {
    let mut nodes = element.trim_ascii().split(unquoted(b';')).filter_map(node_of_pair);
    let value = nodes.next().filter(|_| nodes.next().is_none())?;
    Some(value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(value))
}

fn node_of_pair(pair: &[u8]) -> Option<&[u8]> {
    let (name, value) = pair.split_at_checked(pair.iter().position(|b| *b == b'=')?)?;
    name.eq_ignore_ascii_case(b"for").then(|| value.strip_prefix(b"="))?
}

/// Matches `separator` outside of quotes. Read from the right, this works as long as the part that trusted proxies wrote is well-formed,
/// whatever is to its left. No address contains an escape.
fn unquoted(separator: u8) -> impl FnMut(&u8) -> bool {
    let mut quoted = false;
    move |b| {
        quoted ^= *b == b'"';
        *b == separator && !quoted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name_of(kind: ForwardedHeader) -> HeaderName {
        match kind {
            ForwardedHeader::XForwardedFor => X_FORWARDED_FOR,
            ForwardedHeader::Forwarded => header::FORWARDED,
        }
    }

    fn proxies(header: ForwardedHeader) -> ProxyConfig {
        let trusted = vec!["10.0.0.0/8".parse().unwrap()];
        ProxyConfig { trusted, shared: Vec::new(), protocol: false, header }
    }

    fn client(kind: ForwardedHeader, peer: &str, lines: &[&'static str]) -> String {
        let headers = lines.iter().map(|line| (name_of(kind), HeaderValue::from_static(line))).collect();
        client_address(peer.parse().unwrap(), &headers, &proxies(kind)).to_string()
    }

    fn x(peer: &str, lines: &[&'static str]) -> String {
        client(ForwardedHeader::XForwardedFor, peer, lines)
    }

    fn forwarded(lines: &[&'static str]) -> String {
        client(ForwardedHeader::Forwarded, "10.0.0.1", lines)
    }

    #[test]
    fn a_spoofed_forwarded_for_is_ignored() {
        assert_eq!(x("192.0.2.7", &["198.51.100.1"]), "192.0.2.7");
        assert_eq!(x("10.0.0.1", &["1.1.1.1, 192.0.2.7"]), "192.0.2.7");
        assert_eq!(x("10.0.0.1", &["1.1.1.1", "192.0.2.7, 10.0.0.2"]), "192.0.2.7");
        assert_eq!(x("10.0.0.1", &["1.1.1.1, junk"]), "10.0.0.1");
        assert_eq!(x("10.0.0.1", &["junk, 192.0.2.7"]), "192.0.2.7");
        assert_eq!(x("10.0.0.1", &["[2001:db8::1]junk"]), "10.0.0.1");
    }

    #[test]
    fn trusted_proxies_are_read_through() {
        assert_eq!(x("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(x("10.0.0.1", &["192.0.2.7:1234"]), "192.0.2.7");
        assert_eq!(x("10.0.0.1", &["[2001:db8::1]:80"]), "2001:db8::1");
        assert_eq!(x("10.0.0.1", &["[2001:db8::1]"]), "2001:db8::1");
        assert_eq!(x("10.0.0.1", &["::ffff:192.0.2.7"]), "192.0.2.7");
    }

    #[test]
    fn an_element_of_forwarded_names_the_client() {
        assert_eq!(client(ForwardedHeader::Forwarded, "192.0.2.7", &["for=198.51.100.1"]), "192.0.2.7");
        for (line, expected) in [
            ("for=192.0.2.7", "192.0.2.7"),
            ("For=\"[2001:db8::1]:4711\"", "2001:db8::1"),
            ("proto=https;for=192.0.2.7;by=203.0.113.43", "192.0.2.7"),
            ("for=1.1.1.1, for=\"192.0.2.7:80\";host=\"a,b;for=1.1.1.1\", for=10.0.0.2", "192.0.2.7"),
            ("for=192.0.2.7, for=unknown", "10.0.0.1"),
            ("for=192.0.2.7, for=\"_hidden\", for=10.0.0.9", "10.0.0.9"),
            ("for=192.0.2.7, proto=https", "10.0.0.1"),
            ("for=192.0.2.7;for=1.1.1.1", "10.0.0.1"),
        ] {
            assert_eq!(forwarded(&[line]), expected, "{line}");
        }
        assert_eq!(forwarded(&["for=1.1.1.1", "for=192.0.2.7"]), "192.0.2.7", "the last line is the last proxy's");
    }

    #[test]
    fn bytes_that_are_not_text_spoil_only_their_own_entry() {
        for (kind, line) in [
            (ForwardedHeader::XForwardedFor, &b"\xff, 192.0.2.7"[..]),
            (ForwardedHeader::Forwarded, b"for=\"\xff\", for=192.0.2.7"),
            (ForwardedHeader::Forwarded, b"for=192.0.2.7;host=\"\xff\""),
        ] {
            let headers = [(name_of(kind), HeaderValue::from_bytes(line).unwrap())].into_iter().collect();
            let client = client_address("10.0.0.1".parse().unwrap(), &headers, &proxies(kind));
            assert_eq!(client.to_string(), "192.0.2.7", "{line:?}");
        }
    }

    #[test]
    fn nothing_to_the_left_of_a_proxys_element_changes_how_it_is_read() {
        for line in ["for=\"1.1.1.1, for=192.0.2.7", "\\\", for=192.0.2.7", "\"\"\",;=, for=192.0.2.7"] {
            assert_eq!(forwarded(&[line]), "192.0.2.7", "{line}");
        }
        for line in ["for=192.0.2.7;host=\"a\\\", for=\\\"1.1.1.1\"", "for=192.0.2.7;host=\"a\\\";for=1.1.1.1;x=\\\"\""]
        {
            assert_ne!(forwarded(&[line]), "1.1.1.1", "{line}");
        }
    }
}
