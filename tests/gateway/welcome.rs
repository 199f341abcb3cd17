//! The page at `/` of the worker's site: public, and without any information about this server.

use crate::{
    canary::Canary,
    client::Request,
    instance::{Instance, eventually},
};

#[test]
fn a_browser_gets_the_welcome_page_without_a_request_to_the_worker() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    let page = i.send(&Request::new("GET", "/").header("Accept", "text/html"));
    assert_eq!(page.status, 200);
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    let policy = page.header("content-security-policy").unwrap();
    assert!(
        policy.starts_with("default-src 'none'; style-src 'sha256-") && policy.contains("form-action 'none'"),
        "{policy}"
    );
    let text = String::from_utf8(page.body.clone()).unwrap();
    for secret in ["admin", "127.0.0.1", "downloads", "yt-dlp", env!("CARGO_PKG_VERSION")] {
        assert!(!text.contains(secret), "{secret}");
    }
    let line = i.log_line(&page);
    assert_eq!((&line["decision"], &line["route"]), (&"own".into(), &"welcome".into()));
    assert_eq!(i.get("/").body, page.body, "the page is the same for every client");
    let head = i.send(&Request::new("HEAD", "/"));
    assert_eq!((head.status, head.body.len()), (200, 0));
    let post = i.send(&Request::new("POST", "/"));
    assert_eq!((post.status, post.header("allow")), (405, Some("GET, HEAD")));
    assert_eq!(i.send(&Request::new("GET", "/").key("sp_wrong_key")).status, 401, "a wrong key is reported");
    assert!(canary.seen().is_empty(), "nothing has reached the worker");
}

#[test]
fn a_policys_own_page_and_address_rules_take_precedence() {
    let canary = Canary::start();
    let i = Instance::with(&canary.address.to_string(), |i| {
        i.replace_in("policies/worker.toml", "path = \"/api/trending\"", "path = \"/\"");
    });
    assert_eq!(i.get("/").status, 200);
    assert_eq!(canary.seen().len(), 1, "the application's own page");
    i.replace_in("policies/worker.toml", "path = \"/\"", "path = \"/api/trending\"");
    i.replace_in("policies/worker.toml", "[defaults]", "[defaults]\ndeny_from = [\"127.0.0.0/8\"]");
    eventually("the rule", || (i.send(&Request::new("GET", "/")).status == 403).then_some(()));
    let mut other = Instance::made_with_policy(
        "mine",
        "[[route]]\nname = \"all\"\nmethods = [\"GET\"]\npath = \"/files\"\n",
        &canary.address.to_string(),
    );
    other.start_role("gateway");
    assert_eq!(other.get("/").status, 404, "any other application has only the routes of its policy");
}
