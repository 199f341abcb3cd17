//! Configuration: faults are found with line and column, unknown keys are errors, and each layer overrides the one below.

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

fn line_of(i: &Instance, file: &str, text: &str) -> usize {
    fs::read_to_string(i.path(file)).unwrap().lines().position(|line| line.contains(text)).unwrap() + 1
}

#[test]
fn what_init_writes_is_right_and_a_second_init_changes_nothing() {
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
fn wrong_usage_is_told_from_failure() {
    assert_eq!(run(&["no-such-command"]).status.code(), Some(2));
    assert_eq!(run(&["key", "revoke"]).status.code(), Some(2));
    assert_eq!(run(&["check", "--config", "/nonexistent/config.toml"]).status.code(), Some(1));
}

#[test]
fn each_fault_is_named_with_file_line_column_and_its_mend() {
    for (from, to, words) in [
        ("access_format = \"json\"", "access_format = \"xml\"", "combined"),
        ("drain_timeout = \"10s\"", "drain_timeout = \"soon\"", "write a number and a unit"),
        ("trusted_proxies = []", "trusted_proxy = []", "unknown field"),
        ("leeway = \"30s\"", "leeway = \"61s\"", "at most \"60s\""),
        ("admin_listen = \"127.0.0.1:", "admin_listen = \"nowhere:", "address"),
        ("upstream = \"127.0.0.1:8001\"", "upstream = \"example.com\"", "unix:/run/app.sock"),
        ("level = \"info\"", "level = \"verbose\"", "debug"),
        ("default_expiry = \"1h\"", "default_expiry = \"30d\"", "make it shorter"),
        ("concurrent_downloads = 2", "concurrent_downloads = 0", "at least 1"),
        ("allow_private = []", "allow_private = [\"nas\"]", "host and port"),
        ("cors_origins = []", "cors_origins = [\"*\"]", "origin"),
        ("policy = \"worker\"", "policy = \"nothing\"", "write it"),
        ("listen = \"127.0.0.1:8001\"", "listen = \"0.0.0.0:8001\"", "loopback"),
        ("mode = \"local-ca\"", "mode = \"files\"", "needs cert and key"),
        ("max_filesize = \"20GiB\"", "max_filesize = \"big\"", "not a size"),
    ] {
        let i = Instance::made(&[]);
        i.replace(from, to);
        let found = faults(&i, to);
        assert!(found.contains(words), "{to}: {found}");
        // What concerns a policy is told at the policy.
        if !to.starts_with("cors") && !to.starts_with("policy") {
            let line = line_of(&i, "config.toml", to.split(" = ").next().unwrap());
            let place = if to.starts_with("mode") {
                format!("config.toml:{}:", line - 1)
            } else {
                format!("config.toml:{line}:")
            };
            let lines: Vec<_> = fs::read_to_string(i.path("config.toml"))
                .unwrap()
                .lines()
                .enumerate()
                .filter(|(_, l)| l.contains(to))
                .map(|(n, _)| format!("config.toml:{}:", n + 1))
                .collect();
            assert!(found.contains(&place) || lines.iter().any(|l| found.contains(l)), "{to} at {place}: {found}");
        }
        let started = i.spawn("gateway", &[]).wait().unwrap();
        assert_eq!(started.code(), Some(1), "{to}: a start finds it as well");
    }
}

#[test]
fn a_policys_faults_are_found_at_their_place() {
    for (from, to, words) in [
        ("methods = [\"POST\"]", "methods = [\"BREW\"]", "not a method"),
        ("path = \"/api/downloads\"", "path = \"/api/download\"\n# ", "route"),
        ("path = \"/api/info\"", "path = \"/.sallyport/x\"", "must not be under"),
        ("limit = \"5/minute\"", "limit = \"five\"", "not a rate"),
        ("scopes = [\"downloads:write\"]", "scope = [\"x\"]", "unknown field"),
        ("type = \"media-url\"", "type = \"text\", values = [\"x\"]", "values go with one-of"),
        ("max_body = \"16KiB\"", "max_body = \"1MiB\"", "64KiB"),
        ("link_object = \"id\"", "", "offlinetube-link"),
        ("credentials = [\"api-key\", \"jwt\"]", "credentials = []", "either takes credentials or is anonymous"),
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
    assert_eq!(refused.code(), Some(1), "an unknown key is an error there, too");
}

#[test]
fn the_combined_format_is_one_line_a_request() {
    let canary = Canary::start();
    let i = Instance::with(&canary.address.to_string(), |i| {
        i.replace("access_format = \"json\"", "access_format = \"combined\"")
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
fn init_for_an_application_that_is_there_already_names_it_and_its_domain() {
    let i = Instance::made(&["--app", "worker", "--upstream", "127.0.0.1:9", "--domain", "home.example"]);
    assert_eq!(i.made["url"], "https://home.example:8443");
    let text = fs::read_to_string(i.path("config.toml")).unwrap();
    assert!(text.contains("upstream = \"127.0.0.1:9\"") && text.contains("names = [\"home.example\"]"));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let output = run(&["init", "--dir", path, "--app", "nothing", "--upstream", "127.0.0.1:9"]);
    assert_eq!(output.status.code(), Some(1));
}
