//! The admin listener: health, readiness and metrics, on loopback or a Unix socket, under all conditions.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::{fs::PermissionsExt, net::UnixStream},
    process::Command,
    thread,
    time::Duration,
};

use crate::{
    canary::Canary,
    client::{Request, Response, send_plain},
    instance::{Instance, eventually, free_addresses},
    places,
};

fn admin(i: &Instance, path: &str) -> Response {
    send_plain(i.admin, format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes())
}

/// Returns the sum of the metrics whose name and labels begin with `series`.
pub(crate) fn metric(i: &Instance, series: &str) -> f64 {
    let text = String::from_utf8(admin(i, "/metrics").body).unwrap();
    let lines = text.lines().filter_map(|line| line.strip_prefix(series)?.rsplit(' ').next());
    lines.map(|value| value.parse::<f64>().unwrap()).sum()
}

pub(crate) fn eventually_metric(i: &Instance, series: &str, expected: f64) {
    let what = format!("{series} {expected}");
    eventually(&what, || ((metric(i, series) - expected).abs() < f64::EPSILON).then_some(()));
}

#[test]
fn it_reports_whether_the_gateway_is_alive() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    assert_eq!(["/healthz", "/readyz", "/"].map(|path| admin(&i, path).status), [200, 200, 404]);
    assert_eq!(send_plain(i.admin, b"POST /healthz HTTP/1.1\r\nHost: h\r\n\r\n").status, 405);
    assert_eq!(send_plain(i.admin, b"nonsense\r\n\r\n").status, 400);
    let head = send_plain(i.admin, b"HEAD /metrics HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!((head.status, head.body.len()), (200, 0));
}

#[test]
fn a_page_whose_name_resolves_to_this_machine_reads_nothing() {
    let canary = Canary::start();
    let i = Instance::with(&canary.address.to_string(), |i| {
        i.replace("admin_hosts = []", "admin_hosts = [\"nas.local\"]");
    });
    let fetch = |host: &str| send_plain(i.admin, format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes());
    let port = i.admin.port();
    for host in ["127.0.0.1", "[::1]", "192.168.1.5", "localhost", "gateway", "nas.local", "NAS.LOCAL"] {
        assert_eq!([fetch(host).status, fetch(&format!("{host}:{port}")).status], [200; 2], "{host}");
    }
    for host in ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "x.nas.local"] {
        let responses = [fetch(host), fetch(&format!("{host}:{port}"))];
        for response in responses {
            let body = String::from_utf8(response.body).unwrap();
            assert_eq!(response.status, 421, "{host}");
            assert!(body.contains("gateway.admin_hosts") && !body.contains("sallyport_"), "{host}: {body}");
        }
    }
    let i = Instance::made(&[]);
    i.replace("admin_hosts = []", "admin_hosts = [\"nas.local:9901\"]");
    let found = String::from_utf8(i.output(&["check"]).stdout).unwrap();
    assert!(found.contains("without scheme and port"), "{found}");
}

#[test]
fn it_answers_while_the_gateway_drains() {
    let canary = Canary::with(Duration::from_secs(4));
    let i = Instance::start(&canary);
    thread::scope(|scope| {
        let slow = scope.spawn(|| i.get("/api/downloads").status);
        eventually("the request", || canary.seen().first().map(drop));
        assert!(Command::new("kill").args(["-TERM", &i.pid().to_string()]).status().unwrap().success());
        eventually("draining", || (admin(&i, "/readyz").status == 503).then_some(()));
        assert_eq!(["/healthz", "/metrics"].map(|path| admin(&i, path).status), [200, 200]);
        assert_eq!(slow.join().unwrap(), 200, "the running request completes");
    });
}

#[test]
fn connections_that_are_held_open_do_not_keep_others_out() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    let held: Vec<TcpStream> = (0..200).map(|_| TcpStream::connect(i.admin).unwrap()).collect();
    for _ in 0..5 {
        assert_eq!(admin(&i, "/readyz").status, 200);
    }
    eventually("the limit", || (metric(&i, "sallyport_connections{listener=\"admin\"}") <= 32.0).then_some(()));
    let mut last = held.last().unwrap();
    last.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert_eq!(last.read(&mut [0]).unwrap(), 0, "a client that sends nothing is disconnected");
}

#[test]
fn it_may_be_a_unix_socket_for_owner_and_group() {
    let canary = Canary::start();
    let i = Instance::with(&canary.address.to_string(), |i| {
        let path = i.path("admin.sock");
        i.replace(&format!("admin_listen = \"{}\"", i.admin), &format!("admin_listen = \"unix:{}\"", path.display()));
    });
    let mut stream = UnixStream::connect(i.path("admin.sock")).unwrap();
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    assert!(response.starts_with("HTTP/1.1 200 ") && response.ends_with("ready\n"), "{response}");
    assert_eq!(fs::metadata(i.path("admin.sock")).unwrap().permissions().mode() & 0o777, 0o660);
    assert!(TcpStream::connect(i.admin).is_err());
}

#[test]
fn an_address_that_others_can_reach_requires_its_switch() {
    let canary = Canary::start();
    let [elsewhere] = free_addresses::<1>();
    let mut i = Instance::made(&["--app", "worker", "--upstream", &canary.address.to_string()]);
    i.replace(&format!("admin_listen = \"{}\"", i.admin), &format!("admin_listen = \"0.0.0.0:{}\"", elsewhere.port()));
    assert_eq!(i.spawn("gateway", &[]).wait().unwrap().code(), Some(1));
    i.replace("admin_on_any_address = false", "admin_on_any_address = true");
    i.start_role("gateway");
    assert_eq!(send_plain(elsewhere, b"GET /readyz HTTP/1.1\r\nHost: h\r\n\r\n").status, 200);
}

#[test]
fn each_request_is_counted_once_in_the_right_series() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    assert_eq!(i.get("/api/downloads").status, 200);
    assert_eq!(i.send(&Request::new("GET", "/api/downloads")).status, 401);
    assert_eq!(i.post("/.sallyport/links", "{\"path\":\"/api/stream/x\"}").status, 201);
    assert_eq!(i.send(&Request::new("GET", "/../x")).status, 400);

    let of = |decision: &str, status: &str| {
        format!("sallyport_requests_total{{app=\"worker\",decision=\"{decision}\",status=\"{status}\"}}")
    };
    eventually_metric(&i, "sallyport_requests_total", 4.0);
    for (decision, status) in [("forward", "2xx"), ("deny", "4xx"), ("own", "2xx")] {
        assert!(metric(&i, &of(decision, status)) >= 1.0, "{decision} {status}");
    }
    assert!(metric(&i, "sallyport_denials_total{code=\"not_authenticated\"}") > 0.9);
    assert!(metric(&i, "sallyport_denials_total{code=\"bad_path\"}") > 0.9);
    eventually_metric(&i, "sallyport_denials_total", 2.0);
    eventually_metric(&i, "sallyport_request_duration_seconds_count", 4.0);
    eventually_metric(&i, "sallyport_upstream_duration_seconds_count", 1.0);
    assert!(metric(&i, "sallyport_bytes_received_total{app=\"worker\"}") > 20.0);
    assert!(metric(&i, "sallyport_bytes_sent_total{app=\"worker\"}") > 6.0);
    assert!(metric(&i, "sallyport_rate_limited_clients") >= 1.0, "the routes of the worker have rates");
}

#[test]
fn connections_and_broken_handshakes_are_counted() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    // The connection that waited for the gateway ended without a handshake.
    eventually_metric(&i, "sallyport_handshakes_failed_total{reason=\"tls\"}", 1.0);
    eventually_metric(&i, "sallyport_connections{listener=\"tls\"}", 0.0);
    let before = metric(&i, "sallyport_connections_accepted_total{listener=\"tls\"}");
    TcpStream::connect(i.tls).unwrap().write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    eventually_metric(&i, "sallyport_handshakes_failed_total{reason=\"tls\"}", 2.0);
    let held = crate::client::connect(i.tls, &i.authority(), rustls::ALL_VERSIONS).unwrap();
    eventually_metric(&i, "sallyport_connections{listener=\"tls\"}", 1.0);
    eventually_metric(&i, "sallyport_connections_accepted_total{listener=\"tls\"}", before + 2.0);
    drop(held);
    eventually_metric(&i, "sallyport_connections{listener=\"tls\"}", 0.0);
    eventually_metric(&i, "sallyport_handshakes_failed_total{reason=\"tls\"}", 2.0);
}

#[test]
fn a_clients_data_creates_no_new_series() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    let series = || {
        let text = String::from_utf8(admin(&i, "/metrics").body).unwrap();
        text.lines().filter_map(|line| line.rsplit_once(' ')).map(|(series, _)| series.to_owned()).collect::<Vec<_>>()
    };
    let before = series();
    for n in 0..20 {
        let request = Request::new(&format!("M{n}"), &format!("/mark-{n}")).key(&format!("mark-{n}"));
        i.send(&request.header("User-Agent", "mark").header("X-Forwarded-For", "mark"));
    }
    assert_eq!(series(), before);
    assert!(!before.iter().any(|series| series.contains("mark")));
}

#[test]
fn the_certificates_expiry_is_reported() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    let record = fs::read_to_string(i.path("certs/server.names")).unwrap();
    let ends: f64 = record.lines().next().unwrap().parse().unwrap();
    assert!((metric(&i, "sallyport_certificate_expiry_timestamp_seconds") - ends).abs() < 1.5);
}

#[test]
fn the_document_names_every_metric_and_no_other() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    let response = admin(&i, "/metrics");
    assert_eq!(response.header("content-type"), Some("application/openmetrics-text; version=1.0.0; charset=utf-8"));
    let text = String::from_utf8(response.body).unwrap();
    assert!(text.ends_with("# EOF\n"), "{text}");
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let served: BTreeSet<String> =
        types.map(|(name, kind)| if kind == "counter" { format!("{name}_total") } else { name.to_owned() }).collect();

    let document = fs::read_to_string(places::project().join("docs/monitoring.md")).unwrap();
    let section = document.split_once("\n## Metrics\n").unwrap().1.split_once("\n## ").unwrap().0;
    let cells = section.lines().filter_map(|line| line.strip_prefix("| `")?.split(" |").next());
    let named: BTreeSet<String> = cells.flat_map(|cell| cell.split("`, `")).map(|name| name.replace('`', "")).collect();
    assert_eq!(named, served);
}

#[test]
fn an_app_that_a_reload_adds_is_counted_and_the_others_keep_their_counts() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    let of = |app: &str| format!("sallyport_requests_total{{app=\"{app}\"");
    assert_eq!(i.get("/api/downloads").status, 200);
    eventually_metric(&i, &of("worker"), 1.0);
    let second = format!(
        "[[app]]\nname = \"second\"\npolicy = \"worker\"\nupstream = \"{}\"\nprefix = \"/api/stream\"\n\n[[app]]",
        canary.address
    );
    i.replace("[[app]]", &second);
    eventually("the reload", || i.stderr().contains("were reloaded").then_some(()));
    assert_eq!(i.get("/api/stream/x").status, 200);
    assert_eq!(i.get("/api/downloads").status, 200);
    eventually_metric(&i, &of("second"), 1.0);
    eventually_metric(&i, &of("worker"), 2.0);
    eventually_metric(&i, "sallyport_requests_total", 3.0);
}
