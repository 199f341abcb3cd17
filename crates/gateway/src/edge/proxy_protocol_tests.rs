//! Tests of the PROXY protocol: the meaning of each header, and rejected input.

use super::*;

const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn v2(version_and_command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [V2, &[version_and_command, family], &length, body].concat()
}

fn source(bytes: &[u8]) -> Result<Source, ProxyFault> {
    let header = parse(bytes)?.expect("a whole header");
    assert_eq!(header.length, bytes.len());
    Ok(header.source)
}

fn client(address: &str) -> Source {
    Source::Client(address.parse().unwrap())
}

#[test]
fn each_version_names_the_client() {
    let v4 = [192, 0, 2, 7, 198, 51, 100, 1, 0x12, 0x34, 0x01, 0xbb];
    let v6 = ["2001:db8::7", "2001:db8::1"].map(|a| a.parse::<Ipv6Addr>().unwrap().octets()).concat();
    let v6 = [&v6[..], &[0x12, 0x34, 0x01, 0xbb]].concat();
    let extended = [&v4[..], &[0x04, 0, 3, 1, 2, 3]].concat();
    for (bytes, expected) in [
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 4660 443\r\n".to_vec(), "192.0.2.7:4660"),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 4660 443\r\n".to_vec(), "[2001:db8::7]:4660"),
        (b"PROXY TCP6 ::ffff:192.0.2.7 2001:db8::1 0 443\r\n".to_vec(), "192.0.2.7:0"),
        (v2(0x21, 0x11, &v4), "192.0.2.7:4660"),
        (v2(0x21, 0x11, &extended), "192.0.2.7:4660"),
        (v2(0x21, 0x21, &v6), "[2001:db8::7]:4660"),
    ] {
        assert_eq!(source(&bytes).unwrap(), client(expected));
    }
}

#[test]
fn a_header_without_a_client_keeps_the_sockets_address() {
    for bytes in [
        b"PROXY UNKNOWN\r\n".to_vec(),
        b"PROXY UNKNOWN ffff:f...f:ffff 1 2 what ever\r\n".to_vec(),
        v2(0x20, 0x00, b""),
        v2(0x20, 0x11, &[1; 12]),
        v2(0x21, 0x00, b"ignored"),
        v2(0x21, 0x31, &[0; 216]),
    ] {
        assert_eq!(source(&bytes).unwrap(), Source::Proxy);
    }
}

#[test]
fn a_header_is_complete_at_its_last_byte_and_not_before() {
    let line = b"PROXY TCP4 192.0.2.7 198.51.100.1 4660 443\r\n".to_vec();
    for header in [line, v2(0x21, 0x11, &[7; 40])] {
        for end in 0..header.len() {
            assert_eq!(parse(&header[..end]).unwrap(), None, "{end}");
        }
        let followed = [&header[..], b"PROXY TCP4 of the next layer\r\n"].concat();
        assert_eq!(parse(&followed).unwrap().unwrap().length, header.len());
    }
}

#[test]
fn anything_but_a_header_is_refused_at_its_first_wrong_byte() {
    for bytes in [&b"\x16\x03\x01"[..], b"GET / HTTP/1.1\r\n", b"PROXI", b"proxy ", b"\r\n\r\n\x01", b"\r\n\r\r"] {
        assert!(matches!(parse(bytes), Err(ProxyFault::Missing)), "{bytes:?}");
    }
}

#[test]
fn a_malformed_line_is_refused() {
    for line in [
        "TCP4 192.0.2.7 198.51.100.1 4660 443\n",
        "TCP4 192.0.2.7 198.51.100.1 4660\r\n",
        "TCP4 192.0.2.7 198.51.100.1 4660 443 1\r\n",
        "TCP4  192.0.2.7 198.51.100.1 4660 443\r\n",
        "TCP4 192.0.2.7 198.51.100.1 4660 443 \r\n",
        "TCP4 192.0.2.07 198.51.100.1 4660 443\r\n",
        "TCP4 192.0.2.7 198.51.100.1 +4660 443\r\n",
        "TCP4 192.0.2.7 198.51.100.1 04660 443\r\n",
        "TCP4 192.0.2.7 198.51.100.1 4660 \r\n",
        "TCP4 192.0.2.7 198.51.100.1 4660 65536\r\n",
        "TCP4 2001:db8::7 2001:db8::1 4660 443\r\n",
        "TCP6 192.0.2.7 198.51.100.1 4660 443\r\n",
        "TCP6 fe80::1%eth0 2001:db8::1 4660 443\r\n",
        "TCP4\t192.0.2.7 198.51.100.1 4660 443\r\n",
        "UNKNOWNS\r\n",
        "\r\n",
        "UDP4 192.0.2.7 198.51.100.1 4660 443\r\n",
    ] {
        assert!(matches!(parse(format!("PROXY {line}").as_bytes()), Err(ProxyFault::Malformed)), "{line:?}");
    }
}

#[test]
fn a_header_of_an_unknown_kind_or_too_short_for_its_addresses_is_refused() {
    for bytes in
        [v2(0x11, 0x11, &[1; 12]), v2(0x22, 0x11, &[1; 12]), v2(0x21, 0x12, &[1; 12]), v2(0x21, 0x41, &[1; 36])]
    {
        assert!(matches!(parse(&bytes), Err(ProxyFault::Unsupported)), "{bytes:?}");
    }
    for bytes in [v2(0x21, 0x11, &[1; 11]), v2(0x21, 0x21, &[1; 35])] {
        assert!(matches!(parse(&bytes), Err(ProxyFault::Malformed)), "{bytes:?}");
    }
}

#[test]
fn a_header_has_a_maximum_length() {
    let endless = format!("PROXY UNKNOWN {}", "x".repeat(200));
    assert!(matches!(parse(&endless.as_bytes()[..107]), Err(ProxyFault::TooLong)));
    let longest = format!("PROXY UNKNOWN {}\r\n", "x".repeat(107 - 16));
    assert_eq!(source(longest.as_bytes()).unwrap(), Source::Proxy);
    let announced = [V2, &[0x21, 0x11, 0xff, 0xff]].concat();
    assert!(matches!(parse(&announced), Err(ProxyFault::TooLong)), "before the rest has arrived");
}
