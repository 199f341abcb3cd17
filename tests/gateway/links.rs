//! Signed links: one file for one user until one moment.

use std::{thread::sleep, time::Duration};

use crate::{canary::Canary, client::Request, instance::Instance};

const FILE: &str = "/api/stream/a%23b.mp4";

/// Makes a link on the command line; path and query of its URL.
fn link(i: &Instance, args: &[&str]) -> String {
    let made = i.command(&[&["link", "create"], args].concat());
    path_of(made["url"].as_str().unwrap())
}

fn path_of(url: &str) -> String {
    let rest = url.strip_prefix("https://").unwrap();
    rest[rest.find('/').unwrap()..].to_owned()
}

fn get(i: &Instance, target: &str) -> (u16, Option<String>) {
    let answer = i.send(&Request::new("GET", target));
    (answer.status, (answer.status >= 400).then(|| answer.code()))
}

fn refused(i: &Instance, target: &str, status: u16, code: &str) {
    assert_eq!(get(i, target), (status, Some(code.to_owned())), "{target}");
}

#[test]
fn a_link_opens_its_file_with_ranges_and_heads_and_nothing_of_it_arrives() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    let target = link(&i, &[FILE]);
    assert_eq!(get(&i, &target), (200, None));
    assert_eq!(i.send(&Request::new("HEAD", &target)).status, 200);
    assert_eq!(i.send(&Request::new("GET", &target).header("Range", "bytes=2-3")).status, 200);
    let seen = canary.seen();
    assert_eq!(seen.iter().map(super::canary::Seen::target).collect::<Vec<_>>(), [FILE; 3]);
    assert_eq!(seen[2].header("range"), ["bytes=2-3"]);
    assert_eq!(seen[0].header("remote-user"), ["admin"]);
    assert!(seen.iter().all(|s| !s.head.contains("sp_")));
}

#[test]
fn the_worker_is_told_which_link_a_request_came_by() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    let made = i.command(&["link", "create", FILE]);
    assert_eq!(get(&i, &path_of(made["url"].as_str().unwrap())), (200, None));
    assert_eq!(i.get(FILE).status, 200);
    let told = |seen: &super::canary::Seen| -> serde_json::Value {
        let payload = seen.header("x-sallyport-statement")[0].split('.').nth(1).unwrap().to_owned();
        let statement = data_encoding::BASE64URL_NOPAD.decode(payload.as_bytes()).unwrap();
        serde_json::from_slice::<serde_json::Value>(&statement).unwrap()["link_id"].take()
    };
    assert_eq!(canary.seen().iter().map(told).collect::<Vec<_>>(), [made["id"].clone(), serde_json::Value::Null]);
}

#[test]
fn a_tampered_link_is_forbidden_and_an_expired_one_is_gone() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    let target = link(&i, &[FILE]);
    let (path, query) = target.split_once('?').unwrap();
    let changed = |from: &str, to: &str| {
        let changed = query.replacen(from, to, 1);
        assert_ne!(changed, query);
        format!("{path}?{changed}")
    };
    for tampered in [
        changed("sp_user=admin", "sp_user=eve"),
        changed("sp_exp=1", "sp_exp=2"),
        changed("sp_id=", "sp_id=0"),
        changed("sp_kid=", "sp_kid=0"),
        changed("sp_sig=", "sp_sig=A"),
        changed("&sp_id=", "&sp_id=x&sp_id="),
        changed("sp_user=admin&", ""),
        format!("{target}&more=1"),
        format!("{target}&sp_more=1"),
        format!("/api/stream/other.mp4?{query}"),
        format!("/api/stream/a%23b.mp4x?{query}"),
    ] {
        refused(&i, &tampered, 403, "bad_link");
    }
    refused(&i, &format!("/api/downloads?{query}"), 403, "bad_link");
    assert_eq!(i.send(&Request::new("GET", &target).key(i.key())).status, 400, "a link and a key are two credentials");
    assert_eq!(i.send(&Request::new("DELETE", &target)).status, 404);

    let short = link(&i, &[FILE, "--expires", "1s"]);
    sleep(Duration::from_millis(2_100));
    refused(&i, &short, 410, "expired_link");
    refused(&i, &short.replace("sp_sig=", "sp_sig=A"), 403, "bad_link");
    assert!(canary.seen().is_empty());
}

#[test]
fn a_link_can_be_taken_back_at_once() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    let made = i.command(&["link", "create", FILE]);
    let target = path_of(made["url"].as_str().unwrap());
    assert_eq!(get(&i, &target).0, 200);
    i.command(&["link", "revoke", made["id"].as_str().unwrap()]);
    refused(&i, &target, 410, "expired_link");
    assert_eq!(i.command(&["link", "list"])["links"][0]["revoked"], true);
}

#[test]
fn two_keys_live_at_a_time_so_that_they_rotate() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    let first = link(&i, &[FILE]);
    std::fs::remove_file(i.path("data/control.sock")).unwrap();
    i.command(&["link", "rotate"]);
    let second = link(&i, &[FILE]);
    crate::instance::eventually("the new key, though nobody could tell", || (get(&i, &second).0 == 200).then_some(()));
    assert_eq!((get(&i, &first).0, get(&i, &second).0), (200, 200));
    i.command(&["link", "rotate"]);
    crate::instance::eventually("the end of the first key", || (get(&i, &first).0 == 403).then_some(()));
    assert_eq!(get(&i, &second).0, 200);
}

#[test]
fn links_are_made_over_the_wire_for_oneself_and_by_administrators_for_others() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    i.command(&["user", "add", "ana"]);
    let ana = i.new_key(&["--user", "ana"]);
    let make = |key: &str, body: &str| i.send(&Request::new("POST", "/.sallyport/links").key(key).json(body));
    let made = make(&ana, &format!(r#"{{"path":"{FILE}","expires":"10m"}}"#));
    assert_eq!(made.status, 201, "{made:?}");
    let json = made.json();
    assert!(json["id"].is_string() && json["expires"].is_string());
    assert!(json["url"].as_str().unwrap().starts_with("https://localhost/api/stream/"), "{json}");
    assert_eq!(get(&i, &path_of(json["url"].as_str().unwrap())).0, 200);
    assert_eq!(canary.only().header("remote-user"), ["ana"]);

    assert_eq!(make(i.key(), &format!(r#"{{"path":"{FILE}","user":"ana"}}"#)).status, 201);
    for (key, body, status) in [
        (&*ana, format!(r#"{{"path":"{FILE}","user":"admin"}}"#), 403),
        (&*ana, r#"{"path":"/api/downloads"}"#.to_owned(), 422),
        (&*ana, r#"{"path":"/api/stream/../x"}"#.to_owned(), 422),
        (&*ana, format!(r#"{{"path":"{FILE}","expires":"8d"}}"#), 422),
        (&*ana, format!(r#"{{"path":"{FILE}","expires":"soon"}}"#), 422),
        (&*ana, format!(r#"{{"path":"{FILE}","user":"../x"}}"#), 422),
        (&*ana, "{}".to_owned(), 422),
        (&*ana, "x".to_owned(), 400),
        ("sp_wrong", format!(r#"{{"path":"{FILE}"}}"#), 401),
    ] {
        let answer = make(key, &body);
        assert_eq!((answer.status, answer.header("content-type").unwrap().contains("json")), (status, true), "{body}");
    }
    let reader = i.new_key(&["--scope", "links:write"]);
    assert_eq!(make(&reader, &format!(r#"{{"path":"{FILE}"}}"#)).status, 403, "nobody links to what he may not read");
}

#[test]
fn offlinetubes_own_links_are_taken_where_the_policy_says_so() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    let target = link(&i, &["/api/download/v1/file", "--style", "offlinetube"]);
    assert_eq!(get(&i, &target).0, 200);
    assert_eq!((canary.only().target(), canary.only().header("remote-user")), ("/api/download/v1/file", vec!["admin"]));
    for tampered in [
        target.replace("/v1/", "/v2/"),
        target.replace("user=admin", "user=eve"),
        target.replace("expires=1", "expires=2"),
    ] {
        refused(&i, &tampered, 403, "bad_link");
    }
    let thumbnail = format!("/api/thumbnails/v1?{}", target.split_once('?').unwrap().1);
    refused(&i, &thumbnail, 401, "not_authenticated");
    let elsewhere = format!("/api/downloads?{}", target.split_once('?').unwrap().1);
    refused(&i, &elsewhere, 401, "not_authenticated");
    let endless = ["link", "create", "/api/download/v1/file", "--style", "offlinetube", "--expires", "365d"];
    assert!(!i.output(&endless).status.success());
    let short = link(&i, &["/api/download/v1/file", "--style", "offlinetube", "--expires", "1s"]);
    sleep(Duration::from_millis(2_100));
    refused(&i, &short, 410, "expired_link");
}

#[test]
fn no_signature_and_no_key_ever_appears_in_a_log() {
    let canary = Canary::start();
    let i = Instance::with(&canary.address.to_string(), |i| i.replace("level = \"info\"", "level = \"trace\""));
    let target = link(&i, &[FILE]);
    i.send(&Request::new("GET", &target));
    i.send(&Request::new("GET", &target.replace("sp_user=admin", "sp_user=eve")));
    i.get("/api/downloads");
    let token = i.new_token(&[]);
    let last = i.send(&Request::new("GET", "/api/downloads").bearer(&token));
    i.log_line(&last);
    let signature = target.rsplit_once('=').unwrap().1;
    let logs = std::fs::read_to_string(i.path("data/access.log")).unwrap() + &i.stderr();
    assert_eq!(std::fs::read_to_string(i.path("data/access.log")).unwrap().lines().count(), 4);
    for secret in [signature, i.key(), &token] {
        assert!(!logs.contains(secret));
    }
}
