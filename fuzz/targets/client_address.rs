//! The client's address is the socket's peer, or an address that only trusted proxies vouch for.

use std::net::IpAddr;

use http::{HeaderMap, HeaderValue, header};
use sallyport_core::config::{ForwardedHeader, ProxyConfig};
use sallyport_gateway::client_address;

use super::parts::byte;

pub fn run(data: &[u8]) {
    let (choice, data) = byte(data);
    let kind = if choice & 1 == 0 { ForwardedHeader::XForwardedFor } else { ForwardedHeader::Forwarded };
    let proxies = ProxyConfig {
        trusted: vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()],
        shared: Vec::new(),
        protocol: false,
        header: kind,
    };
    let mut headers = headers(kind, data);
    let peer: IpAddr = "10.0.0.1".parse().unwrap();
    let stranger: IpAddr = "192.0.2.7".parse().unwrap();
    assert_eq!(client_address(stranger, &headers, &proxies), stranger, "a header from an untrusted peer is ignored");

    let client = client_address(peer, &headers, &proxies);
    assert_eq!(client, client.to_canonical());
    let all = headers.values().map(|v| String::from_utf8_lossy(v.as_bytes())).collect::<Vec<_>>().join(",");
    assert!(client == peer || mentions(&all, client), "{client} is in none of {all:?}");

    // The last entry of a trusted proxy counts, whatever precedes it on the left or in earlier lines.
    let (name, element) = name_and_element(kind);
    headers.append(name, HeaderValue::from_static(element));
    assert_eq!(client_address(peer, &headers, &proxies), stranger);
    let line = data.rsplit(|b| *b == b'\n').next().unwrap_or_default();
    if let Ok(line) = HeaderValue::from_bytes(&[line, b", ", element.as_bytes()].concat()) {
        let headers = [(name_and_element(kind).0, line)].into_iter().collect();
        assert_eq!(client_address(peer, &headers, &proxies), stranger, "{headers:?}");
    }
}

fn name_and_element(kind: ForwardedHeader) -> (header::HeaderName, &'static str) {
    match kind {
        ForwardedHeader::XForwardedFor => (header::HeaderName::from_static("x-forwarded-for"), "192.0.2.7"),
        ForwardedHeader::Forwarded => (header::FORWARDED, "for=192.0.2.7"),
    }
}

/// Creates one field per line.
fn headers(kind: ForwardedHeader, data: &[u8]) -> HeaderMap {
    let values = data.split(|b| *b == b'\n').filter_map(|line| HeaderValue::from_bytes(line).ok());
    values.map(|value| (name_and_element(kind).0, value)).collect()
}

fn mentions(text: &str, address: IpAddr) -> bool {
    let is_part = |c: char| c.is_ascii_hexdigit() || ".:".contains(c);
    let words = text.split(|c| !is_part(c)).flat_map(|word| {
        let bare = word.rsplit_once(':').map_or(word, |(host, _)| host);
        [word, bare]
    });
    words.filter_map(|word| word.parse::<IpAddr>().ok()).any(|a| a.to_canonical() == address)
}
