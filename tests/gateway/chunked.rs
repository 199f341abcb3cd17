//! Chunked bodies: a malformed chunk ends its request, and a well-formed body is forwarded in new chunks.

use std::io::{Read, Write};

use crate::{
    client::connect,
    framing::{UPLOADS, exchange, recorder, uploads},
    instance::{Instance, eventually},
};

/// Malformed chunks that some parsers accept.
const BAD_CHUNKS: &[&str] = &[
    "x\r\nWiki\r\n",
    "4 \r\nWiki\r\n",
    " 4\r\nWiki\r\n",
    "\t4\r\nWiki\r\n",
    "\x0b4\r\nWiki\r\n",
    "4\nWiki\r\n",
    "4\rWiki\r\n",
    "4\r\r\nWiki\r\n",
    "4\r\nWiki\n",
    "4\r\nWiki\r",
    "4\r\nWiki",
    "4\r\nWikipedia\r\n",
    "4\r\nWik\r\n",
    "4;\r\nWiki\r\n",
    "4;a\nb\r\nWiki\r\n",
    "4;a=\"\r\n\"\r\nWiki\r\n",
    "4 a\r\nWiki\r\n",
    "4,4\r\nWiki\r\n",
    "-4\r\nWiki\r\n",
    "+4\r\nWiki\r\n",
    "0x4\r\nWiki\r\n",
    "0_4\r\nWiki\r\n",
    "4_0\r\nWiki\r\n",
    "4h\r\nWiki\r\n",
    "\u{ff14}\r\nWiki\r\n",
    "10000000000000004\r\nWiki\r\n",
    "fffffffffffffffc\r\nWiki\r\n",
    "\r\nWiki\r\n",
    "0\n\n",
    "0\r\n\n",
    "0\n\r\n",
    "0\r\nX : 1\r\n\r\n",
    "0\r\nX\r\n\r\n",
    "0\r\nX: 1\n\r\n",
    "0\r\nX: 1\r\n folded\r\n\r\n",
    "0\r\n: 1\r\n\r\n",
];

#[test]
fn no_part_of_a_request_with_a_malformed_chunk_is_forwarded() {
    let (address, all) = recorder(b"");
    let i = uploads(&address.to_string());
    for chunk in BAD_CHUNKS {
        let head = "POST /a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n";
        let smuggled = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let responses = exchange(&i, format!("{head}{chunk}{smuggled}").as_bytes());
        assert!(responses.starts_with("HTTP/1.1 400 ") && responses.contains("bad_framing"), "{chunk:?}: {responses}");
        assert_eq!(responses.matches("HTTP/1.1").count(), 1, "{chunk:?}: {responses}");
        let seen = all.lock().unwrap();
        assert!(seen.is_empty(), "{chunk:?}: {}", String::from_utf8_lossy(&seen.concat()));
    }
}

#[test]
fn a_malformed_chunk_later_in_the_body_aborts_the_request() {
    let (address, all) = recorder(b"");
    let i = uploads(&address.to_string());
    let mut stream = connect(i.tls, &i.authority(), rustls::ALL_VERSIONS).unwrap();
    let head = "POST /a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let arrived = || all.lock().unwrap().concat().ends_with(b"first\r\n");
    crate::instance::eventually("the first chunk", || arrived().then_some(()));
    stream.write_all(b"x\r\nWiki\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut responses = String::new();
    let _ = stream.read_to_string(&mut responses);
    assert!(responses.starts_with("HTTP/1.1 400 ") && responses.contains("bad_framing"), "{responses}");
    assert_eq!(responses.matches("HTTP/1.1").count(), 1, "{responses}");
    assert!(arrived(), "nothing was forwarded after it: {}", String::from_utf8_lossy(&all.lock().unwrap().concat()));
}

#[test]
fn no_part_of_a_chunked_body_is_forwarded_if_it_has_arrived_and_is_too_large() {
    let (address, all) = recorder(b"");
    let i = Instance::with(&address.to_string(), |i| {
        std::fs::write(i.path("policies/uploads.toml"), UPLOADS.replace("1MiB", "1KiB")).unwrap();
        i.replace("policy = \"worker\"", "policy = \"uploads\"");
    });
    let head = "POST /a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    let body = format!("800\r\n{}\r\n0\r\n\r\n", "a".repeat(0x800));
    assert_eq!(i.send_bytes(format!("{head}{body}").as_bytes()).status, 413);
    assert!(all.lock().unwrap().is_empty());
}

#[test]
fn a_chunked_body_is_forwarded_in_the_gateways_own_chunks() {
    let (address, all) = recorder(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let i = uploads(&address.to_string());
    let body = "4;name=\"v\"\r\nWiki\r\n05\r\npedia\r\n0\r\nTrailer: 1\r\n\r\n";
    let head = "POST /a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: Chunked\r\n\r\n";
    let response = i.send_bytes(format!("{head}{body}").as_bytes());
    assert_eq!((response.status, &response.body[..]), (200, &b"ok"[..]));
    let seen = eventually("the end of the body", || {
        let seen = String::from_utf8(all.lock().unwrap().concat()).unwrap();
        seen.ends_with("0\r\n\r\n").then_some(seen)
    });
    assert!(seen.contains("transfer-encoding: chunked\r\n"), "{seen}");
    assert!(seen.ends_with("4\r\nWiki\r\n5\r\npedia\r\n0\r\n\r\n"), "{seen}");
}
