//! Authentication: every kind of credential, and every way of not having one.

use std::fs;

use data_encoding::BASE64URL_NOPAD as B64;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use sallyport_core::clock;
use serde_json::json;

use crate::{canary::Canary, client::Request, instance::Instance};

const PATH: &str = "/api/downloads";

fn refused(instance: &Instance, request: &Request, status: u16, code: &str) {
    let response = instance.send(request);
    assert_eq!((response.status, response.code().as_str()), (status, code), "{request:?}");
    assert_eq!(response.header("www-authenticate").is_some(), status == 401, "{request:?}");
    assert_eq!(response.header("content-type"), Some("application/problem+json"));
    assert_eq!(response.json()["instance"], response.header("x-request-id").unwrap());
}

#[test]
fn nobody_gets_in_without_a_valid_credential() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    let get = || Request::new("GET", PATH);
    refused(&i, &get(), 401, "not_authenticated");
    refused(&i, &get().key("sp_wrong"), 401, "bad_credential");
    refused(&i, &get().key(""), 401, "bad_credential");
    let other = Instance::made(&[]);
    refused(&i, &get().key(other.key()), 401, "bad_credential");
    refused(&i, &get().key(&format!("{}x", i.key())), 401, "bad_credential");
    refused(&i, &get().header("Authorization", "Digest x"), 401, "bad_credential");
    refused(&i, &get().header("Authorization", "Basic eDp5"), 401, "bad_credential");
    refused(&i, &get().key(i.key()).key(i.key()), 400, "two_credentials");
    refused(&i, &get().key(i.key()).bearer("a.b.c"), 400, "two_credentials");
    refused(&i, &Request::new("GET", "/api/nothing").key(i.key()), 404, "no_route");
    refused(&i, &Request::new("PUT", PATH), 404, "no_route");
    assert!(canary.seen().is_empty(), "{:?}", canary.seen());
}

#[test]
fn only_a_client_that_may_use_a_path_learns_its_allowed_methods() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    let narrow = i.new_key(&["--scope", "media:read"]);
    let other = Instance::made(&[]);
    let request = |method: &str, path: &str| Request::new(method, path);
    for (request, allow) in [
        (request("PUT", PATH).key(i.key()), "GET, HEAD"),
        (request("OPTIONS", PATH).key(i.key()), "GET, HEAD"),
        (request("POST", PATH).key(i.key()).json("{}"), "GET, HEAD"),
        (request("GET", "/api/download").key(i.key()), "POST"),
        (request("PATCH", "/api/downloads/1").key(i.key()), "DELETE"),
        (request("GET", "/.sallyport/links").key(i.key()), "POST"),
        (request("POST", "/"), "GET, HEAD"),
    ] {
        let response = i.send(&request);
        let seen = (response.status, response.code(), response.header("allow"));
        assert_eq!(seen, (405, "method_not_allowed".to_owned(), Some(allow)), "{request:?}");
    }
    for request in [
        request("PUT", PATH),
        request("PUT", PATH).key("sp_wrong"),
        request("PUT", PATH).key(other.key()),
        request("PUT", PATH).key(&narrow),
        request("PUT", PATH).key(i.key()).bearer("a.b.c"),
        request("GET", "/api/download"),
        request("PUT", "/nowhere").key(i.key()),
    ] {
        refused(&i, &request, 404, "no_route");
        assert_eq!(i.send(&request).header("allow"), None, "{request:?}");
    }
    assert!(canary.seen().is_empty(), "{:?}", canary.seen());
}

#[test]
fn a_denied_address_does_not_learn_a_paths_methods() {
    let canary = Canary::start();
    let i = Instance::with(&canary.address.to_string(), |i| {
        let route = "[[route]]\nname = \"lan\"\nmethods = [\"POST\"]\npath = \"/lan\"\n";
        let policy = format!("{route}anonymous = true\ncredentials = []\nallow_from = [\"192.0.2.0/24\"]\n");
        fs::write(i.path("policies/worker.toml"), policy).unwrap();
    });
    refused(&i, &Request::new("POST", "/lan"), 403, "address_denied");
    refused(&i, &Request::new("GET", "/lan"), 404, "no_route");
}

#[test]
fn no_unusual_form_of_a_request_bypasses_authentication() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    let shapes = [
        Request::new("HEAD", PATH),
        Request::new("OPTIONS", PATH),
        Request::new("GET", &format!("https://localhost{PATH}")),
        Request::new("GET", PATH).header("Upgrade", "websocket").header("Connection", "Upgrade"),
        Request::new("POST", "/api/download").json("{}"),
        Request::new("GET", &format!("{PATH}?sp_key=x")),
        Request::new("GET", PATH).header("Cookie", "__Host-sallyport=x"),
        Request::new("GET", PATH).header("Remote-User", "admin"),
        Request::new("GET", PATH).header("X-Sallyport-Statement", "v1.a.b"),
    ];
    for request in shapes {
        let status = i.send(&request).status;
        assert!((400..500).contains(&status), "{status}: {request:?}");
    }
    let old = format!("GET {PATH} HTTP/1.0\r\nHost: localhost\r\n\r\n");
    assert_eq!(i.send_bytes(old.as_bytes()).status, 401);
    assert!(canary.seen().is_empty(), "{:?}", canary.seen());
}

#[test]
fn a_key_is_accepted_in_each_of_its_three_places() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    let basic = data_encoding::BASE64.encode(format!("anybody:{}", i.key()).as_bytes());
    for request in [
        Request::new("GET", PATH).key(i.key()),
        Request::new("GET", PATH).bearer(i.key()),
        Request::new("GET", PATH).header("Authorization", &format!("Basic {basic}")),
    ] {
        assert_eq!(i.send(&request).status, 200);
    }
    for seen in canary.seen() {
        assert!(!seen.head.contains(i.key()) && !seen.head.contains(&basic), "the credential ends at the gateway");
        assert_eq!(seen.header("remote-user"), ["admin"]);
    }
}

#[test]
fn a_key_is_limited_to_its_scopes_until_it_expires() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    let reader = i.new_key(&["--scope", "downloads:read", "--note", "tv"]);
    assert_eq!(i.send(&Request::new("GET", PATH).key(&reader)).status, 200);
    let other = i.send(&Request::new("DELETE", "/api/downloads/x").key(&reader));
    assert_eq!((other.status, other.code().as_str()), (403, "insufficient_scope"));
    let short = i.new_key(&["--expires", "1s"]);
    // The lifetime is the subject: the application sees no request with this key, not even an early one.
    std::thread::sleep(std::time::Duration::from_millis(2_100));
    refused(&i, &Request::new("GET", PATH).key(&short), 401, "expired_credential");
    assert_eq!(canary.seen().len(), 1);
}

#[test]
fn an_issued_token_is_accepted_and_a_tampered_expired_or_foreign_one_is_not() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    let get = |token: &str| Request::new("GET", PATH).bearer(token);
    let token = i.new_token(&["--scope", "downloads:read"]);
    assert_eq!(i.send(&get(&token)).status, 200);
    let secret = fs::read(i.path("data/secrets/jwt.key")).unwrap();
    let sign = |alg, key: &[u8], claims: serde_json::Value| {
        jsonwebtoken::encode(&Header::new(alg), &claims, &EncodingKey::from_secret(key)).unwrap()
    };
    let good = json!({"sub": "admin", "scope": "*", "exp": clock::unix_now() + 60});
    assert_eq!(i.send(&get(&sign(Algorithm::HS256, &secret, good.clone()))).status, 200);
    let arrived = canary.seen().len();

    let none = format!("{}.{}.", B64.encode(br#"{"alg":"none"}"#), B64.encode(good.to_string().as_bytes()));
    refused(&i, &get(&none), 401, "bad_credential");
    refused(
        &i,
        &get(&sign(Algorithm::HS256, b"another secret, long enough by far", good.clone())),
        401,
        "bad_credential",
    );
    refused(&i, &get(&sign(Algorithm::HS512, &secret, good)), 401, "bad_credential");
    let expired = json!({"sub": "admin", "scope": "*", "exp": clock::unix_now() - 120});
    refused(&i, &get(&sign(Algorithm::HS256, &secret, expired)), 401, "expired_credential");
    let endless = json!({"sub": "admin", "scope": "*"});
    refused(&i, &get(&sign(Algorithm::HS256, &secret, endless)), 401, "bad_credential");
    refused(&i, &get(&format!("{token}x")), 401, "bad_credential");
    let unscoped = json!({"sub": "admin", "exp": clock::unix_now() + 60});
    refused_scope(&i, &get(&sign(Algorithm::HS256, &secret, unscoped)));
    assert_eq!(canary.seen().len(), arrived);
}

fn refused_scope(instance: &Instance, request: &Request) {
    let response = instance.send(request);
    assert_eq!((response.status, response.code().as_str()), (403, "insufficient_scope"));
    assert!(response.header("www-authenticate").unwrap().contains("insufficient_scope"));
}

#[test]
fn an_imported_key_works_like_one_that_was_created_here() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    let key = "the-key-that-every-phone-here-has-already-2024";
    let config = i.path("config.toml");
    let import = |key: &str| {
        let mut command = crate::instance::program();
        command
            .args(["key", "create", "--json", "--import-stdin", "--scope", "downloads:read", "--config"])
            .arg(&config);
        let mut child =
            command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), key.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    refused(&i, &Request::new("GET", PATH).key(key), 401, "bad_credential");
    let made: serde_json::Value = serde_json::from_slice(&import(key).stdout).unwrap();
    assert_eq!(i.send(&Request::new("GET", PATH).key(key)).status, 200);
    assert_eq!(i.send(&Request::new("DELETE", "/api/downloads/x").key(key)).status, 403);
    refused(&i, &Request::new("GET", PATH).key(&key[1..]), 401, "bad_credential");
    assert!(!import(key).status.success(), "the same key twice");
    assert!(!import("too short").status.success());
    let other = Instance::made(&[]);
    assert!(import(other.key()).status.success());
    assert_eq!(
        i.send(&Request::new("GET", PATH).key(other.key())).status,
        200,
        "a key of another instance keeps working"
    );
    i.command(&["key", "revoke", made["id"].as_str().unwrap()]);
    refused(&i, &Request::new("GET", PATH).key(key), 401, "bad_credential");
}

#[test]
fn a_header_that_the_policy_leaves_to_the_app_is_not_a_credential_and_arrives() {
    let canary = Canary::start();
    let i = Instance::with(&canary.address.to_string(), |i| {
        i.replace_in(
            "policies/worker.toml",
            "path = \"/api/search\"",
            "path = \"/api/search\"\napp_headers = [\"authorization\"]",
        );
    });
    let get = |path: &str| Request::new("GET", path).key(i.key()).header("Authorization", "cGxhaW4=");
    assert_eq!(i.send(&get("/api/search?q=x")).status, 200);
    assert_eq!(canary.only().header("authorization"), ["cGxhaW4="]);
    assert!(canary.only().header("x-api-key").is_empty());
    refused(&i, &Request::new("GET", "/api/search?q=x").bearer(i.key()), 401, "not_authenticated");
    let both = Request::new("GET", "/api/trending").key(i.key()).bearer("a.b.c");
    assert_eq!(i.send(&both).status, 400, "elsewhere it is a second credential");
}

fn challenges(i: &Instance, request: &Request) -> Vec<String> {
    i.send(request).headers("www-authenticate").into_iter().map(str::to_owned).collect()
}

#[test]
fn programs_are_offered_basic_and_pages_in_browsers_only_if_the_policy_says_so() {
    const BEARER: &str = "Bearer realm=\"sallyport\"";
    const BASIC: &str = "Basic realm=\"sallyport\", charset=\"UTF-8\"";
    let canary = Canary::start();
    let get = || Request::new("GET", PATH);
    let of_browser = || get().header("Sec-Fetch-Mode", "cors");
    let told = |setting: &str| {
        let i = Instance::with(&canary.address.to_string(), |i| {
            i.replace_in("policies/worker.toml", "[upstream]", &format!("{setting}\n[upstream]"));
        });
        [challenges(&i, &get()), challenges(&i, &of_browser())]
    };
    assert_eq!(told(""), [vec![BEARER, BASIC], vec![BEARER]]);
    assert_eq!(told("basic_challenge = \"always\"\n"), [vec![BEARER, BASIC], vec![BEARER, BASIC]]);
    assert_eq!(told("basic_challenge = \"never\"\n"), [vec![BEARER], vec![BEARER]]);
    let i = Instance::with(&canary.address.to_string(), |i| {
        let path = "path = \"/api/search\"";
        i.replace_in("policies/worker.toml", path, &format!("{path}\ncredentials = [\"jwt\"]"));
        let path = "path = \"/api/trending\"";
        i.replace_in("policies/worker.toml", path, &format!("{path}\napp_headers = [\"authorization\"]"));
    });
    for path in ["/api/search", "/api/trending"] {
        assert_eq!(challenges(&i, &Request::new("GET", path)), [BEARER], "a password cannot be used there: {path}");
    }
    let narrow = i.new_key(&["--scope", "media:read"]);
    let known = challenges(&i, &get().key(&narrow));
    assert!(known.len() == 1 && known[0].contains("insufficient_scope"), "another password would not help: {known:?}");
    assert_eq!(challenges(&i, &get().key("sp_wrong")).len(), 2);
}

fn fetched(program: &str, i: &Instance, args: &[&str], user: &str) -> String {
    let url = format!("https://{user}localhost:{}{PATH}", i.tls.port());
    let output = std::process::Command::new(program).args(args).arg(url).env_remove("https_proxy").output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn curl_and_wget_send_a_key_as_a_password_once_they_are_challenged() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    let authority = i.authority();
    let authority = authority.to_str().unwrap();
    let resolve = format!("localhost:{}:127.0.0.1", i.tls.port());
    let key = format!("anybody:{}", i.key());
    for version in ["--http1.1", "--http2"] {
        let curl = ["-sS", "--cacert", authority, "--resolve", &resolve, version, "--anyauth", "-u"];
        assert_eq!(fetched("curl", &i, &[&curl[..], &[&key]].concat(), ""), "canary", "{version}");
        assert!(fetched("curl", &i, &[&curl[..], &["anybody:sp_wrong"]].concat(), "").contains("bad_credential"));
    }
    let ca = format!("--ca-certificate={authority}");
    assert_eq!(fetched("wget", &i, &["-q", "-O-", "-4", "--tries=1", &ca], &format!("{key}@")), "canary");
    assert_eq!(canary.seen().len(), 3);
    assert!(canary.seen().iter().all(|seen| seen.header("authorization").is_empty()), "the key ends here");
}
