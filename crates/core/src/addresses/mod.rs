//! Which addresses belong to the public internet, and which must never be contacted at a client's request.

mod authority;
pub mod lookup;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::Host;

pub use self::authority::Authority;

/// Whether a download may come from this address: globally routable unicast, checked also inside every transition format that embeds an
/// IPv4 address (mapped, 6to4, Teredo, NAT64). IPv4-compatible and local NAT64 addresses are not public.
///
/// Source: the IANA special-purpose address registries (RFC 6890 and its updates), and Azure's platform address 168.63.129.16, which gives
/// every virtual machine there its settings and secrets. The metadata services of other clouds have addresses that are not public anyway:
/// 169.254.169.254 (most), 169.254.170.2, fd00:ec2::254 (AWS), fd20:ce::254 (Google), 100.100.100.200 (Alibaba), 192.0.0.192 (Oracle).
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

/// Whether a host name refers by convention to this machine, its network or a cloud's metadata service, whatever it resolves to.
#[must_use]
pub fn is_local_name(name: &str) -> bool {
    const SUFFIXES: [&str; 9] =
        ["localhost", "local", "localdomain", "internal", "intranet", "lan", "home.arpa", "corp", "home"];
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    !name.contains('.') || SUFFIXES.iter().any(|s| name == *s || name.ends_with(&format!(".{s}")))
}

/// Whether a URL's host, as written, may be fetched: a public address, or a name that is not local. A name must be checked again by every
/// address that it resolves to.
#[must_use]
pub fn is_public_host(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => !is_local_name(name),
        Host::Ipv4(v4) => is_public_v4(*v4),
        Host::Ipv6(v6) => is_public_v6(*v6),
    }
}

/// Whether an address is of this machine or its network: loopback, private (RFC 1918), link-local or unique local (RFC 4193).
///
/// Shared address space (100.64.0.0/10, RFC 6598) is not included: behind a carrier's NAT, other customers use it.
#[must_use]
pub fn is_local(address: IpAddr) -> bool {
    match canonical(address) {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

/// Returns the address by which limits and logs count a client: IPv4-mapped addresses are unmapped.
#[must_use]
pub fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// Returns the network that one client is assumed to control, as the address that names it.
///
/// This is the address itself for IPv4, and the /64 for IPv6. In prefixes that translate or tunnel IPv4, the client is the holder of the
/// embedded IPv4 address, because a /64 there covers all of IPv4 (NAT64) or only a part of one client (6to4).
#[must_use]
pub fn client_network(address: IpAddr) -> IpAddr {
    match canonical(address) {
        v4 @ IpAddr::V4(_) => v4,
        IpAddr::V6(v6) => translated_network(v6).unwrap_or_else(|| truncated::<4>(v6)),
    }
}

const AZURE_PLATFORM: Ipv4Addr = Ipv4Addr::new(168, 63, 129, 16);

/// Formats a [`client_network`]: an address, or a prefix with its length.
#[must_use]
pub fn network_name(network: IpAddr) -> String {
    match network {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => match v6.segments() {
            [0x2002, ..] => format!("{v6}/48"),
            _ if translated_network(v6) == Some(network) => v6.to_string(),
            _ => format!("{v6}/64"),
        },
    }
}

/// Returns the client behind an address of a prefix that translates or tunnels IPv4; None for any other address.
///
/// A TCP handshake proves a public embedded address, since replies reach no other machine. A private one identifies no client; the IPv6 address
/// counts instead.
fn translated_network(v6: Ipv6Addr) -> Option<IpAddr> {
    let own = match v6.segments() {
        // 6to4: the whole /48 belongs to one client (RFC 3056).
        [0x2002, ..] => truncated::<3>(v6),
        // Teredo, SIIT, NAT64 (RFC 4380, 2765, 6052), and NAT64 under a prefix of the network operator (RFC 8215).
        [0x2001, 0, ..] | [0, 0, 0, 0, 0xffff, 0, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] | [0x64, 0xff9b, 1, ..] => {
            IpAddr::V6(v6)
        }
        _ => return None,
    };
    Some(embedded_v4(v6).or_else(|| local_nat64(v6)).filter(|v4| is_public_v4(*v4)).map_or(own, IpAddr::V4))
}

/// Returns the IPv4 address in 64:ff9b:1::/48 if the operator's prefix has 96 bits. With a shorter prefix, the last 24 bits are zero
/// (RFC 6052, section 2.2), and no client's IPv4 address ends so.
fn local_nat64(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    match v6.segments() {
        [0x64, 0xff9b, 1, .., high, low] if (high & 0xff, low) != (0, 0) => Some(v4_from(high, low)),
        _ => None,
    }
}

/// Returns the first `N` groups of 16 bits, with the others set to zero.
fn truncated<const N: usize>(v6: Ipv6Addr) -> IpAddr {
    let mut segments = v6.segments();
    segments.iter_mut().skip(N).for_each(|segment| *segment = 0);
    IpAddr::V6(segments.into())
}

fn is_public_v4(v4: Ipv4Addr) -> bool {
    let [a, b, c, _] = v4.octets();
    !(a == 0
        || a >= 224
        || v4.is_private()
        || v4.is_loopback()
        || v4.is_link_local()
        || v4.is_documentation()
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (18..20).contains(&b))
        || v4 == AZURE_PLATFORM)
}

fn is_public_v6(v6: Ipv6Addr) -> bool {
    if let Some(v4) = embedded_v4(v6) {
        return is_public_v4(v4);
    }
    let [a, b, ..] = v6.segments();
    let global_unicast = a & 0xe000 == 0x2000;
    let special = a == 0x2001 && (b < 0x0200 || b == 0x0db8) || a == 0x3fff && b < 0x1000;
    global_unicast && !special
}

/// Returns the IPv4 address that traffic to `v6` can end at.
fn embedded_v4(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let head = v6.segments();
    let [.., g, h] = head;
    let tail = v4_from(g, h);
    match head {
        [0, 0, 0, 0, 0, 0xffff, ..] | [0, 0, 0, 0, 0xffff, 0, ..] | [0x0064, 0xff9b, 0, 0, 0, 0, ..] => Some(tail),
        [0x2002, high, low, ..] => Some(v4_from(high, low)),
        [0x2001, 0, ..] => Some(v4_from(!g, !h)),
        _ => None,
    }
}

fn v4_from(high: u16, low: u16) -> Ipv4Addr {
    let [a, b] = high.to_be_bytes();
    let [c, d] = low.to_be_bytes();
    Ipv4Addr::new(a, b, c, d)
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;

    fn public(url: &str) -> bool {
        Url::parse(url).is_ok_and(|u| u.host().is_some_and(|h| is_public_host(&h)))
    }

    const PRIVATE: &[&str] = &[
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f.0.0.1",
        "0x7f000001",
        "0177.0.0.1",
        "0",
        "0.0.0.0",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "192.168.257",
        "169.254.169.254",
        "0xa9fea9fe",
        "100.64.0.1",
        "198.18.0.1",
        "192.0.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "127。0。0。1",
        "①②⑦.0.0.1",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:a9fe:a9fe]",
        "[::127.0.0.1]",
        "[::8.8.8.8]",
        "[64:ff9b:1:a00:0:100:808:808]",
        "[64:ff9b::7f00:1]",
        "[64:ff9b:1::a00:1]",
        "[2002:7f00:1::]",
        "[2001:0:1:2:3:4:80ff:fffe]",
        "[fc00::1]",
        "[fe80::1]",
        "[fec0::1]",
        "[ff02::1]",
        "[2001:db8::1]",
        "[100::1]",
        "[fd00:ec2::254]",
        "[fd20:ce::254]",
        "168.63.129.16",
        "168.63.33040",
        "[::ffff:168.63.129.16]",
        "[64:ff9b::a83f:8110]",
        "169.254.170.2",
        "100.100.100.200",
        "192.0.0.192",
        "localhost",
        "LOCALHOST.",
        "app.localhost",
        "router",
        "nas.local",
        "metadata.google.internal",
        "pi.lan",
    ];

    #[test]
    fn every_spelling_of_a_private_address_is_private() {
        for host in PRIVATE {
            assert!(!public(&format!("http://{host}/x")), "{host}");
        }
    }

    #[test]
    fn public_hosts_are_public() {
        for host in [
            "example.com",
            "1.1.1.1",
            "8.8.8.8",
            "[2606:4700::1111]",
            "[::ffff:1.1.1.1]",
            "youtu.be",
            "100.128.0.1",
            "168.63.129.15",
        ] {
            assert!(public(&format!("https://{host}/x")), "{host}");
        }
    }

    #[test]
    fn an_ipv6_client_is_counted_by_its_slash_64_and_a_mapped_one_as_ipv4() {
        let network = |s: &str| client_network(s.parse().unwrap()).to_string();
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(network("::ffff:192.0.2.7"), "192.0.2.7");
        assert_eq!(network("192.0.2.7"), "192.0.2.7");
    }

    #[test]
    fn a_translated_client_is_counted_by_its_ipv4_address_under_every_prefix() {
        let network = |s: &str| client_network(s.parse().unwrap()).to_string();
        for address in [
            "::ffff:8.8.4.4",
            "::ffff:0:8.8.4.4",
            "64:ff9b::8.8.4.4",
            "64:ff9b:1::8.8.4.4",
            "64:ff9b:1:abcd:0:1:808:404",
            "2002:808:404::1",
            "2002:808:404:ffff::1",
            "2001:0:4136:e378:8000:63bf:f7f7:fbfb",
        ] {
            assert_eq!(network(address), "8.8.4.4", "{address}");
        }
    }

    #[test]
    fn a_private_address_in_a_translation_prefix_never_identifies_a_client() {
        for (address, name) in [
            ("64:ff9b::10.0.0.1", "64:ff9b::a00:1"),
            ("64:ff9b:1::127.0.0.1", "64:ff9b:1::7f00:1"),
            ("64:ff9b:1:a00:0:100::", "64:ff9b:1:a00:0:100::"),
            ("2002:7f00:1:2:3::", "2002:7f00:1::/48"),
            ("2001:0:1:2:3:4:80ff:fffe", "2001:0:1:2:3:4:80ff:fffe"),
        ] {
            let network = client_network(address.parse().unwrap());
            assert_eq!(network_name(network), name, "{address}");
            assert_eq!(client_network(network), network, "the name of a network is in it: {address}");
        }
        assert_eq!(network_name(client_network("2001:db8::7".parse().unwrap())), "2001:db8::/64");
        assert_eq!(network_name(client_network("192.0.2.7".parse().unwrap())), "192.0.2.7");
    }
}
