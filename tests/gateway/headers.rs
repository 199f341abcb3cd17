//! Header fields: which ones the application receives, and which ones are withheld from the client.

use crate::{
    canary::Canary,
    client::Request,
    frames::{GOAWAY, HEADERS, RST_STREAM, first_frame},
    instance::Instance,
};

#[test]
fn identity_headers_forged_by_a_client_never_arrive() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    let mut request = Request::new("GET", "/api/downloads").key(i.key()).header("X-Custom", "kept");
    for name in [
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
        "X_Forwarded_For",
        "X-Forwarded.For",
        "Forwarded",
        "X-Real-IP",
        "Remote-User",
        "Remote_User",
        "Remote-Groups",
        "X-Auth-Request-User",
        "X-Accel-Redirect",
        "X-Sallyport-Statement",
        "X-Request-Id",
        "Proxy",
        "X-Original-URL",
        "X-Rewrite-Url",
        "X-HTTP-Method-Override",
        "X-Client-IP",
        "X-Forwarded",
        "Remote!User",
    ] {
        request = request.header(name, "forged");
    }
    assert_eq!(i.send(&request).status, 200);
    let seen = canary.only();
    assert!(!seen.head.contains("forged"), "{}", seen.head);
    assert_eq!(seen.header("x-custom"), ["kept"]);
    assert_eq!(seen.header("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!((seen.header("x-forwarded-proto"), seen.header("x-forwarded-host")), (vec!["https"], vec!["localhost"]));
    assert_eq!((seen.header("remote-user"), seen.header("x-sallyport-statement").len()), (vec!["admin"], 1));
}

#[test]
fn every_response_has_a_request_id_and_the_security_headers_and_reveals_nothing_about_the_upstream() {
    let canary = Canary::start();
    let i = Instance::with(&canary.address.to_string(), |i| i.replace("names = []", "names = [\"home.example\"]"));
    for response in [i.get("/api/downloads"), i.get("/nowhere"), i.get("/api/stream/..")] {
        for name in ["x-request-id", "x-content-type-options", "x-frame-options", "referrer-policy"] {
            assert_eq!(response.headers(name).len(), 1, "{name} in {}", response.head);
        }
        for name in ["server", "x-powered-by", "access-control-allow-credentials"] {
            assert!(response.header(name).is_none(), "{name} in {}", response.head);
        }
    }
    assert_eq!(
        i.get("/api/downloads").header("strict-transport-security"),
        None,
        "localhost is shared by other services"
    );
    let named = format!(
        "GET /api/downloads HTTP/1.1\r\nHost: home.example:8443\r\nConnection: close\r\nX-API-Key: {}\r\n\r\n",
        i.key()
    );
    assert_eq!(i.send_bytes(named.as_bytes()).header("strict-transport-security"), Some("max-age=31536000"));
}

#[test]
fn the_access_log_records_the_user_the_request_and_the_reason_of_a_denial() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    let line = i.log_line(&i.send(&Request::new("GET", "/api/stream/x?q=1").key(i.key()).header("User-Agent", "tv/1")));
    let expected = serde_json::json!({
        "client_ip": "127.0.0.1", "method": "GET", "host": "localhost", "path": "/api/stream/x", "route": "stream", "app": "worker",
        "user": "admin", "credential": "api-key", "decision": "forward", "code": null, "status": 200, "bytes_in": 0, "bytes_out": 6,
        "tls": "TLSv1.3", "http": "HTTP/1.1", "user_agent": "tv/1",
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&line[name], value, "{name} in {line}");
    }
    assert!(line["ts"].is_string() && line["duration_ms"].is_number() && line["upstream_ms"].is_number());
    let line = i.log_line(&i.send(&Request::new("GET", "/api/stream/x")));
    assert_eq!(
        (&line["decision"], &line["code"], &line["status"]),
        (&"deny".into(), &"not_authenticated".into(), &401.into())
    );
    let line = i.log_line(&i.get("/api/stream/é"));
    assert_eq!((&line["code"], &line["status"]), (&"bad_path".into(), &400.into()));
}

#[test]
fn a_missing_repeated_or_malformed_host_is_refused() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    for hosts in [
        "",
        "Host: a\r\nHost: b\r\n",
        "Host: a/b\r\n",
        "Host: a@b\r\n",
        "Host:\r\n",
        "Host: a, b\r\n",
        "Host: a.\r\n",
        "Host: a.:80\r\n",
        "Host: a:80:80\r\n",
        "Host: a:\r\n",
        "Host: a:123456\r\n",
        "Host: [::1\r\n",
        "Host: [x]\r\n",
        "Host: ::1\r\n",
    ] {
        let request =
            format!("GET /api/downloads HTTP/1.1\r\n{hosts}Connection: close\r\nX-API-Key: {}\r\n\r\n", i.key());
        assert_eq!(i.send_bytes(request.as_bytes()).status, 400, "{hosts:?}");
    }
    assert!(canary.seen().is_empty());
}

/// Returns forgeries of each managed name in every spelling that some parser accepts; names that are valid in HTTP/2 are in lower case.
fn forged_names() -> Vec<String> {
    let names = [
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-forwarded-port",
        "x-forwarded",
        "forwarded",
        "x-real-ip",
        "x-client-ip",
        "true-client-ip",
        "x-cluster-client-ip",
        "remote-user",
        "remote-groups",
        "x-auth-request-user",
        "x-accel-redirect",
        "x-sallyport-statement",
        "x-request-id",
        "x-original-url",
        "x-rewrite-url",
        "x-http-method",
        "x-http-method-override",
        "x-method-override",
        "proxy",
        "proxy-authorization",
    ];
    let spelt = |name: &str| ["-", "_", ".", "!"].map(|sign| name.replace('-', sign));
    let mut spelt: Vec<String> = names.into_iter().flat_map(spelt).collect();
    spelt.dedup();
    spelt
}

#[test]
fn no_spelling_of_a_managed_name_passes_over_http1() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    let names = forged_names();
    // In parts, since a head can have at most 100 fields.
    for part in names.chunks(20) {
        for spell in [str::to_owned, str::to_uppercase] {
            let request = Request::new("GET", "/api/downloads").key(i.key());
            let request = part.iter().fold(request, |r, name| r.header(&spell(name), "forged"));
            assert_eq!(i.send(&request).status, 200, "{part:?}");
        }
    }
    let seen = canary.seen();
    assert_eq!(seen.len(), names.len().div_ceil(20) * 2);
    for seen in seen {
        assert!(!seen.head.contains("forged"), "{}", seen.head);
        assert_eq!((seen.header("x-forwarded-for"), seen.header("remote-user")), (vec!["127.0.0.1"], vec!["admin"]));
    }
}

#[test]
fn no_spelling_of_a_framing_header_passes() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    let names = ["Content_Length", "content.length", "Transfer_Encoding", "transfer!encoding", "Proxy_Connection"];
    let request = Request::new("GET", "/api/downloads").key(i.key());
    let request = names.iter().fold(request, |request, name| request.header(name, "forged"));
    assert_eq!(i.send(&request).status, 200);
    assert!(!canary.only().head.contains("forged"), "{}", canary.only().head);
}

/// Sends a GET for `/api/downloads` over HTTP/2.
fn get_over_http2(i: &Instance, headers: &[(&str, &str)]) -> http::Response<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = crate::client::connect_http2(i.tls, &i.authority()).await;
        let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let request = http::Request::get("https://localhost/api/downloads").header("x-api-key", i.key());
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let (response, _) = client.send_request(request.body(()).unwrap(), true).unwrap();
        response.await.unwrap().map(drop)
    })
}

#[test]
fn no_spelling_of_a_managed_name_passes_over_http2() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    for part in forged_names().chunks(40) {
        let fields: Vec<_> = part.iter().map(|name| (name.as_str(), "forged")).collect();
        assert_eq!(get_over_http2(&i, &fields).status(), 200, "{part:?}");
    }
    let seen = canary.seen();
    assert_eq!(seen.len(), forged_names().len().div_ceil(40));
    for seen in seen {
        assert!(!seen.head.contains("forged"), "{}", seen.head);
        assert_eq!((seen.header("x-forwarded-for"), seen.header("remote-user")), (vec!["127.0.0.1"], vec!["admin"]));
    }
}

#[test]
fn fields_named_in_connection_are_removed_except_the_gateways_own() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    let named = "X-Hop, cookie, x-forwarded-for, X-Forwarded-Proto, X-Forwarded-Host, Remote-User, Host, Content-Length, \
        X-Request-Id, X-Sallyport-Statement, X-API-Key, Content-Type, Transfer-Encoding";
    let request = Request::new("POST", "/api/info")
        .key(i.key())
        .header("Connection", named)
        .header("X-Hop", "1")
        .header("X-End", "2")
        .header("Cookie", "a=1")
        .header("Keep-Alive", "timeout=5")
        .header("Proxy-Connection", "keep-alive")
        .header("TE", "trailers")
        .header("Upgrade", "h2c")
        .json(r#"{"url":"https://example.com/a"}"#);
    assert_eq!(i.send(&request).status, 200);
    let seen = canary.only();
    for name in ["connection", "x-hop", "cookie", "keep-alive", "proxy-connection", "te", "upgrade", "x-api-key"] {
        assert!(seen.header(name).is_empty(), "{name} in {}", seen.head);
    }
    for (name, value) in [
        ("x-end", "2"),
        ("host", "localhost"),
        ("content-length", "31"),
        ("content-type", "application/json"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "localhost"),
        ("remote-user", "admin"),
    ] {
        assert_eq!(seen.header(name), [value], "{name} in {}", seen.head);
    }
    assert_eq!((seen.header("x-request-id").len(), seen.header("x-sallyport-statement").len()), (1, 1));
    assert_eq!(seen.body, r#"{"url":"https://example.com/a"}"#);
}

/// Returns the first frame that answers a GET with this field, or that ends its connection.
fn frame_for(i: &Instance, name: &str, value: &str) -> u8 {
    let fields = [
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "localhost"),
        (":path", "/api/downloads"),
        ("x-api-key", i.key()),
        (name, value),
    ];
    first_frame(i, &fields)
}

#[test]
fn connection_specific_fields_are_malformed_in_http2_and_never_arrive() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    for (name, value) in [
        ("connection", "x-forwarded-for"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "close"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "websocket"),
        ("te", "gzip"),
    ] {
        assert_eq!(frame_for(&i, name, value), RST_STREAM, "{name}");
    }
    assert_eq!(frame_for(&i, "X-Forwarded-For", "in capitals"), GOAWAY);
    assert!(canary.seen().is_empty());
    assert_eq!(frame_for(&i, "te", "trailers"), HEADERS);
    assert!(canary.only().header("te").is_empty());
}

#[test]
fn a_response_loses_headers_that_the_client_must_not_see() {
    let canary = Canary::answering(
        "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: X-Hop, Content-Length, X-Content-Type-Options, X-Request-Id\r\n\
         X-Hop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: close\r\nProxy-Authenticate: Basic\r\nTrailer: X-T\r\n\
         Upgrade: h2c\r\nTE: trailers\r\nServer: canary\r\nX-Powered-By: wings\r\nX_Powered.By: wings\r\n\
         X-Accel-Redirect: /etc\r\nX_Accel_Buffering: no\r\nX-Sallyport-Statement: x\r\nX-Request-Id: theirs\r\n\
         Access-Control-Allow-Origin: *\r\nAccess-Control-Allow-Methods: *\r\nAccess_Control_Allow_Headers: *\r\n\
         X-End: 2\r\n\r\ncanary",
    );
    let i = Instance::start(&canary);
    let response = i.get("/api/downloads");
    let mut names: Vec<_> = response.head.lines().skip(1).map(|line| line.split(':').next().unwrap()).collect();
    names.sort_unstable();
    let kept = [
        "connection", // close, as the client requested
        "content-length",
        "content-security-policy",
        "date",
        "referrer-policy",
        "vary",
        "x-content-type-options",
        "x-end",
        "x-frame-options",
        "x-request-id",
    ];
    assert_eq!(names, kept, "{}", response.head);
    assert_eq!((response.header("connection"), response.header("content-length")), (Some("close"), Some("6")));
    assert!(response.header("x-request-id").unwrap() != "theirs" && response.body == b"canary");
    let over_http2 = get_over_http2(&i, &[]);
    let mut names: Vec<_> = over_http2.headers().keys().map(http::HeaderName::as_str).collect();
    names.sort_unstable();
    let kept: Vec<_> = kept.into_iter().filter(|name| !["connection", "content-length"].contains(name)).collect();
    assert_eq!(names.into_iter().filter(|name| *name != "content-length").collect::<Vec<_>>(), kept);
}
