//! The client's address: the socket's, or a trusted proxy's PROXY header, and nobody else's claim.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use crate::{
    admin::{eventually_metric, metric},
    canary::Canary,
    client::{Request, Response, Tls, connect_over, finish, send_plain},
    instance::{Instance, eventually},
};

const V1: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 4660 443\r\n";

const NO_HEADER: &str = "sallyport_handshakes_failed_total{reason=\"proxy_protocol\"}";
const NO_PLACE: &str = "sallyport_handshakes_failed_total{reason=\"no_place\"}";

/// Starts a gateway that trusts `proxies`. Each client is allowed one request per hour and two connections at a time.
fn gateway(canary: &Canary, proxies: &str, proxy_protocol: bool) -> Instance {
    Instance::with(&canary.address.to_string(), |i| {
        i.replace("trusted_proxies = []", &format!("trusted_proxies = [{proxies}]"));
        i.replace("proxy_protocol = false", &format!("proxy_protocol = {proxy_protocol}"));
        i.replace("max_connections_per_client = 256", "max_connections_per_client = 2");
        let old = "rates = [{ limit = \"600/minute\", by = \"user\" }]";
        i.replace_in("policies/worker.toml", old, "rates = [{ limit = \"1/hour\", by = \"address\" }]");
    })
}

/// Opens a connection that begins with `header`.
fn dial(address: SocketAddr, header: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(header).unwrap();
    stream
}

fn get(i: &Instance, header: &[u8], extra: (&str, &str)) -> io::Result<Response> {
    let stream = connect_over(dial(i.tls, header), &i.authority(), rustls::ALL_VERSIONS)?;
    let request = Request::new("GET", "/api/downloads").key(i.key()).header(extra.0, extra.1);
    Ok(finish(stream, &request.bytes()))
}

fn plain_get(header: &[u8]) -> Vec<u8> {
    [header, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"].concat()
}

#[test]
fn a_trusted_proxys_header_gives_the_address_for_log_limit_and_application() {
    let canary = Canary::start();
    let i = gateway(&canary, "\"127.0.0.0/8\"", true);
    let v2 = |last: u8| {
        let addresses = [192, 0, 2, last, 198, 51, 100, 1, 0x12, 0x34, 0x01, 0xbb, 0x04, 0, 1, 0];
        [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x10"[..], &addresses].concat()
    };
    for (header, client) in [(V1.to_vec(), "192.0.2.7"), (v2(8), "192.0.2.8")] {
        let first = get(&i, &header, ("X-Forwarded-For", "203.0.113.1")).unwrap();
        assert_eq!(first.status, 200);
        assert_eq!(i.log_line(&first)["client_ip"], client, "not the address that the client itself claims");
        assert_eq!(canary.seen().last().unwrap().header("x-forwarded-for"), [client]);
        assert_eq!(get(&i, &header, ("X-A", "b")).unwrap().status, 429, "{client} has had its one request");
    }
    let local = get(&i, b"PROXY UNKNOWN\r\n", ("X-A", "b")).unwrap();
    assert_eq!(i.log_line(&local)["client_ip"], "127.0.0.1", "the proxy made the connection for itself");
    let chained = get(&i, b"PROXY TCP4 127.9.9.9 127.0.0.1 1 2\r\n", ("X-Forwarded-For", "203.0.113.9")).unwrap();
    assert_eq!(
        i.log_line(&chained)["client_ip"],
        "203.0.113.9",
        "the header of a trusted proxy behind the proxy is used"
    );
    assert_eq!(send_plain(i.plain, &plain_get(V1)).status, 308);
}

#[test]
fn bytes_that_are_not_text_do_not_hide_the_client_behind_its_proxy() {
    let canary = Canary::start();
    let i = gateway(&canary, "\"127.0.0.0/8\"", false);
    // A proxy that appends to the client's header, as nginx does.
    let response = get(&i, b"", ("X-Forwarded-For", "é, 192.0.2.7")).unwrap();
    assert_eq!(i.log_line(&response)["client_ip"], "192.0.2.7");
}

#[test]
fn a_proxy_that_is_added_at_run_time_is_trusted() {
    let canary = Canary::start();
    let i = gateway(&canary, "", false);
    assert!(get(&i, V1, ("X-A", "b")).is_err());
    i.replace("trusted_proxies = []", "trusted_proxies = [\"127.0.0.0/8\"]");
    i.replace("proxy_protocol = false", "proxy_protocol = true");
    let response = eventually("a connection of the proxy", || get(&i, V1, ("X-A", "b")).ok());
    assert_eq!(i.log_line(&response)["client_ip"], "192.0.2.7");
    let before = metric(&i, NO_HEADER);
    assert!(get(&i, b"", ("X-A", "b")).is_err(), "the proxy must send a header from now on");
    eventually_metric(&i, NO_HEADER, before + 1.0);
    let _ = dial(i.plain, b"GET / HTTP/1.1\r\n\r\n").read(&mut [0; 1]);
    eventually_metric(&i, NO_HEADER, before + 2.0);
}

#[test]
fn connections_behind_a_proxy_are_counted_for_each_of_its_clients() {
    let canary = Canary::start();
    let i = gateway(&canary, "\"127.0.0.0/8\"", true);
    let idle = |client: &str| {
        let header = format!("PROXY TCP4 {client} 198.51.100.1 4660 443\r\n");
        let stream = connect_over(dial(i.tls, header.as_bytes()), &i.authority(), rustls::ALL_VERSIONS).unwrap();
        stream.sock.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        stream
    };
    let is_open = |stream: &mut Tls| {
        let end = stream.conn.complete_io(&mut stream.sock).and_then(|_| stream.read(&mut [0]));
        matches!(end, Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut))
    };
    let [mut first, mut second, mut other] = ["192.0.2.7", "192.0.2.7", "192.0.2.8"].map(idle);
    assert!([&mut first, &mut second, &mut other].map(is_open) == [true; 3]);
    let mut third = idle("192.0.2.7");
    eventually("the end of its oldest connection", || (!is_open(&mut first)).then_some(()));
    assert!([&mut second, &mut third, &mut other].map(is_open) == [true; 3]);
    i.command(&["ban", "add", "192.0.2.9"]);
    assert!(get(&i, b"PROXY TCP4 192.0.2.9 198.51.100.1 4660 443\r\n", ("X-A", "b")).is_err());
    eventually_metric(&i, NO_PLACE, 1.0);
}

#[test]
fn a_connection_of_a_trusted_proxy_without_a_valid_header_is_closed() {
    let canary = Canary::start();
    let i = gateway(&canary, "\"127.0.0.0/8\"", true);
    for header in [&b""[..], b"PROXY TCP4 192.0.2.7 198.51.100.1 +1 443\r\n", b"PROXY TCP5 a b 1 2\r\n"] {
        assert!(get(&i, header, ("X-A", "b")).is_err(), "{header:?}");
        let mut stream = dial(i.plain, &plain_get(header));
        let mut response = Vec::new();
        let _ = stream.read_to_end(&mut response);
        assert!(response.is_empty(), "{header:?} on the plain port");
    }
    eventually("the warning", || i.stderr().contains("configure the proxy to send PROXY protocol").then_some(()));
    assert!(canary.seen().is_empty());
}

#[test]
fn a_header_of_anybody_else_is_not_trusted() {
    let canary = Canary::start();
    for (proxies, proxy_protocol) in [("\"10.0.0.0/8\"", true), ("\"127.0.0.0/8\"", false)] {
        let i = gateway(&canary, proxies, proxy_protocol);
        assert!(get(&i, V1, ("X-A", "b")).is_err(), "what is not TLS fails");
        assert_eq!(send_plain(i.plain, &plain_get(V1)).status, 400);
        let own = get(&i, b"", ("X-A", "b")).unwrap();
        assert_eq!((own.status, &i.log_line(&own)["client_ip"]), (200, &"127.0.0.1".into()));
    }
    assert_eq!(canary.seen().len(), 2);
}

#[test]
fn a_header_in_pieces_is_read_and_one_that_does_not_end_is_timed_out() {
    let canary = Canary::start();
    let i = gateway(&canary, "\"127.0.0.0/8\"", true);
    let mut stalled = dial(i.tls, &V1[..20]);
    let mut stream = dial(i.tls, &V1[..9]);
    for piece in [&V1[9..10], &V1[10..30], &V1[30..]] {
        // So that each piece arrives on its own.
        std::thread::sleep(Duration::from_millis(20));
        stream.write_all(piece).unwrap();
    }
    let stream = connect_over(stream, &i.authority(), rustls::ALL_VERSIONS).unwrap();
    let response = finish(stream, &Request::new("GET", "/api/downloads").key(i.key()).bytes());
    assert_eq!(i.log_line(&response)["client_ip"], "192.0.2.7");
    assert!(matches!(stalled.read(&mut [0]), Ok(0) | Err(_)), "closed within the time limit of a handshake");
}

#[test]
fn only_the_configured_header_is_read() {
    let canary = Canary::start();
    for (header, client) in [("x-forwarded-for", "192.0.2.1"), ("forwarded", "2001:db8::2")] {
        let i = Instance::with(&canary.address.to_string(), |i| {
            i.replace("trusted_proxies = []", "trusted_proxies = [\"127.0.0.1/32\"]");
            i.replace("forwarded_header = \"x-forwarded-for\"", &format!("forwarded_header = \"{header}\""));
        });
        let request = Request::new("GET", "/api/downloads").key(i.key()).header("X-Forwarded-For", "192.0.2.1");
        let response = i.send(&request.header("Forwarded", "for=192.0.2.3, for=\"[2001:db8::2]:443\";proto=https"));
        assert_eq!(i.log_line(&response)["client_ip"], client);
        let seen = canary.seen().pop().unwrap();
        assert_eq!((seen.header("x-forwarded-for"), seen.header("forwarded").len()), (vec![client], 0));
    }
}

#[test]
fn one_private_address_for_everybody_is_warned_about_once() {
    let canary = Canary::start();
    let words = |first: &str| {
        let i = gateway(&canary, "\"127.0.0.0/8\"", true);
        let call = |address: &str| {
            let header = format!("PROXY TCP4 {address} 198.51.100.1 4660 443\r\n");
            assert_eq!(send_plain(i.plain, &plain_get(header.as_bytes())).status, 308);
            i.stderr().matches("172.17.0.1").count()
        };
        let early = call(first) + (1..49).map(|_| call("172.17.0.1")).sum::<usize>();
        (early, (0..60).map(|_| call("172.17.0.1")).max())
    };
    assert_eq!(words("172.17.0.1"), (0, Some(1)));
    assert_eq!(words("192.0.2.7"), (0, Some(0)), "another address shows that clients can be distinguished");
}
