//! Writes a country database in MaxMind's format (MaxMind DB File Format Specification 2.0): a tree over the bits of addresses, the records
//! that its leaves refer to, and metadata at the end.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The bytes between the tree and the records.
const SEPARATOR: [u8; 16] = [0; 16];
const METADATA: &[u8] = b"\xab\xcd\xefMaxMind.com";
/// IPv4 addresses are stored as IPv6 addresses that begin with this many zeros.
const IPV4_BITS: u32 = 96;

/// The target of one bit of an address.
#[derive(Clone, Copy)]
enum Branch {
    Nowhere,
    Node(usize),
    Record(usize),
}

/// Returns a database of these networks and their countries.
pub(crate) fn write(kind: &str, networks: &[(&str, u32, &str)]) -> Vec<u8> {
    let mut nodes = vec![[Branch::Nowhere; 2]];
    let mut records = Vec::new();
    for (address, prefix, code) in networks {
        let (bits, length) = bits(address.parse().unwrap(), *prefix);
        insert(&mut nodes, bits, length, records.len());
        records.extend(map(&[("country", map(&[("iso_code", text(code))]))]));
    }
    let number = |branch: &Branch| match *branch {
        Branch::Nowhere => nodes.len(),
        Branch::Node(node) => node,
        Branch::Record(at) => nodes.len() + SEPARATOR.len() + at,
    };
    let branches = nodes.iter().flatten().map(|branch| u32::try_from(number(branch)).unwrap());
    let tree: Vec<u8> = branches.flat_map(u32::to_be_bytes).collect();
    [&tree, &SEPARATOR[..], &records, METADATA, &metadata(kind, nodes.len())].concat()
}

fn bits(address: IpAddr, prefix: u32) -> (u128, u32) {
    match address {
        IpAddr::V4(v4) => (u128::from(Ipv4Addr::to_bits(v4)), IPV4_BITS + prefix),
        IpAddr::V6(v6) => (Ipv6Addr::to_bits(v6), prefix),
    }
}

fn insert(nodes: &mut Vec<[Branch; 2]>, bits: u128, length: u32, record: usize) {
    let mut node = 0;
    for depth in 0..length {
        let side = usize::from(bits >> (127 - depth) & 1 == 1);
        if depth + 1 == length {
            nodes[node][side] = Branch::Record(record);
            return;
        }
        node = match nodes[node][side] {
            Branch::Node(next) => next,
            Branch::Nowhere | Branch::Record(_) => {
                nodes.push([Branch::Nowhere; 2]);
                nodes[node][side] = Branch::Node(nodes.len() - 1);
                nodes.len() - 1
            }
        };
    }
}

fn metadata(kind: &str, nodes: usize) -> Vec<u8> {
    map(&[
        ("binary_format_major_version", uint16(2)),
        ("binary_format_minor_version", uint16(0)),
        ("build_epoch", uint64(1_700_000_000)),
        ("database_type", text(kind)),
        ("description", map(&[("en", text("made for a test"))])),
        ("ip_version", uint16(6)),
        ("languages", vec![0, 11 - 7]), // an empty array
        ("node_count", uint32(u32::try_from(nodes).unwrap())),
        ("record_size", uint16(32)),
    ])
}

/// Returns a value's first byte: three bits for its type, five for its size.
fn control(kind: u8, size: usize) -> u8 {
    assert!(size < 29, "longer values have a different encoding");
    kind << 5 | u8::try_from(size).unwrap()
}

fn text(text: &str) -> Vec<u8> {
    [&[control(2, text.len())], text.as_bytes()].concat()
}

fn map(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let entry = |(name, value): &(&str, Vec<u8>)| [text(name), value.clone()].concat();
    [vec![control(7, entries.len())], entries.iter().flat_map(entry).collect()].concat()
}

fn uint16(n: u16) -> Vec<u8> {
    [&[control(5, 2)], &n.to_be_bytes()[..]].concat()
}

fn uint32(n: u32) -> Vec<u8> {
    [&[control(6, 4)], &n.to_be_bytes()[..]].concat()
}

/// Encodes a uint64. Types from 8 on are in a second byte, minus 7.
fn uint64(n: u64) -> Vec<u8> {
    [&[control(0, 8), 9 - 7], &n.to_be_bytes()[..]].concat()
}
