//! The client's address: the socket's, or what trusted proxies say, read from the right.

use std::net::IpAddr;

use http::HeaderMap;

/// The first address from the right of `X-Forwarded-For` that is no trusted proxy, if the socket's peer is one;
/// the peer's own otherwise. An entry that is no address ends the reading: what stands left of it is anybody's word.
pub(super) fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: impl Fn(IpAddr) -> bool) -> IpAddr {
    let mut client = peer;
    if !trusted(peer) {
        return client;
    }
    for value in headers.get_all("x-forwarded-for").iter().rev() {
        for entry in value.to_str().unwrap_or_default().rsplit(',') {
            let Some(address) = parse(entry.trim()) else { return client };
            client = address;
            if !trusted(address) {
                return client;
            }
        }
    }
    client
}

/// "192.0.2.1", "2001:db8::1", "[2001:db8::1]", each maybe with a port.
fn parse(entry: &str) -> Option<IpAddr> {
    let bare = entry.trim_start_matches('[').split(']').next().unwrap_or(entry);
    let address = entry.parse().or_else(|_| bare.parse());
    let address = address.ok().or_else(|| entry.parse::<std::net::SocketAddr>().ok().map(|a| a.ip()));
    address.map(|a: IpAddr| a.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, forwarded: &[&'static str]) -> String {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append("x-forwarded-for", value.parse().unwrap());
        }
        let trusted = |ip: IpAddr| ip.to_string().starts_with("10.");
        client_address(peer.parse().unwrap(), &headers, trusted).to_string()
    }

    #[test]
    fn a_spoofed_forwarded_for_is_ignored() {
        assert_eq!(client("192.0.2.7", &["198.51.100.1"]), "192.0.2.7");
        assert_eq!(client("10.0.0.1", &["1.1.1.1, 192.0.2.7"]), "192.0.2.7");
        assert_eq!(client("10.0.0.1", &["1.1.1.1", "192.0.2.7, 10.0.0.2"]), "192.0.2.7");
        assert_eq!(client("10.0.0.1", &["1.1.1.1, junk"]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &["junk, 192.0.2.7"]), "192.0.2.7");
    }

    #[test]
    fn trusted_proxies_are_read_through() {
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &["192.0.2.7:1234"]), "192.0.2.7");
        assert_eq!(client("10.0.0.1", &["[2001:db8::1]:80"]), "2001:db8::1");
        assert_eq!(client("10.0.0.1", &["::ffff:192.0.2.7"]), "192.0.2.7");
    }
}
