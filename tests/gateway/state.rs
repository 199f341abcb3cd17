//! State: commands change it while the gateway runs, and it survives a kill.

use std::{fs, os::unix::fs::PermissionsExt};

use sallyport_core::clock;

use crate::{
    canary::Canary,
    client::Request,
    instance::{Instance, eventually},
};

fn status(i: &Instance, key: &str) -> u16 {
    i.send(&Request::new("GET", "/api/downloads").key(key)).status
}

#[test]
fn new_and_revoked_keys_take_effect_immediately() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    for _ in 0..5 {
        let made = i.command(&["key", "create", "--note", "phone"]);
        let id = made["id"].as_str().unwrap();
        let key = made["key"].as_str().unwrap();
        assert_eq!(status(&i, key), 200);
        i.command(&["key", "revoke", id]);
        assert_eq!(status(&i, key), 401);
    }
    assert!(!i.output(&["key", "revoke", "nothing"]).status.success());
    assert!(!i.output(&["key", "create", "--user", "nobody"]).status.success());
    assert!(!i.output(&["key", "create", "--scope", "NOT A SCOPE"]).status.success());
}

#[test]
fn a_change_by_a_command_that_could_not_notify_the_gateway_is_still_noticed() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    fs::remove_file(i.path("data/control.sock")).unwrap();
    let key = i.new_key(&[]);
    eventually("the key", || (status(&i, &key) == 200).then_some(()));
}

#[test]
fn a_list_of_keys_contains_no_secrets_but_when_each_was_used() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    let made = i.command(&["key", "create", "--note", "phone", "--expires", "30d", "--scope", "media:read"]);
    assert_eq!(status(&i, made["key"].as_str().unwrap()), 403);
    let list = || i.command(&["key", "list"])["keys"].as_array().unwrap().clone();
    // The next change makes the gateway save when keys were used.
    i.new_key(&[]);
    let keys = list();
    let phone = keys.iter().find(|k| k["note"] == "phone").unwrap();
    assert_eq!((&phone["user"], &phone["scopes"]), (&"admin".into(), &"media:read".into()));
    assert!(phone["expires"].is_string() && phone["last_used"].is_string(), "{phone}");
    let text =
        serde_json::to_string(&keys).unwrap() + &String::from_utf8_lossy(&fs::read(i.path("data/state.db")).unwrap());
    assert!(
        !text.contains(made["key"].as_str().unwrap())
            && !text.contains(made["key"].as_str().unwrap().rsplit_once('_').unwrap().1)
    );
}

#[test]
fn after_a_kill_keys_tokens_and_links_are_as_they_were() {
    let canary = Canary::start();
    let mut i = Instance::start(&canary);
    let key = i.new_key(&[]);
    let token = i.new_token(&[]);
    let gone = i.command(&["key", "create"]);
    i.command(&["key", "revoke", gone["id"].as_str().unwrap()]);
    let link = |i: &Instance| i.command(&["link", "create", "/api/stream/a.mp4"]);
    let kept = link(&i);
    let revoked = link(&i);
    i.command(&["link", "revoke", revoked["id"].as_str().unwrap()]);
    for _ in 0..2 {
        i.kill();
        i.start_role("gateway");
        assert_eq!(status(&i, &key), 200);
        assert_eq!(status(&i, gone["key"].as_str().unwrap()), 401);
        assert_eq!(i.send(&Request::new("GET", "/api/downloads").bearer(&token)).status, 200);
        let open = |link: &serde_json::Value| {
            let target = link["url"].as_str().unwrap().split_once("/api").unwrap().1;
            i.send(&Request::new("GET", &format!("/api{target}"))).status
        };
        assert_eq!((open(&kept), open(&revoked)), (200, 410));
    }
}

#[test]
fn secrets_that_others_can_read_prevent_startup() {
    let i = Instance::made(&[]);
    let refused = |what: &str| {
        let output = i.spawn("gateway", &[]).wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let check = i.output(&["check"]);
        assert!(!check.status.success());
        let said = i.stderr();
        assert!(said.contains(what), "{said}");
        assert!(String::from_utf8_lossy(&check.stdout).contains(what));
    };
    let jwt = i.path("data/secrets/jwt.key");
    fs::set_permissions(&jwt, fs::Permissions::from_mode(0o644)).unwrap();
    refused("chmod 600");
    fs::set_permissions(&jwt, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&jwt, "").unwrap();
    refused("is empty");
    fs::write(&jwt, "short").unwrap();
    let output = i.spawn("gateway", &[]).wait_with_output().unwrap();
    assert!(!output.status.success() && i.stderr().contains("too short"));
}

#[test]
fn the_token_secret_comes_from_the_variable_if_there_is_no_file() {
    let canary = Canary::start();
    let mut i = Instance::made(&["--app", "worker", "--upstream", &canary.address.to_string()]);
    fs::remove_file(i.path("data/secrets/jwt.key")).unwrap();
    let output = i.spawn("gateway", &[("JWT_SECRET_KEY", "short")]).wait_with_output().unwrap();
    assert!(!output.status.success() && i.stderr().contains("JWT_SECRET_KEY"));
    let secret = "from the environment, and long enough";
    let mut child = i.spawn("gateway", &[("JWT_SECRET_KEY", secret)]);
    eventually("the gateway", || std::net::TcpStream::connect(i.tls).ok());
    let claims = serde_json::json!({"sub": "admin", "scope": "*", "exp": clock::unix_now() + 60});
    let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
    let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap();
    let get = Request::new("GET", "/api/downloads").bearer(&token);
    assert_eq!(i.send(&get).status, 200);
    assert!(!i.path("data/secrets/jwt.key").exists(), "a secret from the environment is not saved");
    child.kill().unwrap();
    child.wait().unwrap();
    i.start_role("gateway");
    assert_eq!(i.send(&get).status, 401, "without the variable a new secret is created");
    assert_eq!(fs::metadata(i.path("data/secrets/jwt.key")).unwrap().permissions().mode() & 0o777, 0o600);
}
