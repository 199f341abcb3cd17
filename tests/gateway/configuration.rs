//! Configuration: faults are reported with line and column, unknown keys are errors, and each layer overrides the one below.

use std::fs;

use crate::{
    canary::Canary,
    client::Request,
    instance::{Instance, run},
};

fn faults(i: &Instance, change: &str) -> String {
    let output = i.output(&["check"]);
    assert_eq!(output.status.code(), Some(1), "{change} is not found");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    report["faults"].as_array().unwrap().iter().map(|f| f.as_str().unwrap().to_owned()).collect::<Vec<_>>().join("\n")
}

/// Returns the line of `text` and a column: that of its value, of the first element of a list, or of an unknown key itself.
fn place_of(i: &Instance, text: &str) -> (usize, usize) {
    let config = fs::read_to_string(i.path("config.toml")).unwrap();
    let line = config.lines().position(|line| line.contains(text)).unwrap();
    let before = if text.starts_with("trusted_proxy ") { "" } else { text.split_once(" = ").unwrap().0 };
    let value = text.split_once(" = ").unwrap().1;
    let column =
        if before.is_empty() { 1 } else { before.len() + " = ".len() + usize::from(value.starts_with('[')) + 1 };
    (line + 1, column)
}

#[test]
fn the_configuration_of_init_is_valid_and_a_second_init_changes_nothing() {
    let i = Instance::made(&[]);
    assert_eq!(i.command(&["check"])["ok"], true);
    let before = fs::read(i.path("config.toml")).unwrap();
    let again = run(&["init", "--json", "--dir", i.dir.path().to_str().unwrap()]);
    assert_eq!(again.status.code(), Some(1));
    assert_eq!(fs::read(i.path("config.toml")).unwrap(), before);
    for key in ["url", "admin_user", "admin_password", "api_key", "config"] {
        assert!(i.made[key].is_string(), "{key}");
    }
}

#[test]
fn wrong_usage_and_failure_have_different_exit_codes() {
    assert_eq!(run(&["no-such-command"]).status.code(), Some(2));
    assert_eq!(run(&["key", "revoke"]).status.code(), Some(2));
    assert_eq!(run(&["check", "--config", "/nonexistent/config.toml"]).status.code(), Some(1));
}

#[test]
fn each_fault_is_reported_with_file_line_column_and_fix() {
    for (from, to, words) in [
        ("access_format = \"json\"", "access_format = \"xml\"", "combined"),
        ("drain_timeout = \"10s\"", "drain_timeout = \"soon\"", "write a number and a unit"),
        ("trusted_proxies = []", "trusted_proxy = []", "did you mean \"trusted_proxies\"?"),
        ("proxy_protocol = false", "proxy_protocol = true", "list the proxies"),
        ("leeway = \"30s\"", "leeway = \"61s\"", "at most \"60s\""),
        ("admin_listen = \"127.0.0.1:", "admin_listen = \"nowhere:", "address"),
        ("admin_listen = \"127.0.0.1:", "admin_listen = \"0.0.0.0:", "loopback"),
        ("upstream = \"127.0.0.1:8001\"", "upstream = \"example.com\"", "unix:/run/app.sock"),
        ("level = \"info\"", "level = \"verbose\"", "debug"),
        ("default_expiry = \"1h\"", "default_expiry = \"30d\"", "longer than max_expiry; lower it"),
        ("concurrent_downloads = 2", "concurrent_downloads = 0", "at least 1"),
        ("max_playlist = 200", "max_playlist = 0", "from 1 to 500"),
        ("max_playlist = 200", "max_playlist = 501", "from 1 to 500"),
        ("library_access = \"owner\"", "library_access = \"group\"", "put media_dir elsewhere"),
        ("allow_private = []", "allow_private = [\"nas\"]", "host and port"),
        ("cors_origins = []", "cors_origins = [\"*\"]", "origin"),
        ("policy = \"worker\"", "policy = \"nothing\"", "create it"),
        ("listen = \"127.0.0.1:8001\"", "listen = \"0.0.0.0:8001\"", "loopback"),
        ("mode = \"local-ca\"", "mode = \"files\"", "requires cert and key"),
        ("max_filesize = \"20GiB\"", "max_filesize = \"big\"", "not a size"),
        ("send_timeout = \"60s\"", "send_timeout = \"0s\"", "at least \"1s\""),
        ("pause_timeout = \"15m\"", "pause_timeout = \"59s\"", "shorter than send_timeout"),
    ] {
        let i = Instance::made(&[]);
        i.replace(from, to);
        let found = faults(&i, to);
        assert!(found.contains(words), "{to}: {found}");
        // A fault of two keys together is reported at their table.
        if !to.starts_with("mode") {
            let (line, column) = place_of(&i, to);
            assert!(found.contains(&format!("config.toml:{line}:{column}: ")), "{to} at {line}:{column}: {found}");
        }
        let started = i.spawn("gateway", &[]).wait().unwrap();
        assert_eq!(started.code(), Some(1), "{to}: startup finds it too");
    }
}

#[test]
fn a_policys_faults_are_reported_at_their_position() {
    for (from, to, words) in [
        ("methods = [\"POST\"]", "methods = [\"BREW\"]", "not a method"),
        ("path = \"/api/downloads\"", "path = \"/api/download\"\n# ", "route"),
        ("path = \"/api/info\"", "path = \"/.sallyport/x\"", "must not be under"),
        ("limit = \"5/minute\"", "limit = \"five\"", "not a rate"),
        ("scopes = [\"downloads:write\"]", "scope = [\"x\"]", "did you mean \"scopes\"?"),
        ("type = \"media-url\"", "type = \"text\", values = [\"x\"]", "values is only for one-of"),
        ("max_body = \"16KiB\"", "max_body = \"1MiB\"", "64KiB"),
        ("link_object = \"id\"", "", "offlinetube-link"),
        ("link_also = \"stream.mp4\"", "link_also = \"video.mp4\"", "a route in the same folder"),
        ("statement = true", "statement = false", "[upstream] statement"),
        ("statement = true", "statement = false\n[upstream.limits]\nmax_filesize = \"1GiB\"\n# ", "require statement"),
        ("statement = true", "statement = true\n[upstream.limits]\nmax_filesize = \"0B\"\n# ", "keep nothing"),
        (
            "statement = true",
            "statement = true\n[upstream.limits]\nwaiting_downloads = 0\n# ",
            "an integer of at least 1, not 0",
        ),
        (
            "\"link\"]\nscopes = [\"media:read\"]\nrates",
            "\"jwt\"]\nscopes = [\"media:read\"]\nrates",
            "the credential \"link\"",
        ),
        ("scopes = [\"media:read\"]\nrates", "scopes = []\nrates", "the same scopes"),
        (
            "credentials = [\"api-key\", \"jwt\", \"client-certificate\"]",
            "credentials = []",
            "either accepts credentials or is anonymous",
        ),
        ("origins = []", "origins = [\"*\"]", "not an origin"),
    ] {
        let i = Instance::made(&[]);
        i.replace_in("policies/worker.toml", from, to);
        if to.starts_with("path = \"/api/download\"") {
            i.replace_in("policies/worker.toml", "methods = [\"GET\"]", "methods = [\"POST\"]");
        }
        let found = faults(&i, to);
        assert!(found.contains(words) && found.contains("worker.toml:"), "{to}: {found}");
    }
}

#[test]
fn the_environment_overrides_the_file() {
    let canary = Canary::start();
    let i = Instance::made(&["--app", "worker", "--upstream", &canary.address.to_string()]);
    let elsewhere = crate::instance::free_addresses::<1>()[0];
    let listen = format!("[\"{elsewhere}\"]");
    let mut child =
        i.spawn("gateway", &[("SALLYPORT_GATEWAY__LISTEN", &listen), ("SALLYPORT_LOG__ACCESS", "elsewhere.log")]);
    crate::instance::eventually("the other address", || std::net::TcpStream::connect(elsewhere).ok());
    assert!(i.path("elsewhere.log").exists());
    child.kill().unwrap();
    child.wait().unwrap();
    let refused = i.spawn("gateway", &[("SALLYPORT_GATEWAY__LISTENN", &listen)]).wait().unwrap();
    assert_eq!(refused.code(), Some(1), "an unknown key is an error there too");
}

#[test]
fn the_combined_format_has_one_line_per_request() {
    let canary = Canary::start();
    let i = Instance::with(&canary.address.to_string(), |i| {
        i.replace("access_format = \"json\"", "access_format = \"combined\"");
    });
    i.send(&Request::new("GET", "/api/stream/a%22b?secret=1").key(i.key()).header("User-Agent", "x\"y"));
    let log = crate::instance::eventually("the line", || {
        fs::read_to_string(i.path("data/access.log")).ok().filter(|log| log.ends_with('\n'))
    });
    assert!(
        log.contains(" - admin [") && log.contains("\"GET /api/stream/a%22b HTTP/1.1\" 200 6 \"-\" \"x\\\"y\""),
        "{log}"
    );
}

#[test]
fn init_for_an_existing_application_configures_it_and_its_domain() {
    let i = Instance::made(&["--app", "worker", "--upstream", "127.0.0.1:9", "--domain", "home.example"]);
    assert_eq!(i.made["url"], "https://home.example:8443");
    let text = fs::read_to_string(i.path("config.toml")).unwrap();
    assert!(text.contains("upstream = \"127.0.0.1:9\"") && text.contains("names = [\"home.example\"]"));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let output = run(&["init", "--dir", path, "--app", "nothing", "--upstream", "127.0.0.1:9"]);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn an_app_gets_the_errors_and_the_path_parameters_that_its_policy_asks_for() {
    let canary = Canary::start();
    let i = Instance::with(&canary.address.to_string(), |i| {
        i.replace_in(
            "policies/worker.toml",
            "[upstream]",
            "errors = \"fastapi\"\npath_parameters = true\n\n[upstream]",
        );
    });
    let denied = i.send(&Request::new("GET", "/api/downloads"));
    assert_eq!((denied.status, denied.body.as_slice()), (401, br#"{"detail":"Not authenticated"}"#.as_slice()));
    assert_eq!(denied.header("content-type"), Some("application/json"));
    assert_eq!(i.get("/api/stream/a;v=1").status, 200);
    assert_eq!(i.get("/api/stream/..;v=1").status, 400);
}

#[test]
fn startup_and_check_refuse_the_same_secrets() {
    for (file, text) in [("link.keys", "not a key"), ("worker.key", "short"), ("jwt.key", "short")] {
        let i = Instance::made(&[]);
        fs::write(i.path("data/secrets").join(file), text).unwrap();
        assert!(!faults(&i, file).is_empty());
        assert_eq!(i.spawn("gateway", &[]).wait().unwrap().code(), Some(1), "{file}");
    }
}

#[test]
fn an_init_that_failed_can_be_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let policy = dir.path().join("policies/mine.toml");
    fs::create_dir(dir.path().join("policies")).unwrap();
    let init = || run(&["init", "--dir", dir.path().to_str().unwrap(), "--app", "mine", "--upstream", "127.0.0.1:9"]);
    fs::write(&policy, "routes = 1").unwrap();
    assert_eq!(init().status.code(), Some(1));
    fs::write(&policy, "[[route]]\nname = \"all\"\nmethods = [\"GET\"]\npath = \"/\"\n").unwrap();
    assert_eq!(init().status.code(), Some(0));
}

#[test]
fn a_public_url_has_only_parts_that_links_can_have() {
    let i = Instance::made(&[]);
    let written = |url: &str| format!("public_url = \"{url}\"\nlisten = [");
    i.replace("listen = [", &written("https://home.example.com:443"));
    assert_eq!(i.command(&["check"])["ok"], true);
    let mut last = "https://home.example.com:443".to_owned();
    for url in [
        "http://home.example.com",
        "https://ana@home.example.com",
        "https://ana:secret@home.example.com",
        "https://:secret@home.example.com",
        "https://home.example.com/door",
        "https://home.example.com/?a=b",
        "https://home.example.com/?",
        "https://home.example.com/#top",
        "https://",
        "home.example.com",
    ] {
        i.replace(&format!("public_url = \"{last}\""), &format!("public_url = \"{url}\""));
        let found = faults(&i, url);
        assert!(found.contains("config.toml:") && !found.contains('\n'), "{url}: {found}");
        url.clone_into(&mut last);
    }
}

#[test]
fn links_begin_with_the_public_url() {
    let i = Instance::made(&[]);
    i.replace("listen = [", "public_url = \"https://home.example.com:4443\"\nlisten = [");
    let link = i.command(&["link", "create", "/api/stream/x"]);
    assert!(link["url"].as_str().unwrap().starts_with("https://home.example.com:4443/api/stream/x?"), "{link}");
}

#[test]
fn plaintext_requests_are_redirected_to_the_port_of_the_public_url() {
    let canary = Canary::start();
    let i = Instance::with(&canary.address.to_string(), |i| {
        i.replace("listen = [", "public_url = \"https://home.example.com:4443\"\nlisten = [");
    });
    let response = crate::client::send_plain(i.plain, b"GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(response.header("location"), Some("https://localhost:4443/a"));
}

#[test]
fn policies_are_read_from_policies_dir() {
    let canary = Canary::start();
    let policy =
        "[[route]]\nname = \"all\"\nmethods = [\"GET\"]\npath = \"/elsewhere\"\ncredentials = []\nanonymous = true\n";
    let i = Instance::with(&canary.address.to_string(), |i| {
        fs::create_dir(i.path("other")).unwrap();
        fs::write(i.path("other/worker.toml"), policy).unwrap();
        i.replace("policies_dir = \"policies\"", "policies_dir = \"other\"");
    });
    assert_eq!(i.send(&Request::new("GET", "/elsewhere")).status, 200);
    assert_eq!(i.get("/api/downloads").status, 404, "the policy in policies/ is not read");
}
