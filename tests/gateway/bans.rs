//! Bans: what leads to one, and what does not.

use std::{fs, process::Command, thread::sleep, time::Duration};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use sallyport_core::clock;
use serde_json::{Value, json};

use crate::{
    canary::Canary,
    client::{Request, Response, connect, connect_http2, finish},
    instance::{Instance, eventually},
};

pub(crate) const STRANGER: &str = "192.0.2.7";
pub(crate) const OTHER: &str = "192.0.2.8";

/// Starts a gateway with these `[bans]` that trusts the test's claims about the client's address.
pub(crate) fn with_bans(canary: &Canary, bans: &[(&str, &str)]) -> Instance {
    Instance::with(&canary.address.to_string(), |i| {
        i.replace("trusted_proxies = []", "trusted_proxies = [\"127.0.0.0/8\"]");
        set(i, bans);
    })
}

/// Starts a gateway that can ban the test itself by its connections.
pub(crate) fn that_bans_the_test(canary: &Canary) -> Instance {
    Instance::with(&canary.address.to_string(), |i| {
        i.replace("shared_addresses = [\"127.0.0.0/8\", \"::1/128\"]", "shared_addresses = []");
        set(i, &[("include_local", "true"), ("failed_credentials", "2"), ("spare_authenticated", "\"0s\"")]);
    })
}

/// Sets these keys of `[bans]`.
pub(crate) fn set(i: &Instance, bans: &[(&str, &str)]) {
    let text = fs::read_to_string(i.path("config.toml")).unwrap();
    let (before, rest) = text.split_once("[bans]").unwrap();
    let (table, after) = rest.split_once("\n[").unwrap();
    let mut lines: Vec<String> = table.lines().map(str::to_owned).collect();
    for (key, value) in bans {
        let line = lines.iter_mut().find(|line| line.starts_with(&format!("{key} = "))).unwrap();
        *line = format!("{key} = {value}");
    }
    fs::write(i.path("config.toml"), format!("{before}[bans]{}\n[{after}", lines.join("\n"))).unwrap();
}

pub(crate) fn from(i: &Instance, client: &str, request: Request) -> Response {
    i.send(&request.header("X-Forwarded-For", client))
}

pub(crate) fn list(key: &str) -> Request {
    Request::new("GET", "/api/downloads").key(key)
}

pub(crate) fn guess(i: &Instance, client: &str) -> u16 {
    from(i, client, list("sp_wrong")).status
}

pub(crate) fn fetch(i: &Instance, client: &str, path: &str) -> u16 {
    from(i, client, Request::new("GET", path)).status
}

/// Returns the status for the right key.
pub(crate) fn knock(i: &Instance, client: &str) -> u16 {
    from(i, client, list(i.key())).status
}

pub(crate) fn banned(i: &Instance) -> Vec<Value> {
    i.command(&["ban", "list"])["bans"].as_array().unwrap().clone()
}

#[test]
fn a_client_that_guesses_ten_times_is_banned_and_no_other_is() {
    let canary = Canary::start();
    let i = with_bans(&canary, &[]);
    assert!((0..9).all(|_| guess(&i, STRANGER) == 401));
    assert_eq!(guess(&i, OTHER), 401, "others are counted separately");
    assert_eq!(guess(&i, STRANGER), 401);
    let response = from(&i, STRANGER, list(i.key()));
    assert_eq!((response.status, response.code().as_str()), (403, "banned"), "even with the right key");
    assert_eq!(fetch(&i, STRANGER, "/nowhere"), 403, "it learns nothing about paths");
    assert!(canary.seen().is_empty());
    assert_eq!(knock(&i, OTHER), 200);
    let line = i.log_line(&response);
    assert_eq!((&line["code"], &line["client_ip"], &line["user"]), (&"banned".into(), &STRANGER.into(), &Value::Null));
    assert!(
        i.stderr().contains(" WARN sallyport: banned 192.0.2.7 for 10m: 10 failed credentials\n"),
        "{}",
        i.stderr()
    );
    let ban = eventually("the ban in the list", || banned(&i).pop());
    assert_eq!((&ban["address"], &ban["reason"]), (&STRANGER.into(), &"10 failed credentials".into()));
}

#[test]
fn every_kind_of_wrong_credential_counts() {
    let canary = Canary::start();
    let i = with_bans(&canary, &[("failed_credentials", "2")]);
    let link = i.command(&["link", "create", "/api/stream/a.mp4"])["url"].as_str().unwrap().to_owned();
    let forged = format!("/api/stream/b.mp4?{}", link.split_once('?').unwrap().1);
    let get = |target: &str| Request::new("GET", target);
    for (n, wrong) in [
        get("/api/downloads").key("sp_wrong"),
        get("/api/downloads").bearer("eyJhbGciOiJIUzI1NiJ9.e30.AAAA"),
        get("/api/downloads").header("Authorization", "Basic Zm9vOmJhcg=="),
        get("/api/downloads").header("Authorization", "Digest x"),
        get(&forged),
    ]
    .into_iter()
    .enumerate()
    {
        let client = format!("198.51.100.{n}");
        let statuses = [(); 3].map(|()| from(&i, &client, wrong.clone()).code());
        assert!(statuses[0].starts_with("bad_") && statuses[1] == statuses[0], "{statuses:?}");
        assert_eq!(statuses[2], "banned", "{wrong:?}");
    }
}

#[test]
fn mistakes_of_an_honest_client_never_count() {
    let canary = Canary::start();
    let i =
        with_bans(&canary, &[("failed_credentials", "1"), ("forbidden_paths", "1"), ("spare_authenticated", "\"0s\"")]);
    let key = i.new_key(&["--expires", "1s", "--scope", "media:read"]);
    let narrow = i.new_key(&["--scope", "media:read"]);
    eventually("the key's expiry", || (from(&i, STRANGER, list(&key)).code() == "expired_credential").then_some(()));
    for (request, code) in [
        (list(&key), "expired_credential"),
        (list(&narrow), "insufficient_scope"),
        (Request::new("GET", "/api/downloads"), "not_authenticated"),
        (list(i.key()).bearer("two"), "two_credentials"),
        (Request::new("POST", "/api/download").key(i.key()).json("{"), "bad_body"),
    ] {
        assert_eq!([(); 2].map(|()| from(&i, STRANGER, request.clone()).code()), [code; 2]);
    }
    assert_eq!(knock(&i, STRANGER), 200);
    assert!(banned(&i).is_empty());
}

#[test]
fn a_guess_counts_whatever_its_method() {
    let canary = Canary::start();
    let i = with_bans(&canary, &[("failed_credentials", "2"), ("forbidden_paths", "0")]);
    let put = || Request::new("PUT", "/api/downloads");
    assert!((0..3).all(|_| from(&i, OTHER, put()).code() == "no_route"));
    assert!((0..2).all(|_| from(&i, STRANGER, put().key("sp_wrong")).code() == "no_route"));
    assert_eq!([STRANGER, OTHER].map(|client| knock(&i, client)), [403, 200]);
}

#[test]
fn only_forged_credentials_count_as_guesses() {
    let canary = Canary::start();
    let i =
        with_bans(&canary, &[("failed_credentials", "1"), ("forbidden_paths", "1"), ("spare_authenticated", "\"0s\"")]);
    let made = i.command(&["link", "create", "/api/stream/a.mp4"])["url"].as_str().unwrap().to_owned();
    let link = made[made.find("/api/").unwrap()..].to_owned();
    let get = |target: &str| Request::new("GET", target);
    let secret = fs::read(i.path("data/secrets/jwt.key")).unwrap();
    let token = |header: &Header, claims: Value| {
        let token = jsonwebtoken::encode(header, &claims, &EncodingKey::from_secret(&secret)).unwrap();
        get("/api/downloads").bearer(&token)
    };
    let own = Header::new(Algorithm::HS256);
    let now = clock::unix_now();
    for (request, code) in [
        (get(&format!("{link}&more=1")), "bad_link"),
        (get(&format!("{link}&a=1&b=2&c")), "bad_link"),
        (get(&link.replace("sp_kid=", "sp_kid=0")), "bad_link"),
        (get(link.split_once("&sp_sig").unwrap().0), "bad_link"),
        (get(&format!("{link}&sp_id=x")), "bad_link"),
        (token(&own, json!({"sub": "admin", "exp": now - 3_600})), "expired_credential"),
        (token(&own, json!({"sub": "admin", "exp": now + 3_600, "nbf": now + 600})), "bad_credential"),
        (token(&own, json!({"sub": "admin"})), "bad_credential"),
        (token(&own, json!({"sub": "", "exp": now + 3_600})), "bad_credential"),
        (token(&own, json!({"sub": "admin", "exp": now + 3_600, "scope": "Files.Read/All"})), "insufficient_scope"),
    ] {
        assert_eq!([(); 2].map(|()| from(&i, STRANGER, request.clone()).code()), [code; 2], "{request:?}");
    }
    assert_eq!(from(&i, STRANGER, get("/open?sp_page=1")).code(), "no_route");
    assert_eq!(knock(&i, STRANGER), 403, "that path was forbidden");
    let forged = [
        get(&link.replace("a.mp4", "b.mp4")),
        get(&link.replace("sp_exp=1", "sp_exp=2")),
        get("/api/downloads").bearer("eyJhbGciOiJIUzI1NiJ9.e30.AAAA"),
    ];
    for (n, request) in forged.into_iter().enumerate() {
        let client = format!("198.51.100.{n}");
        assert!(from(&i, &client, request.clone()).code().starts_with("bad_"));
        assert_eq!(knock(&i, &client), 403, "{request:?}");
    }
}

#[test]
fn a_revoked_key_is_not_a_guess() {
    let canary = Canary::start();
    let i = with_bans(&canary, &[("failed_credentials", "1"), ("spare_authenticated", "\"0s\"")]);
    i.command(&["user", "add", "ana"]);
    let made = [&["key", "create"][..], &["key", "create", "--user", "ana"]].map(|command| i.command(command));
    i.command(&["key", "revoke", made[0]["id"].as_str().unwrap()]);
    i.command(&["user", "remove", "ana"]);
    let key = |made: &Value| made["key"].as_str().unwrap().to_owned();
    for key in made.iter().map(key) {
        assert_eq!([(); 2].map(|()| from(&i, STRANGER, list(&key)).code()), ["bad_credential"; 2]);
    }
    assert_eq!(knock(&i, STRANGER), 200);
    assert_eq!(from(&i, STRANGER, list("sp_guessed")).code(), "bad_credential");
    assert_eq!(knock(&i, STRANGER), 403, "that one was a guess");
}

#[test]
fn malformed_heads_count_as_denied_requests_too() {
    let canary = Canary::start();
    let i = that_bans_the_test(&canary);
    set(&i, &[("denied_requests", "3")]);
    eventually("the reload", || i.stderr().contains("denied_requests").then_some(()));
    let banned = || i.command(&["ban", "list"])["bans"].as_array().unwrap().len();
    for head in ["GET /%zz HTTP/1.1\r\nHost: localhost\r\n\r\n", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n"] {
        let stream = connect(i.tls, &i.authority(), rustls::ALL_VERSIONS).unwrap();
        assert_eq!(finish(stream, head.as_bytes()).status, 400, "{head}");
    }
    assert_eq!(banned(), 0);
    let url = format!("https://localhost:{}/", i.tls.port());
    let authority = i.authority();
    let mut curl = Command::new("curl");
    curl.args(["-s", "--http2", "-H", "Host: localhost:99999", "--cacert", authority.to_str().unwrap(), &url]);
    assert!(String::from_utf8(curl.output().unwrap().stdout).unwrap().contains("bad_host"));
    eventually("the ban", || (banned() == 1).then_some(()));
}

#[test]
fn a_ban_ends_the_http2_connection_that_led_to_it() {
    let canary = Canary::start();
    let i = Instance::with(&canary.address.to_string(), |i| {
        i.replace("shared_addresses = [\"127.0.0.0/8\", \"::1/128\"]", "shared_addresses = []");
        set(i, &[("include_local", "true"), ("denied_requests", "3")]);
    });
    let fetch = async {
        let stream = connect_http2(i.tls, &i.authority()).await;
        let (sender, connection) = h2::client::handshake(stream).await.unwrap();
        let connection = tokio::spawn(connection);
        let mut responses = 0;
        while let Ok(mut ready) = sender.clone().ready().await {
            let request = http::Request::get("https://localhost/api/downloads").body(()).unwrap();
            let Ok((response, _)) = ready.send_request(request, true) else { break };
            responses += u32::from(response.await.is_ok());
            assert!(responses < 1_000, "the connection continues");
        }
        drop(sender);
        (responses, connection.await.unwrap())
    };
    let (responses, ended) = tokio::runtime::Runtime::new().unwrap().block_on(fetch);
    assert!(responses > 3, "the client is told of the ban: {responses}");
    assert!(ended.is_ok(), "by GOAWAY, so that running requests are not cut off: {ended:?}");
}

#[test]
fn a_flood_beyond_the_rate_of_an_address_leads_to_a_ban() {
    let canary = Canary::start();
    let i = with_bans(&canary, &[("denied_requests", "25")]);
    let order = |client| from(&i, client, Request::new("POST", "/api/download").json("{}")).status;
    let statuses: Vec<_> = (0..26).map(|_| order(STRANGER)).collect();
    assert_eq!(statuses, [&[401; 20][..], &[429; 5], &[403]].concat());
    assert_eq!(order(OTHER), 401);
}

#[test]
fn twenty_different_forbidden_paths_are_too_many_and_one_is_not_however_often() {
    let canary = Canary::start();
    let i = with_bans(&canary, &[]);
    assert!((0..30).all(|n| fetch(&i, STRANGER, &format!("/admin?{n}")) == 404));
    assert!((0..17).all(|n| fetch(&i, STRANGER, &format!("/admin/{n}")) == 404));
    assert_eq!((fetch(&i, STRANGER, "/admin/%2e%2e/x"), fetch(&i, STRANGER, "/api/../x")), (400, 400));
    assert_eq!(fetch(&i, STRANGER, "/admin/x"), 403, "the previous path was the twentieth");
    assert!(i.stderr().contains("banned 192.0.2.7 for 10m: 20 forbidden paths"), "{}", i.stderr());
    assert_eq!(fetch(&i, OTHER, "/admin/x"), 404);
    assert!(canary.seen().is_empty());
}

#[test]
fn automatic_requests_of_browsers_do_not_count_as_probing() {
    let canary = Canary::start();
    let i = with_bans(&canary, &[("forbidden_paths", "2")]);
    let touch = (100..130).map(|n| format!("/apple-touch-icon-{n}x{n}-precomposed.png"));
    let known = (0..30).map(|n| format!("/.well-known/{n}"));
    let files = ["/favicon.ico", "/robots.txt", "/site.webmanifest", "/apple-app-site-association"].map(String::from);
    for path in touch.chain(known).chain(files) {
        assert_eq!(fetch(&i, STRANGER, &path), 404, "{path}");
    }
    assert_eq!(knock(&i, STRANGER), 200);
    assert_eq!((fetch(&i, OTHER, "/x/favicon.ico"), fetch(&i, OTHER, "/.env"), fetch(&i, OTHER, "/")), (404, 404, 403));
}

#[test]
fn a_flood_of_denied_requests_leads_to_a_ban_whatever_the_path() {
    let canary = Canary::start();
    let i = with_bans(&canary, &[("denied_requests", "40")]);
    let denied = |client: &str, path: &str, status| (0..40).all(|_| fetch(&i, client, path) == status);
    assert!(denied(STRANGER, "/nowhere", 404) && denied(OTHER, "/api/downloads", 401));
    assert!(denied("192.0.2.9", "/favicon.ico", 404));
    for client in [STRANGER, OTHER, "192.0.2.9"] {
        assert_eq!(knock(&i, client), 403, "{client}");
    }
    assert!(i.stderr().contains("banned 192.0.2.8 for 10m: 40 denied requests"), "{}", i.stderr());
    assert_eq!(knock(&i, "192.0.2.10"), 200);
    assert!(
        denied("192.0.2.10", "/nowhere", 404) && knock(&i, "192.0.2.10") == 200,
        "an authenticated client is spared"
    );
}

#[test]
fn a_link_opens_its_file_but_does_not_spare_its_user_from_a_ban() {
    let canary = Canary::start();
    let i = with_bans(&canary, &[("failed_credentials", "2")]);
    let link = i.command(&["link", "create", "/api/stream/a.mp4"])["url"].as_str().unwrap().to_owned();
    let target = format!("/api/stream/a.mp4?{}", link.split_once('?').unwrap().1);
    assert_eq!(fetch(&i, STRANGER, &target), 200);
    assert_eq!((guess(&i, STRANGER), guess(&i, STRANGER), fetch(&i, STRANGER, &target)), (401, 401, 403));
}

#[test]
fn zero_means_no_limit() {
    let canary = Canary::start();
    let i = with_bans(&canary, &[("failed_credentials", "0"), ("forbidden_paths", "0"), ("denied_requests", "0")]);
    assert!((0..15).all(|_| guess(&i, STRANGER) == 401));
    assert!((0..25).all(|n| fetch(&i, STRANGER, &format!("/{n}")) == 404));
    assert_eq!(knock(&i, STRANGER), 200);
}

#[test]
fn guesses_outside_the_window_do_not_count() {
    let canary = Canary::start();
    let i = with_bans(&canary, &[("failed_credentials", "2"), ("window", "\"1s\"")]);
    for _ in 0..3 {
        assert_eq!(guess(&i, STRANGER), 401);
        // The window is the subject.
        sleep(Duration::from_secs(1));
    }
    assert_eq!(knock(&i, STRANGER), 200);
}
