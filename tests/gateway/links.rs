//! Signed links: access to one file in the name of one user until the link expires.

use std::{thread::sleep, time::Duration};

use crate::{canary::Canary, client::Request, instance::Instance};

const FILE: &str = "/api/stream/a%23b.mp4";

/// Creates a link on the command line and returns the path and query of its URL.
fn link(i: &Instance, args: &[&str]) -> String {
    let made = i.command(&[&["link", "create"], args].concat());
    path_of(made["url"].as_str().unwrap())
}

fn path_of(url: &str) -> String {
    let rest = url.strip_prefix("https://").unwrap();
    rest[rest.find('/').unwrap()..].to_owned()
}

fn get(i: &Instance, target: &str) -> (u16, Option<String>) {
    let response = i.send(&Request::new("GET", target));
    (response.status, (response.status >= 400).then(|| response.code()))
}

fn refused(i: &Instance, target: &str, status: u16, code: &str) {
    assert_eq!(get(i, target), (status, Some(code.to_owned())), "{target}");
}

#[test]
fn a_link_opens_its_file_with_range_and_head_and_its_parameters_never_arrive() {
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
fn the_statement_names_the_link_of_a_request() {
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
    // The lifetime is the subject: the application sees no request with this link, not even an early one.
    sleep(Duration::from_millis(2_100));
    refused(&i, &short, 410, "expired_link");
    refused(&i, &short.replace("sp_sig=", "sp_sig=A"), 403, "bad_link");
    assert!(canary.seen().is_empty());
}

#[test]
fn a_link_can_be_revoked_immediately() {
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
fn two_link_keys_are_valid_at_a_time_so_that_they_can_rotate() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    let first = link(&i, &[FILE]);
    std::fs::remove_file(i.path("data/control.sock")).unwrap();
    i.command(&["link", "rotate"]);
    let second = link(&i, &[FILE]);
    crate::instance::eventually("the new key, without a notification", || (get(&i, &second).0 == 200).then_some(()));
    assert_eq!((get(&i, &first).0, get(&i, &second).0), (200, 200));
    i.command(&["link", "rotate"]);
    crate::instance::eventually("the end of the first key", || (get(&i, &first).0 == 403).then_some(()));
    assert_eq!(get(&i, &second).0, 200);
}

#[test]
fn users_create_links_over_http_for_themselves_and_administrators_for_others() {
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
        let response = make(key, &body);
        assert_eq!(
            (response.status, response.header("content-type").unwrap().contains("json")),
            (status, true),
            "{body}"
        );
    }
    let reader = i.new_key(&["--scope", "links:write"]);
    assert_eq!(
        make(&reader, &format!(r#"{{"path":"{FILE}"}}"#)).status,
        403,
        "users cannot link to files that they may not read"
    );
}

#[test]
fn a_maker_is_told_the_same_whether_it_lacks_a_scope_or_names_another_user_and_the_log_tells_which() {
    let canary = Canary::start();
    let i = Instance::with(&canary.address.to_string(), |i| i.replace("level = \"info\"", "level = \"debug\""));
    i.command(&["user", "add", "ana"]);
    let ana = i.new_key(&["--user", "ana"]);
    let reader = i.new_key(&["--scope", "links:write"]);
    for (key, body, cause) in [
        (&ana, format!(r#"{{"path":"{FILE}","user":"admin"}}"#), "OtherUser"),
        (&reader, format!(r#"{{"path":"{FILE}"}}"#), "MissingScope"),
    ] {
        let response = i.send(&Request::new("POST", "/.sallyport/links").key(key).json(&body));
        let problem = response.json();
        assert_eq!((response.status, &problem["code"]), (403, &"forbidden".into()), "{body}");
        let detail = problem["detail"].as_str().unwrap();
        let told = "you lack a scope that the link's route requires, or you may not create links for this user";
        assert!(detail.ends_with(&format!(": {told}")), "{detail}");
        assert!(i.stderr().contains(cause), "{cause}");
    }
}

#[test]
fn offlinetube_links_are_accepted_if_the_policy_says_so() {
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
    // The lifetime is the subject: the application sees no request with this link, not even an early one.
    sleep(Duration::from_millis(2_100));
    refused(&i, &short, 410, "expired_link");
}

#[test]
fn no_signature_and_no_key_appears_in_a_log() {
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

#[test]
fn a_link_opens_its_file_in_every_spelling_that_clients_use() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    let made = link(&i, &["/api/stream/%5Ba%5D~it's%20(1)@b.mp4?q=[x],1", "--user", "admin"]);
    let own = &made[made.find("&sp_").unwrap()..];
    let spellings = [
        "/api/stream/%5Ba%5D~it's%20(1)@b.mp4?q=[x],1",
        "/api/stream/[a]%7Eit%27s%20%281%29%40b.mp4?q=%5Bx%5D%2C1",
        "/api/stream/%5ba%5d%7eit's%20(1)@b%2Emp4?q=%5bx%5d,1",
        "/%61pi/stream/[a]~it's%20(1)@b.mp4?q=[x]%2c1",
    ];
    for spelling in &spellings[..2] {
        assert_eq!(get(&i, &format!("{spelling}{own}")), (200, None), "{spelling}");
    }
    assert_eq!(get(&i, &format!("{}{own}", spellings[3])), (200, None));
    assert_eq!(get(&i, &format!("{}{}", spellings[0], own.replace("sp_user=admin", "sp_user=%61dmin"))), (200, None));
    // Some parser could read an escaped dot as a dot segment.
    assert_eq!(get(&i, &format!("{}{own}", spellings[2])).0, 400);
    let arrived: Vec<_> = canary.seen().iter().map(|seen| seen.target().to_owned()).collect();
    assert_eq!(arrived, [0, 1, 3, 0].map(|n| spellings[n]), "byte for byte");
    for other in ["/api/stream/%255Ba%5D~it's%20(1)@b.mp4?q=[x],1", "/api/stream/%5Ba%5D~it's%20(1)@b.mp4?q=[x]%261"] {
        refused(&i, &format!("{other}{own}"), 403, "bad_link");
    }
}

#[test]
fn added_parameters_are_never_passed_on_and_invalidate_a_link_unless_the_route_ignores_them() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    let file = link(&i, &[FILE]);
    let zip = link(&i, &["/api/v2/zip?ids=1,2"]);
    for added in ["fbclid=IwAR0", "utm_source=a&utm_medium=b&gclid=c", "igsh=", "mc_eid"] {
        assert_eq!(get(&i, &format!("{file}&{added}")), (200, None), "{added}");
        assert_eq!(get(&i, &format!("{}?{added}&{}", FILE, file.split_once('?').unwrap().1)), (200, None), "{added}");
        assert_eq!(get(&i, &format!("{zip}&{added}")), (200, None), "{added}");
    }
    let offlinetube = link(&i, &["/api/download/v1/file", "--style", "offlinetube"]);
    assert_eq!(get(&i, &format!("{offlinetube}&fbclid=x")), (200, None));
    let expected = [FILE, "/api/v2/zip?ids=1,2", "/api/download/v1/file"];
    assert!(canary.seen().iter().all(|seen| expected.contains(&seen.target())), "{:?}", canary.seen());
    let before = canary.seen().len();
    for spoilt in ["more=1", "ids=3", "fbclid=x&more=1", "sp_more=1", "sp_id=x", "UTM_source=a"] {
        refused(&i, &format!("{file}&{spoilt}"), 403, "bad_link");
    }
    assert_eq!(canary.seen().len(), before);

    let i = Instance::with(&canary.address.to_string(), |i| {
        i.replace_in("policies/worker.toml", "[defaults]", "[defaults]\nlink_ignores = [\"more\", \"ref_*\"]");
        let zip = "path = \"/api/v2/zip\"";
        i.replace_in("policies/worker.toml", zip, &format!("{zip}\nlink_ignores = []"));
    });
    let file = link(&i, &[FILE]);
    let zip = link(&i, &["/api/v2/zip?ids=1,2"]);
    assert_eq!(get(&i, &format!("{file}&more=1&ref_src=x")), (200, None));
    refused(&i, &format!("{file}&fbclid=x"), 403, "bad_link");
    refused(&i, &format!("{zip}&more=1"), 403, "bad_link");
}

#[test]
fn an_invalid_name_in_link_ignores_is_reported_with_its_location() {
    for (at, name) in [("[defaults]\n", "sp_*"), ("[defaults]\n", "*"), ("path = \"/api/v2/zip\"\n", "a b")] {
        let i = Instance::made(&[]);
        i.replace_in("policies/worker.toml", at, &format!("{at}link_ignores = [\"x\", \"{name}\"]\n"));
        let found = String::from_utf8(i.output(&["check"]).stdout).unwrap();
        assert!(found.contains("is not the name of a parameter") && found.contains("worker.toml:"), "{name}: {found}");
    }
}

#[test]
fn an_applications_parameters_may_begin_like_those_of_a_link() {
    let canary = Canary::start();
    let i = Instance::with(&canary.address.to_string(), |i| {
        let open =
            "[[route]]\nname = \"open\"\nmethods = [\"GET\"]\npath = \"/open\"\ncredentials = []\nanonymous = true\n";
        i.replace_in("policies/worker.toml", "[[route]]", &format!("{open}\n[[route]]"));
    });
    let own = ["sp_page=2", "sp_id=7&sp_id=8", "sp_user=ana&sp_exp=1&sp_kid=k", "sp_=", "q=sp_sig"];
    for query in own {
        assert_eq!(get(&i, &format!("/open?{query}")), (200, None), "{query}");
        assert_eq!(i.get(&format!("/api/downloads?{query}")).status, 200, "{query}");
    }
    for query in ["sp_page=2", "sp_lang=en&q=1"] {
        assert_eq!(i.get(&format!("{FILE}?{query}")).status, 200, "also on routes that accept links: {query}");
    }
    let arrived = canary.seen().len();
    assert_eq!(arrived, 12);
    assert!(canary.seen().iter().all(|seen| seen.target().contains("sp_")));
    let right = link(&i, &[FILE]);
    for query in ["sp_sig=AAAA", "sp_page=2&sp_sig=AAAA", right.split_once('?').unwrap().1] {
        refused(&i, &format!("/open?{query}"), 403, "bad_link");
    }
    for query in ["sp_id=7", "sp_user=ana&sp_page=2"] {
        assert_eq!(i.get(&format!("{FILE}?{query}")).status, 403, "it is part of a link: {query}");
    }
    assert_eq!(canary.seen().len(), arrived, "no signature is passed on");
}

#[test]
fn a_link_to_a_path_with_an_empty_query_opens_that_path() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    for path in [format!("{FILE}?"), FILE.to_owned(), format!("{FILE}?a=1&"), format!("{FILE}?&"), format!("{FILE}??")]
    {
        let made = i.post("/.sallyport/links", &serde_json::json!({ "path": path }).to_string());
        assert_eq!(made.status, 201, "{path}");
        assert_eq!(get(&i, &path_of(made.json()["url"].as_str().unwrap())), (200, None), "{path}");
        assert_eq!(get(&i, &link(&i, &[&path])), (200, None), "{path}, by the command");
        let arrived = canary.seen().last().unwrap().target().to_owned();
        assert_eq!(arrived, if path == format!("{FILE}?") { FILE } else { &path });
    }
    assert!(
        i.command(&["link", "list"])["links"]
            .as_array()
            .unwrap()
            .iter()
            .all(|link| link["target"] != format!("{FILE}?"))
    );
}
