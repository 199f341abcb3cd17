//! Reload: atomic, and noticed only by clients that request what has changed.

use std::{
    fs,
    io::{Read, Write},
    process::Command,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::{
    canary::Canary,
    client::{Request, connect},
    instance::{Instance, eventually},
};

const POLICY: &str = "[[route]]\nname = \"one\"\nmethods = [\"GET\"]\npath = \"/one\"\ncredentials = []\nanonymous = true\nrates = [{ limit = \"3/hour\", by = \"address\" }]\n";
const SECOND: &str =
    "[[route]]\nname = \"two\"\nmethods = [\"GET\"]\npath = \"/two\"\ncredentials = []\nanonymous = true\n";

fn instance(canary: &Canary) -> Instance {
    Instance::with(&canary.address.to_string(), |i| {
        fs::write(i.path("policies/mine.toml"), POLICY).unwrap();
        i.replace("policy = \"worker\"", "policy = \"mine\"");
    })
}

fn status(i: &Instance, path: &str) -> u16 {
    i.send(&Request::new("GET", path)).status
}

fn hang_up(i: &Instance) {
    assert!(Command::new("kill").args(["-HUP", &i.pid().to_string()]).status().unwrap().success());
}

fn reloads(i: &Instance) -> usize {
    i.stderr().matches("configuration and policies were reloaded").count()
}

#[test]
fn a_changed_policy_takes_effect_soon_and_its_unchanged_rates_keep_their_counts() {
    let canary = Canary::start();
    let i = instance(&canary);
    assert_eq!((status(&i, "/one"), status(&i, "/one"), status(&i, "/two")), (200, 200, 404));
    fs::write(i.path("policies/mine.toml"), format!("{POLICY}{SECOND}")).unwrap();
    eventually("the second route", || (status(&i, "/two") == 200).then_some(()));
    assert_eq!((status(&i, "/one"), status(&i, "/one")), (200, 429), "the rate is unchanged and keeps its count");
    assert!(i.stderr().contains("the policy has changed"), "{}", i.stderr());
}

#[test]
fn new_rules_are_not_applied_while_other_state_cannot_be_read() {
    let canary = Canary::start();
    let i = instance(&canary);
    let keys = i.path("data/secrets/link.keys");
    let good = fs::read(&keys).unwrap();
    fs::write(&keys, "junk").unwrap();
    fs::write(i.path("policies/mine.toml"), format!("{POLICY}{SECOND}")).unwrap();
    eventually("a complaint", || i.stderr().contains("reload failed").then_some(()));
    assert_eq!(status(&i, "/two"), 404, "the current configuration stays in force");
    fs::write(&keys, good).unwrap();
    eventually("the second route", || (status(&i, "/two") == 200).then_some(()));
    assert_eq!(i.stderr().matches("reload failed").count(), 1, "it is reported only once");
}

#[test]
fn a_broken_file_changes_nothing_and_is_reported_with_its_location() {
    let canary = Canary::start();
    let i = instance(&canary);
    i.replace("trusted_proxies = [] ", "trusted_proxies = [\"127.0.0.0/8\"] ");
    fs::write(i.path("policies/mine.toml"), format!("{POLICY}\nnonsense = 1\n")).unwrap();
    eventually("a complaint", || i.stderr().contains("mine.toml:9:1").then_some(()));
    let forwarded = || i.send(&Request::new("GET", "/one").header("X-Forwarded-For", "192.0.2.7"));
    assert_eq!(
        i.log_line(&forwarded())["client_ip"],
        "127.0.0.1",
        "the configuration is not applied without the policy"
    );
    fs::write(i.path("policies/mine.toml"), POLICY).unwrap();
    eventually("the reload", || (reloads(&i) == 1).then_some(()));
    assert_eq!(i.log_line(&forwarded())["client_ip"], "192.0.2.7");
}

#[test]
fn sighup_logs_what_has_changed_and_what_needs_a_restart() {
    let canary = Canary::start();
    let i = instance(&canary);
    hang_up(&i);
    eventually("the reload", || (reloads(&i) == 1).then_some(()));
    i.replace("drain_timeout = \"10s\" ", "drain_timeout = \"3s\" ");
    i.replace("level = \"info\"", "level = \"debug\"");
    eventually("the next", || (reloads(&i) == 2).then_some(()));
    let log = i.stderr();
    let line =
        |what: &str| log.lines().find(|line| line.contains(what)).unwrap_or_else(|| panic!("{what}: {log}")).to_owned();
    assert!(line("gateway.drain_timeout").contains("a setting has changed"));
    assert!(line("log.level").contains("waits for a restart"));
}

#[test]
fn a_deleted_policy_file_leaves_its_policy_in_force() {
    let canary = Canary::start();
    let i = Instance::with(&canary.address.to_string(), |i| fs::write(i.path("policies/worker.toml"), POLICY).unwrap());
    fs::remove_file(i.path("policies/worker.toml")).unwrap();
    eventually("a complaint", || i.stderr().contains("the file is gone").then_some(()));
    assert_eq!((status(&i, "/one"), status(&i, "/api/downloads")), (200, 404), "not the built-in policy of its name");
    hang_up(&i);
    eventually("a second error", || (i.stderr().matches("the file is gone").count() == 2).then_some(()));
    assert_eq!(status(&i, "/api/downloads"), 404);
    fs::write(i.path("policies/worker.toml"), format!("{POLICY}{SECOND}")).unwrap();
    eventually("the second route", || (status(&i, "/two") == 200).then_some(()));
}

#[test]
fn a_file_that_is_being_written_is_not_read_until_it_stops_changing() {
    let canary = Canary::start();
    let i = instance(&canary);
    for n in 0..30 {
        fs::write(i.path("policies/mine.toml"), format!("{POLICY}{SECOND}# {n}\n")).unwrap();
        // The interval is the subject: the file changes more often than the gateway looks at it.
        thread::sleep(Duration::from_millis(150));
        assert_eq!(reloads(&i), 0, "{n}");
    }
    assert_eq!(status(&i, "/two"), 404);
    eventually("the reload", || (reloads(&i) == 1).then_some(()));
    assert_eq!(status(&i, "/two"), 200);
}

#[test]
fn a_deleted_secret_is_not_replaced_while_the_gateway_runs() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    let token = i.new_token(&[]);
    let jwt = i.path("data/secrets/jwt.key");
    fs::remove_file(&jwt).unwrap();
    hang_up(&i);
    eventually("a complaint", || i.stderr().contains("jwt.key: the file is gone").then_some(()));
    assert!(!jwt.exists(), "a new secret would invalidate every token");
    assert_eq!(i.send(&Request::new("GET", "/api/downloads").bearer(&token)).status, 200);
}

#[test]
fn the_log_says_correctly_what_needs_a_restart() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    let order = || {
        let body = r#"{"url":"http://127.0.0.1:8999/a.mp4"}"#;
        i.send(&Request::new("POST", "/api/download").key(i.key()).json(body)).status
    };
    assert_eq!(order(), 422);
    i.replace("allow_private = []", "allow_private = [\"127.0.0.1:8999\"]");
    i.replace("ports = [80, 443]", "ports = [80]");
    i.replace("partial_sandbox = false", "partial_sandbox = true");
    i.replace("default_expiry = \"1h\"", "default_expiry = \"2h\"");
    eventually("the reload", || i.stderr().contains("links.default_expiry").then_some(()));
    let log = i.stderr();
    let said = |name: &str, what: &str| {
        let line = log.lines().find(|line| line.contains(name)).unwrap_or_else(|| panic!("{name}: {log}"));
        assert!(line.contains(what), "{line}");
    };
    said("egress.ports", "this change waits for a restart of the worker and the egress guard");
    said("insecure.partial_sandbox", "this change waits for a restart of the worker");
    said("worker.allow_private", "it applies now in the gateway's policies");
    said("links.default_expiry", "a setting has changed");
    assert_eq!(order(), 200, "as the log says");
}

#[test]
fn five_hundred_reloads_under_load_lose_no_request_and_leave_nothing_behind() {
    let canary = Canary::start();
    let i = Instance::with(&canary.address.to_string(), |i| {
        fs::write(i.path("policies/mine.toml"), SECOND).unwrap();
        i.replace("policy = \"worker\"", "policy = \"mine\"");
    });
    let over = AtomicBool::new(false);
    let served = AtomicUsize::new(0);
    thread::scope(|scope| {
        scope.spawn(|| fetch_on_one_connection(&i, &over, &served));
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                assert_eq!(status(&i, "/two"), 200);
            }
        });
        // Also if a later step fails, or the other threads would wait forever.
        let _over = SetOnDrop(&over);
        let mut after_a_hundred = (0, 0);
        for n in 1..=500 {
            fs::write(i.path("policies/mine.toml"), format!("{SECOND}# {n}\n")).unwrap();
            hang_up(&i);
            let begun = Instant::now();
            while reloads(&i) < n {
                assert!(begun.elapsed() < Duration::from_secs(40), "timed out waiting for reload {n}");
                thread::sleep(Duration::from_millis(5));
            }
            if n == 100 {
                after_a_hundred = (descriptors(&i), resident_kib(&i));
            }
        }
        let (descriptors_then, resident_then) = after_a_hundred;
        assert!(descriptors(&i) <= descriptors_then + 4, "{} descriptors, {descriptors_then} before", descriptors(&i));
        assert!(resident_kib(&i) < resident_then + 6_144, "{} KiB, {resident_then} before", resident_kib(&i));
    });
    assert!(served.load(Ordering::Relaxed) > 500);
}

struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn fetch_on_one_connection(i: &Instance, over: &AtomicBool, served: &AtomicUsize) {
    let mut stream = connect(i.tls, &i.authority(), rustls::ALL_VERSIONS).unwrap();
    let mut response = [0; 4096];
    while !over.load(Ordering::Relaxed) {
        stream.write_all(b"GET /two HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"canary") {
            let n = stream.read(&mut response).unwrap();
            assert!(n > 0, "the connection was closed");
            seen.extend_from_slice(&response[..n]);
        }
        assert!(seen.starts_with(b"HTTP/1.1 200 "), "{}", seen.escape_ascii());
        served.fetch_add(1, Ordering::Relaxed);
    }
}

fn descriptors(i: &Instance) -> usize {
    fs::read_dir(format!("/proc/{}/fd", i.pid())).unwrap().count()
}

fn resident_kib(i: &Instance) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", i.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
