//! Tests of request heads.

use super::*;

fn parse(head: &str) -> Result<Http1Request, HeadFault> {
    Http1Request::parse(&Bytes::copy_from_slice(head.as_bytes()))
}

fn fault_of(head: &str) -> HeadFault {
    parse(head).expect_err(head)
}

fn line(line: &str) -> String {
    format!("{line}\r\nHost: h\r\n\r\n")
}

fn with(fields: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n")
}

#[test]
fn a_request_is_read_as_sent() {
    let request =
        parse("POST /a%20b?c=%2F HTTP/1.1\r\nHost: h:8443\r\nX-A: 1\r\nx-a:  2 \r\nContent-Length: 3\r\n\r\n").unwrap();
    let head = &request.head;
    assert_eq!(
        (head.method.as_str(), head.path(), head.query(), &*head.host),
        ("POST", "/a%20b", Some("c=%2F"), "h:8443")
    );
    assert_eq!(head.headers.get_all("x-a").iter().collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!(request.framing, Framing::Length(3));
    assert!(request.keeps_alive());
}

#[test]
fn a_request_line_is_three_parts_of_visible_ascii() {
    for bad in [
        "GET /a b HTTP/1.1",
        "GET  / HTTP/1.1",
        " GET / HTTP/1.1",
        "GET / HTTP/2.0",
        "GET / HTTP/1.2",
        "GET / HTTP/0.9",
        "GET / http/1.1",
        "GET /",
        "G\tT / HTTP/1.1",
        "G(T / HTTP/1.1",
    ] {
        assert_eq!(fault_of(&line(bad)), HeadFault::FirstLine, "{bad:?}");
    }
    for bad in ["GET / HTTP/1.1 ", "GET /é HTTP/1.1", "GET /\0 HTTP/1.1", "GET /\u{7f} HTTP/1.1"] {
        assert!(parse(&line(bad)).is_err(), "{bad:?}");
    }
}

#[test]
fn a_target_is_a_path_or_names_the_same_host() {
    assert_eq!(parse(&line("GET https://H/a?b HTTP/1.1")).unwrap().head.target(), "/a?b");
    assert_eq!(parse(&line("GET http://h HTTP/1.1")).unwrap().head.target(), "/");
    assert_eq!(parse(&line("OPTIONS * HTTP/1.1")).unwrap().head.target(), "*");
    for bad in [
        "GET * HTTP/1.1",
        "GET h HTTP/1.1",
        "GET /#f HTTP/1.1",
        "GET ftp://h/ HTTP/1.1",
        "CONNECT h:443 HTTP/1.1",
        "GET https://h?a HTTP/1.1",
    ] {
        assert_eq!(fault_of(&line(bad)), HeadFault::Target, "{bad:?}");
    }
    for bad in ["GET https://other/ HTTP/1.1", "GET https://u@h/ HTTP/1.1", "GET https:///a HTTP/1.1"] {
        assert_eq!(fault_of(&line(bad)), HeadFault::Host, "{bad:?}");
    }
}

#[test]
fn a_request_has_one_host() {
    for bad in ["GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.1\r\nHost:\r\n\r\n"] {
        assert_eq!(fault_of(bad), HeadFault::Host, "{bad:?}");
    }
    assert_eq!(fault_of(&with("Host: h")), HeadFault::Host);
}

#[test]
fn fields_are_names_and_values() {
    for bad in [
        "X : 1",
        "X\t: 1",
        " X: 1",
        "X: 1\r\n folded",
        "X",
        ": 1",
        "X: a\0b",
        "X: a\rb",
        "X: a\x01",
        "X(: 1",
        "X: \x7f",
        "é: 1",
    ] {
        let fault = fault_of(&with(bad));
        assert!(matches!(fault, HeadFault::Field | HeadFault::LineEnd | HeadFault::FirstLine), "{bad:?}: {fault:?}");
    }
    let many = (0..100).map(|n| format!("x-{n}: 1")).collect::<Vec<_>>().join("\r\n");
    assert_eq!(fault_of(&with(&many)), HeadFault::TooLarge);
}

#[test]
fn http_1_0_has_no_chunks_and_closes_unless_asked_not_to() {
    assert_eq!(
        fault_of("POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"),
        HeadFault::TransferEncoding
    );
    assert!(!parse(&line("GET / HTTP/1.0")).unwrap().keeps_alive());
    assert!(parse("GET / HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\n\r\n").unwrap().keeps_alive());
    assert!(!parse(&with("Connection: x, CLOSE")).unwrap().keeps_alive());
}

#[test]
fn only_a_websocket_is_an_upgrade() {
    let asks = |fields| parse(&with(fields)).unwrap().asks_for_websocket();
    assert!(asks("Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket"));
    for other in [
        "Upgrade: websocket",
        "Connection: upgrade\r\nUpgrade: h2c",
        "Connection: upgrade\r\nUpgrade: websocket, h2c",
        "Connection: upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c",
        "Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 1",
        "Connection: upgrade",
    ] {
        assert!(!asks(other), "{other:?}");
    }
}

#[test]
fn a_client_may_wait_for_100_continue_before_its_body() {
    let expects = |fields| parse(&with(fields)).unwrap().expects_continue();
    assert!(expects("Expect: 100-Continue\r\nContent-Length: 5"));
    assert!(!expects("Expect: 100-continue"));
    assert!(!expects("Content-Length: 5"));
}
