//! Cross-origin requests: what a browser is told, and what a foreign page cannot do.

use crate::{
    canary::Canary,
    client::{Answer, Request},
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

fn access_control(answer: &Answer) -> Vec<&str> {
    answer.head.lines().filter(|l| l.to_ascii_lowercase().starts_with("access-control-")).collect()
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
    assert_eq!(allowed.header("access-control-allow-credentials"), None, "the upstream's own word is not passed on");
    assert!(allowed.header("access-control-expose-headers").unwrap().contains("Content-Range"));
    for origin in FOREIGN {
        let answer = get(origin);
        assert_eq!(access_control(&answer), Vec::<&str>::new(), "{origin}");
        assert_eq!(answer.header("vary"), Some("Origin"), "{origin}");
    }
    assert_eq!(i.get("/api/downloads").header("vary"), Some("Origin"), "also without an origin");
    let denied = i.send(&Request::new("GET", "/api/downloads").header("Origin", APP));
    assert_eq!((denied.status, denied.header("access-control-allow-origin")), (401, Some(APP)), "an app can read why");
}

#[test]
fn preflights_are_answered_at_the_gateway_without_a_credential() {
    let canary = Canary::start();
    let i = instance(&canary);
    let answer = i.send(&preflight(APP, "GET"));
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (204, Some(APP)));
    assert!(answer.header("access-control-allow-methods").unwrap().contains("GET"));
    assert!(answer.header("access-control-allow-headers").unwrap().contains("Authorization"));
    assert_eq!((answer.header("access-control-max-age"), answer.header("vary")), (Some("7200"), Some("Origin")));
    for refused in FOREIGN.map(|origin| preflight(origin, "GET")).into_iter().chain([preflight(APP, "PUT")]) {
        let answer = i.send(&refused);
        assert_eq!((answer.status, answer.header("access-control-allow-methods")), (403, None), "{refused:?}");
        assert_eq!(answer.header("vary"), Some("Origin"));
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
        let answer = delete(origin);
        assert_eq!((answer.status, answer.code().as_str()), (403, "foreign_origin"), "{origin}");
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
        let answer = i.send(&Request::new("GET", "/api/downloads").key(i.key()).header("Origin", APP));
        assert_eq!((before.status, answer.status), (204, 200));
        assert_eq!(answer.header("access-control-max-age"), None, "that is for preflights");
        let credentials = [&before, &answer].map(|a| a.header("access-control-allow-credentials").map(str::to_owned));
        (credentials, before.header("access-control-max-age").unwrap().to_owned())
    };
    assert_eq!(told(""), ([None, None], "7200".to_owned()));
    let yes = Some("true".to_owned());
    assert_eq!(told("credentials = true\nmax_age = \"5m\"\n"), ([yes.clone(), yes], "300".to_owned()));
}
