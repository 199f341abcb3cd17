//! Header fields: what the application is told, and what the client is not.

use crate::{canary::Canary, client::Request, instance::Instance};

#[test]
fn what_a_client_says_of_itself_in_the_gateways_name_never_arrives() {
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
fn every_answer_has_a_request_id_and_the_security_headers_and_tells_nothing_of_the_upstream() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    for answer in [i.get("/api/downloads"), i.get("/nowhere"), i.get("/api/stream/..")] {
        for name in ["x-request-id", "x-content-type-options", "x-frame-options", "referrer-policy"] {
            assert_eq!(answer.headers(name).len(), 1, "{name} in {}", answer.head);
        }
        for name in ["server", "x-powered-by", "access-control-allow-credentials"] {
            assert!(answer.header(name).is_none(), "{name} in {}", answer.head);
        }
    }
    assert_eq!(i.get("/api/downloads").header("strict-transport-security"), None, "localhost is everybody's");
    let named = format!(
        "GET /api/downloads HTTP/1.1\r\nHost: home.example:8443\r\nConnection: close\r\nX-API-Key: {}\r\n\r\n",
        i.key()
    );
    assert_eq!(i.send_bytes(named.as_bytes()).header("strict-transport-security"), Some("max-age=31536000"));
}

#[test]
fn the_access_log_tells_who_asked_for_what_and_why_it_was_denied() {
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
fn a_host_that_is_missing_repeated_or_strange_is_refused() {
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
