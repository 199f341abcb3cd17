//! Cross-origin requests: the headers that a browser gets, and what a foreign page cannot do.

use crate::{
    canary::Canary,
    client::{Request, Response},
    instance::Instance,
};

const APP: &str = "https://app.example.com";
const FOREIGN: [&str; 6] = [
    "https://evil.example",
    "https://app.example.com.evil.example",
    "http://app.example.com",
    "https://app.example.com:444",
    "null",
    "https://APP.example.com",
];

fn instance(canary: &Canary) -> Instance {
    Instance::with(&canary.address.to_string(), |i| {
        i.replace("cors_origins = []", &format!("cors_origins = [\"{APP}\"]"));
    })
}

fn access_control(response: &Response) -> Vec<&str> {
    response.head.lines().filter(|l| l.to_ascii_lowercase().starts_with("access-control-")).collect()
}

fn preflight(origin: &str, method: &str) -> Request {
    let request = Request::new("OPTIONS", "/api/downloads").header("Origin", origin);
    request.header("Access-Control-Request-Method", method).header("Access-Control-Request-Headers", "authorization")
}

#[test]
fn an_allowed_origin_may_read_and_no_other() {
    let canary = Canary::start();
    let i = instance(&canary);
    let get = |origin: &str| i.send(&Request::new("GET", "/api/downloads").key(i.key()).header("Origin", origin));
    let allowed = get(APP);
    assert_eq!((allowed.status, allowed.header("access-control-allow-origin")), (200, Some(APP)));
    assert_eq!(allowed.header("access-control-allow-credentials"), None, "the upstream's own header is not forwarded");
    assert!(allowed.header("access-control-expose-headers").unwrap().contains("Content-Range"));
    for origin in FOREIGN {
        let response = get(origin);
        assert_eq!(access_control(&response), Vec::<&str>::new(), "{origin}");
        assert_eq!(response.header("vary"), Some("Origin"), "{origin}");
    }
    assert_eq!(i.get("/api/downloads").header("vary"), Some("Origin"), "even without an origin");
    let denied = i.send(&Request::new("GET", "/api/downloads").header("Origin", APP));
    assert_eq!((denied.status, denied.header("access-control-allow-origin")), (401, Some(APP)), "an app can read why");
}

#[test]
fn preflights_are_answered_by_the_gateway_without_a_credential() {
    let canary = Canary::start();
    let i = instance(&canary);
    let response = i.send(&preflight(APP, "GET"));
    assert_eq!((response.status, response.header("access-control-allow-origin")), (204, Some(APP)));
    assert!(response.header("access-control-allow-methods").unwrap().contains("GET"));
    assert!(response.header("access-control-allow-headers").unwrap().contains("Authorization"));
    assert_eq!((response.header("access-control-max-age"), response.header("vary")), (Some("7200"), Some("Origin")));
    for refused in FOREIGN.map(|origin| preflight(origin, "GET")).into_iter().chain([preflight(APP, "PUT")]) {
        let response = i.send(&refused);
        assert_eq!((response.status, response.header("access-control-allow-methods")), (403, None), "{refused:?}");
        assert_eq!(response.header("vary"), Some("Origin"));
    }
    assert!(canary.seen().is_empty());
}

#[test]
fn a_foreign_page_changes_nothing_even_with_a_credential() {
    let canary = Canary::start();
    let i = instance(&canary);
    let delete =
        |origin: &str| i.send(&Request::new("DELETE", "/api/downloads/x").key(i.key()).header("Origin", origin));
    for origin in FOREIGN {
        let response = delete(origin);
        assert_eq!((response.status, response.code().as_str()), (403, "foreign_origin"), "{origin}");
    }
    let upgrade = Request::new("GET", "/api/downloads").key(i.key()).header("Origin", "https://evil.example");
    assert_eq!(i.send(&upgrade.header("Connection", "Upgrade").header("Upgrade", "websocket")).status, 403);
    assert!(canary.seen().is_empty());
    assert_eq!(delete(APP).status, 200);
    assert_eq!(delete("https://localhost").status, 200, "the site's own pages may");
}

#[test]
fn credentials_and_max_age_are_what_the_policy_says() {
    let canary = Canary::start();
    let told = |table: &str| {
        let i = Instance::with(&canary.address.to_string(), |i| {
            i.replace("cors_origins = []", &format!("cors_origins = [\"{APP}\"]"));
            i.replace_in("policies/worker.toml", "[cors]\n", &format!("[cors]\n{table}"));
        });
        let before = i.send(&preflight(APP, "GET"));
        let response = i.send(&Request::new("GET", "/api/downloads").key(i.key()).header("Origin", APP));
        assert_eq!((before.status, response.status), (204, 200));
        assert_eq!(response.header("access-control-max-age"), None, "this header is for preflights only");
        let credentials = [&before, &response].map(|a| a.header("access-control-allow-credentials").map(str::to_owned));
        (credentials, before.header("access-control-max-age").unwrap().to_owned())
    };
    assert_eq!(told(""), ([None, None], "7200".to_owned()));
    let yes = Some("true".to_owned());
    assert_eq!(told("credentials = true\nmax_age = \"5m\"\n"), ([yes.clone(), yes], "300".to_owned()));
}

#[test]
fn forms_of_an_applications_own_pages_are_permitted_however_the_browser_names_their_origin() {
    let canary = Canary::start();
    let i = instance(&canary);
    let sent = |host: &str, headers: &[(&str, &str)]| {
        let head = format!(
            "DELETE /api/downloads/x HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nX-API-Key: {}\r\n",
            i.key()
        );
        let fields = headers.iter().flat_map(|(name, value)| [*name, ": ", *value, "\r\n"]).collect::<String>();
        i.send_bytes(format!("{head}{fields}\r\n").as_bytes()).status
    };
    let null = |site| [("Origin", "null"), ("Sec-Fetch-Site", site)];
    assert_eq!(sent("localhost", &null("same-origin")), 200, "a page under no-referrer");
    for site in ["cross-site", "same-site", "none", "same-origin, same-origin", ""] {
        assert_eq!(sent("localhost", &null(site)), 403, "a sandboxed page: {site}");
    }
    assert_eq!(sent("localhost", &[("Origin", "null")]), 403, "nothing says which site's page it is");
    assert_eq!(sent("localhost", &[&null("same-origin")[..], &null("cross-site")[1..]].concat()), 403);
    assert_eq!(sent("localhost", &[&null("same-origin")[..], &null("same-origin")[1..]].concat()), 403);
    for (host, origin) in [
        ("localhost:443", "https://localhost"),
        ("localhost", "https://localhost:443"),
        ("LOCALHOST:443", "https://localhost"),
    ] {
        assert_eq!(sent(host, &[("Origin", origin)]), 200, "{host} {origin}");
    }
    for (host, origin) in [
        ("localhost:443", "https://localhost:444"),
        ("localhost:80", "https://localhost"),
        ("localhost:443", "http://localhost"),
    ] {
        assert_eq!(sent(host, &[("Origin", origin)]), 403, "{host} {origin}");
    }
    assert_eq!(canary.seen().len(), 4);
}

#[test]
fn extensions_and_apps_can_be_allowed_by_their_origins_and_no_other_of_their_kind() {
    const EXTENSION: &str = "chrome-extension://abcdefghijklmnopabcdefghijklmnop";
    let canary = Canary::start();
    let allowed =
        [EXTENSION, "moz-extension://6a3a1f5e-52cc-4c43-8d0b-0a1b2c3d4e5f", "capacitor://localhost", "app://main:1"];
    let i = Instance::with(&canary.address.to_string(), |i| {
        i.replace("cors_origins = []", &format!("cors_origins = {allowed:?}"));
    });
    let delete =
        |origin: &str| i.send(&Request::new("DELETE", "/api/downloads/x").key(i.key()).header("Origin", origin));
    for origin in allowed {
        let response = delete(origin);
        assert_eq!((response.status, response.header("access-control-allow-origin")), (200, Some(origin)));
        assert_eq!(i.send(&preflight(origin, "GET")).status, 204, "{origin}");
    }
    for origin in [
        "chrome-extension://bbcdefghijklmnopabcdefghijklmnop",
        "moz-extension://abcdefghijklmnopabcdefghijklmnop",
        "capacitor://localhost:1",
        "https://localhost.evil.example",
        "app://main",
    ] {
        assert_eq!(delete(origin).status, 403, "{origin}");
    }
    for wrong in ["chrome-extension://*", "file://", "chrome-extension://abc/page.html", "null"] {
        let i = Instance::made(&[]);
        i.replace("cors_origins = []", &format!("cors_origins = [\"{wrong}\"]"));
        let found = String::from_utf8(i.output(&["check"]).stdout).unwrap();
        assert!(found.contains("chrome-extension://ID"), "{wrong}: {found}");
    }
}

#[test]
fn an_allowed_origin_can_read_every_denial_of_the_gateway() {
    let canary = Canary::start();
    let i = Instance::with(&canary.address.to_string(), |i| {
        i.replace("cors_origins = []", &format!("cors_origins = [\"{APP}\"]"));
        let search = "path = \"/api/search\"";
        i.replace_in("policies/worker.toml", search, &format!("{search}\nallow_from = [\"192.0.2.1\"]"));
        let trending = "path = \"/api/trending\"";
        i.replace_in("policies/worker.toml", trending, &format!("{trending}\ncors = false"));
    });
    for (status, code, target) in [
        (400, "bad_path", "/api/stream/.."),
        (400, "bad_path", "/api/stream/a;b"),
        (400, "bad_path", "/api/thumbnails/a%ef%bc%8fb"),
        (404, "no_route", "/nowhere"),
        (403, "address_denied", "/api/search?q=x"),
        (401, "not_authenticated", "/api/downloads"),
        (403, "bad_link", "/api/stream/x?sp_sig=AA"),
    ] {
        let from = |origin: &str| i.send(&Request::new("GET", target).header("Origin", origin));
        let own = from(APP);
        let foreign = from("https://evil.example");
        assert_eq!((own.status, own.code().as_str()), (status, code), "{target}");
        assert_eq!(own.header("access-control-allow-origin"), Some(APP), "{target}");
        assert_eq!((foreign.status, access_control(&foreign)), (status, Vec::new()), "{target}");
        assert_eq!((own.header("vary"), foreign.header("vary")), (Some("Origin"), Some("Origin")), "{target}");
    }
    let apart = i.send(&Request::new("GET", "/api/trending").header("Origin", APP));
    assert_eq!((apart.status, access_control(&apart)), (401, Vec::new()), "that route allows no other origin");
    let silent = Instance::start(&canary).send(&Request::new("GET", "/nowhere").header("Origin", APP));
    assert_eq!((silent.status, silent.header("vary"), access_control(&silent)), (404, None, Vec::new()));
    assert!(canary.seen().is_empty());
}

#[test]
fn an_allowed_origin_can_read_that_it_is_banned() {
    let canary = Canary::start();
    let i = Instance::with(&canary.address.to_string(), |i| {
        i.replace("cors_origins = []", &format!("cors_origins = [\"{APP}\"]"));
        i.replace("trusted_proxies = []", "trusted_proxies = [\"127.0.0.0/8\"]");
    });
    i.command(&["ban", "add", "192.0.2.7"]);
    let request = Request::new("GET", "/api/downloads").header("X-Forwarded-For", "192.0.2.7").header("Origin", APP);
    let response = i.send(&request);
    assert_eq!((response.status, response.code().as_str()), (403, "banned"));
    assert_eq!(response.header("access-control-allow-origin"), Some(APP));
}

#[test]
fn fastapis_error_format_applies_to_ambiguous_paths_too() {
    let canary = Canary::start();
    let i = Instance::with(&canary.address.to_string(), |i| {
        i.replace_in("policies/worker.toml", "[upstream]", "errors = \"fastapi\"\n\n[upstream]");
    });
    for path in ["/api/stream/..", "/api/stream/a;b", "/nowhere", "/api/stream/\u{e9}", "/a b", &"/x".repeat(5_000)] {
        let response = i.get(path);
        let status = response.status;
        let body = response.json();
        assert!((400..500).contains(&status), "{path:.20}");
        assert_eq!(response.header("content-type"), Some("application/json"), "{path:.20}");
        assert_eq!(body.as_object().unwrap().keys().collect::<Vec<_>>(), ["detail"], "{path:.20}: {body}");
    }
    assert!(canary.seen().is_empty());
}
