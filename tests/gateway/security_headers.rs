//! Security headers: the ones that a policy adds to an application's responses, and those of the gateway's own responses.

use crate::{
    canary::Canary,
    client::{self, Request, Response},
    instance::Instance,
};

/// The header of each key in `[headers]`, and its default.
const DEFAULTS: [(&str, &str); 5] = [
    ("strict-transport-security", "max-age=31536000"),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "strict-origin-when-cross-origin"),
    ("x-frame-options", "SAMEORIGIN"),
    ("content-security-policy", "object-src 'none'; base-uri 'self'"),
];

fn get_by_name(i: &Instance, host: &str) -> Response {
    let request =
        format!("GET /api/downloads HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nX-API-Key: {}\r\n\r\n", i.key());
    client::send_nameless(i.tls, &i.authority(), request.as_bytes())
}

fn with_headers(canary: &Canary, table: &str) -> Instance {
    Instance::with(&canary.address.to_string(), |i| {
        i.replace_in("policies/worker.toml", "[upstream]", &format!("[headers]\n{table}\n[upstream]"));
    })
}

#[test]
fn a_response_has_each_security_header_once_and_keeps_the_applications_own_where_allowed() {
    let canary = Canary::start();
    let response = get_by_name(&Instance::start(&canary), "home.example");
    for (name, value) in DEFAULTS {
        assert_eq!(response.headers(name), [value], "{name}");
    }
    let outspoken = Canary::answering(
        "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nStrict-Transport-Security: max-age=1\r\nX-Content-Type-Options: sniff\r\n\
         Referrer-Policy: unsafe-url\r\nX-Frame-Options: deny\r\nContent-Security-Policy: default-src https:\r\n\
         Content-Security-Policy: img-src *\r\n\r\ncanary",
    );
    let i = Instance::start(&outspoken);
    let response = get_by_name(&i, "home.example");
    for (name, value) in DEFAULTS.into_iter().take(3) {
        assert_eq!(response.headers(name), [value], "{name} is the gateway's");
    }
    assert_eq!(response.headers("x-frame-options"), ["deny"], "the stricter one wins");
    assert_eq!(response.headers("content-security-policy"), ["default-src https:", "img-src *"]);
    assert!(
        get_by_name(&i, "localhost").header("strict-transport-security").is_none(),
        "the application's is removed as well"
    );
    let lax = Canary::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Frame-Options: ALLOWALL\r\n\r\n");
    assert_eq!(get_by_name(&Instance::start(&lax), "home.example").headers("x-frame-options"), ["SAMEORIGIN"]);
}

#[test]
fn a_policy_sets_each_security_header_or_leaves_it_to_the_application() {
    let canary = Canary::start();
    let i = with_headers(
        &canary,
        "hsts = \"max-age=60; includeSubDomains\"\ncontent_type_options = false\nreferrer_policy = \"same-origin\"\n\
         frame_options = \"DENY\"\ncontent_security_policy = \"default-src 'self'\"\n",
    );
    let response = get_by_name(&i, "home.example");
    for (name, value) in [
        ("strict-transport-security", Some("max-age=60; includeSubDomains")),
        ("x-content-type-options", None),
        ("referrer-policy", Some("same-origin")),
        ("x-frame-options", Some("DENY")),
        ("content-security-policy", Some("default-src 'self'")),
    ] {
        assert_eq!(response.header(name), value, "{name}");
    }
    let off = "hsts = false\ncontent_type_options = \"\"\nreferrer_policy = false\nframe_options = false\n\
               content_security_policy = false\n";
    let response = get_by_name(&with_headers(&canary, off), "home.example");
    assert!(DEFAULTS.into_iter().all(|(name, _)| response.header(name).is_none()), "{}", response.head);
    let sent = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nStrict-Transport-Security: max-age=1\r\n\
                Referrer-Policy: origin\r\nX-Frame-Options: SAMEORIGIN\r\n\r\n";
    let response = get_by_name(&with_headers(&Canary::answering(sent), off), "home.example");
    assert_eq!(response.header("strict-transport-security"), Some("max-age=1"));
    assert_eq!(
        (response.header("referrer-policy"), response.header("x-frame-options")),
        (Some("origin"), Some("SAMEORIGIN"))
    );
}

#[test]
fn an_applications_referrer_policy_stays_unless_it_reveals_whole_urls_or_the_policy_sets_one() {
    for (own, seen) in [
        ("no-referrer", "no-referrer"),
        ("unsafe-url, Same-Origin", "unsafe-url, Same-Origin"),
        ("no-referrer-when-downgrade", "strict-origin-when-cross-origin"),
        ("no-referrer, unsafe-url", "strict-origin-when-cross-origin"),
        ("whatever", "strict-origin-when-cross-origin"),
    ] {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nReferrer-Policy: {own}\r\n\r\n");
        let canary = Canary::answering(head.leak());
        assert_eq!(Instance::start(&canary).get("/api/downloads").headers("referrer-policy"), [seen], "{own}");
        let set = with_headers(&canary, "referrer_policy = \"no-referrer\"");
        assert_eq!(set.get("/api/downloads").headers("referrer-policy"), ["no-referrer"], "{own}");
    }
}

#[test]
fn a_referer_arrives_without_the_link_in_it() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    for (sent, arrives) in [
        ("https://localhost/a?q=1&sp_user=a&sp_exp=1&sp_kid=k&sp_id=i&sp_sig=AA", "https://localhost/a"),
        ("https://localhost/a?expires=1&signature=00&user=a", "https://localhost/a"),
        ("https://localhost/a?q=1", "https://localhost/a?q=1"),
    ] {
        i.send(&Request::new("GET", "/api/downloads").key(i.key()).header("Referer", sent));
        assert_eq!(canary.seen().last().unwrap().header("referer"), [arrives]);
    }
}

#[test]
fn hsts_is_sent_only_for_names_and_also_on_denials_as_the_policy_says() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    let hsts = |host: &str| get_by_name(&i, host).header("strict-transport-security").map(str::to_owned);
    for host in
        ["localhost", "LOCALHOST:8443", "app.localhost", "192.0.2.1", "192.0.2.1:8443", "[::1]", "[2001:db8::1]:8443"]
    {
        assert_eq!(hsts(host), None, "{host}");
    }
    for host in ["home.example", "home.example:8443", "localhost.example", "nas", "1.example"] {
        assert_eq!(hsts(host).as_deref(), Some("max-age=31536000"), "{host}");
    }
    let denied = |i: &Instance| {
        let request = b"GET /api/downloads HTTP/1.1\r\nHost: home.example\r\nConnection: close\r\n\r\n";
        let response = client::send_nameless(i.tls, &i.authority(), request);
        assert_eq!(response.status, 401);
        response.header("strict-transport-security").map(str::to_owned)
    };
    assert_eq!(denied(&i).as_deref(), Some("max-age=31536000"));
    assert_eq!(denied(&with_headers(&canary, "hsts = false")), None);
}

#[test]
fn responses_of_the_gateway_itself_cannot_be_rendered_or_framed() {
    let canary = Canary::start();
    let i = with_headers(&canary, "content_security_policy = false\nframe_options = false");
    let link = i.post("/.sallyport/links", r#"{"path":"/api/stream/x"}"#);
    assert_eq!(link.status, 201);
    for response in [link, i.get("/nowhere"), i.get("/api/stream/.."), i.send_bytes(b"GET / HTTP/1.1\r\n\r\n")] {
        for (name, value) in [
            ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
        ] {
            assert_eq!(response.headers(name), [value], "{name} in {}", response.head);
        }
    }
}

#[test]
fn an_invalid_header_value_is_reported_with_its_location() {
    for (setting, words) in [
        ("hsts = \"1 year\"", "write \"max-age=31536000\""),
        ("content_type_options = \"sniff\"", "write \"nosniff\""),
        ("referrer_policy = \"none\"", "write \"no-referrer\""),
        ("frame_options = \"ALLOWALL\"", "write \"DENY\" or \"SAMEORIGIN\""),
        ("content_security_policy = \"default-src: 'self'\"", "write directives such as"),
        ("frame_options = true", "or false to keep what the application sends"),
        ("hsts = 31536000", "expected the header's value"),
    ] {
        let i = Instance::made(&[]);
        i.replace_in("policies/worker.toml", "[upstream]", &format!("[headers]\n{setting}\n\n[upstream]"));
        let policy = std::fs::read_to_string(i.path("policies/worker.toml")).unwrap();
        let line = policy.lines().position(|line| line == setting).unwrap() + 1;
        let column = setting.find("= ").unwrap() + 3;
        let report = i.output(&["check"]);
        let found = String::from_utf8_lossy(&report.stdout).replace("\\\"", "\"");
        let place = format!("worker.toml:{line}:{column}: ");
        assert_eq!(report.status.code(), Some(1), "{setting}");
        assert!(found.contains(&place) && found.contains(words), "{setting} at {place}: {found}");
    }
}
