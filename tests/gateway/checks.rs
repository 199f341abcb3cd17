//! `check`: tries everything that startup would, and reports every fault with its position and its fix, all at once.

use std::{
    fs,
    net::TcpListener,
    process::{Command, Output, Stdio},
};

use serde_json::Value;

use crate::{
    canary::Canary,
    client::Request,
    instance::{Instance, eventually, program},
    places,
    skips::skipped,
};

/// Runs a program without IPv6, as under a kernel that was booted with `ipv6.disable=1`.
const WITHOUT_IPV6: &str = include_str!("python/without_ipv6.py");

/// The policy of a custom application, with one route and nothing else.
const POLICY: &str = "[[route]]\nname = \"all\"\nmethods = [\"GET\"]\npath = \"/files\"\n";

struct Checked {
    output: Output,
    faults: Vec<String>,
    warnings: Vec<String>,
}

fn lines(report: &Value, name: &str) -> Vec<String> {
    report[name].as_array().unwrap().iter().map(|line| line.as_str().unwrap().to_owned()).collect()
}

fn report(output: Output) -> Checked {
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    let checked = Checked { faults: lines(&report, "faults"), warnings: lines(&report, "warnings"), output };
    assert_eq!(report["ok"], checked.faults.is_empty());
    assert_eq!(checked.output.status.code(), Some(i32::from(!checked.faults.is_empty())));
    for line in checked.faults.iter().chain(&checked.warnings) {
        for foreign in
            ["usize", "u16", "u32", "struct ", "os error", "Some(", "nonzero", "unknown field", "expected one of"]
        {
            assert!(!line.contains(foreign), "{foreign}: {line}");
        }
    }
    checked
}

fn check(i: &Instance) -> Checked {
    report(i.output(&["check"]))
}

fn check_in(i: &Instance, env: &[(&str, &str)]) -> Checked {
    let mut command = program();
    command.args(["check", "--json", "--config"]).arg(i.path("config.toml"));
    report(command.envs(env.iter().copied()).output().unwrap())
}

/// Asserts that there is exactly one fault, which contains all these words.
fn only(checked: &Checked, words: &[&str]) {
    let [fault] = &checked.faults[..] else { panic!("{words:?}: {:#?}", checked.faults) };
    for word in words {
        assert!(fault.contains(word), "{word}: {fault}");
    }
}

fn any(lines: &[String], words: &[&str]) {
    assert!(lines.iter().any(|line| words.iter().all(|word| line.contains(word))), "{words:?}: {lines:#?}");
}

/// Creates an instance in front of a custom application.
fn mine(upstream: &str) -> Instance {
    Instance::made_with_policy("mine", POLICY, upstream)
}

#[test]
fn all_faults_are_reported_together_with_their_positions_and_fixes() {
    let i = Instance::made(&[]);
    i.replace("trusted_proxies = []", "trusted_proxy = []");
    i.replace("max_requests = 5000", "max_requests = \"many\"");
    i.replace("level = \"info\"", "level = \"verbose\"");
    i.replace("concurrent_downloads = 2", "concurrent_downloads = 0");
    i.replace("access_format = \"json\"", "access_format = \"xml\"");
    i.replace_in("policies/worker.toml", "path = \"/api/downloads\"", "path = \"/api/*\"");
    i.replace_in("policies/worker.toml", "scopes = [\"downloads:write\"]", "scope = [\"downloads:write\"]");
    let found = check(&i).faults;
    for (key, words) in [
        ("gateway.trusted_proxy", "did you mean \"trusted_proxies\"?"),
        ("gateway.max_requests", "must be an integer of at least 0, not the string \"many\""),
        ("log.level", "write error, warn, info, debug or trace"),
        ("worker.concurrent_downloads", "at least 1"),
        ("log.access_format", "write \"json\" or \"combined\""),
        ("route[0].scope", "did you mean \"scopes\"?"),
        ("route[1].path", "{*rest}"),
    ] {
        let file = if key.starts_with("route") { "policies/worker.toml:" } else { "config.toml:" };
        any(&found, &[file, &format!(": {key}: "), words]);
    }
    let config = fs::read_to_string(i.path("config.toml")).unwrap();
    let line = config.lines().position(|line| line.contains("\"many\"")).unwrap() + 1;
    any(&found, &[&format!("config.toml:{line}:16: gateway.max_requests: ")]);
}

#[test]
fn hosts_and_apps_that_no_request_can_reach_are_refused() {
    for (hosts, words) in [
        ("\"https://home.example.com\"", "write only the host, \"home.example.com\""),
        ("\"home.example.com:8443\"", "write \"home.example.com\""),
        ("\"*.example.com\"", "list each host"),
    ] {
        let i = mine("127.0.0.1:9");
        i.replace("\nhosts = []", &format!("\nhosts = [{hosts}]"));
        only(&check(&i), &["config.toml:", "app[0].hosts[0]", words]);
        assert_eq!(i.spawn("gateway", &[]).wait().unwrap().code(), Some(1), "startup finds it too");
    }
    let second = "[[app]]\nname = \"b\"\npolicy = \"mine\"\nupstream = \"127.0.0.1:9\"\n";
    for (first, rest, key) in [
        ("hosts = []", "", "app[1].prefix"),
        ("hosts = []", "hosts = [\"b.example\"]\nprefix = \"/b\"", "app[1].hosts[0]"),
        ("hosts = [\"b.example\"]", "hosts = [\"a.example\", \"b.example\"]", "app[1].hosts[1]"),
    ] {
        let i = mine("127.0.0.1:9");
        i.replace("\nhosts = []", &format!("\n{first}"));
        i.replace("[insecure]", &format!("{second}{rest}\n[insecure]"));
        any(&check(&i).faults, &["config.toml:", key, "app \"mine\" comes before this one"]);
    }
}

#[test]
fn apps_that_could_not_answer_any_request_are_found() {
    let i = mine("127.0.0.1:9");
    i.replace("prefix = \"/\"", "prefix = \"/elsewhere\"");
    only(&check(&i), &["app[0].prefix", "no route of the policy \"mine\" is under /elsewhere"]);

    let i = Instance::made(&["--app", "worker", "--upstream", "127.0.0.1:9"]);
    only(
        &check(&i),
        &["app[0].upstream", "127.0.0.1:9 is not worker.listen (127.0.0.1:8001)", "use the same address in both"],
    );

    let i = mine("127.0.0.1:9");
    let text = fs::read_to_string(i.path("config.toml")).unwrap();
    let (before, rest) = text.split_once("[[app]]").unwrap();
    let (_, after) = rest.split_once("[insecure]").unwrap();
    fs::write(i.path("config.toml"), format!("{before}[insecure]{after}")).unwrap();
    only(&check(&i), &["config.toml: ", "there is no [[app]]"]);
    assert_eq!(i.spawn("up", &[]).wait().unwrap().code(), Some(1));
    assert!(i.stderr().contains("there is no [[app]]"), "{}", i.stderr());
}

#[test]
fn a_route_that_no_request_can_reach_is_found_in_the_policys_file() {
    for (route, words) in [
        ("path = \"/files/*\"", "route[1].path: a lone * matches only itself"),
        ("path = \"/files?all=1\"", "remove the query"),
        ("path = \"/files\"", "the route \"all\" already handles GET on this path"),
        ("path = \"/{a}{b}\"", "at most one {parameter}"),
        ("path = \"/{*rest}/x\"", "it must come last"),
    ] {
        let i = mine("127.0.0.1:9");
        let policy = format!("{POLICY}\n[[route]]\nname = \"second\"\nmethods = [\"GET\"]\n{route}\n");
        fs::write(i.path("policies/mine.toml"), policy).unwrap();
        only(&check(&i), &["policies/mine.toml:9:8: ", words]);
    }
    let i = mine("127.0.0.1:9");
    let both = POLICY.replace("/files", "/files/{id}")
        + "\n[[route]]\nname = \"second\"\nmethods = [\"POST\"]\npath = \"/files/{name}\"\n";
    fs::write(i.path("policies/mine.toml"), both).unwrap();
    only(&check(&i), &["route[1].path", "it matches the same requests as /files/{id}"]);
}

#[test]
fn a_body_rule_with_a_body_limit_of_zero_is_refused() {
    for (limit, words) in [("", "of [defaults] is 0"), ("max_body = \"0\"\n", "the max_body is 0")] {
        let i = mine("127.0.0.1:9");
        let body = "[route.body.fields]\na = { type = \"text\" }\n";
        let policy = format!("[defaults]\nmax_body = \"0\"\n{}{limit}{body}", POLICY.replace("GET", "POST"));
        fs::write(i.path("policies/mine.toml"), policy).unwrap();
        only(&check(&i), &["route[0].max_body", words, "16KiB"]);
    }
}

#[test]
fn a_fault_in_the_environment_is_reported_with_its_variable() {
    let i = mine("127.0.0.1:9");
    let checked = check_in(
        &i,
        &[
            ("SALLYPORT_GATEWAY__LISTENN", "[]"),
            ("SALLYPORT_GATEWAY__MAX_REQUESTS", "many"),
            ("SALLYPORT_LOG__LEVEL", "verbose"),
        ],
    );
    any(&checked.faults, &["SALLYPORT_GATEWAY__LISTENN: ", "did you mean \"listen\"?"]);
    any(&checked.faults, &["SALLYPORT_GATEWAY__MAX_REQUESTS: ", "an integer of at least 0"]);
    any(&checked.faults, &["SALLYPORT_LOG__LEVEL: log.level: ", "is not a level"]);
}

#[test]
fn variables_that_kubernetes_sets_for_a_service_of_our_name_are_ignored() {
    let canary = Canary::start();
    let env = [
        ("SALLYPORT_PORT", "tcp://10.96.0.7:8443"),
        ("SALLYPORT_SERVICE_HOST", "10.96.0.7"),
        ("SALLYPORT_SERVICE_PORT_HTTPS", "8443"),
        ("SALLYPORT_PORT_8443_TCP_ADDR", "10.96.0.7"),
    ];
    let mut i = mine(&canary.address.to_string());
    assert_eq!(check_in(&i, &env).faults, [""; 0]);
    let child = i.spawn("gateway", &env);
    i.adopt(child);
    eventually("the gateway", || std::net::TcpStream::connect(i.tls).ok());
    assert_eq!(i.get("/files").status, 200);
    only(&check_in(&i, &[("SALLYPORT_PORT", "8443")]), &["SALLYPORT_PORT: ", "unknown key"]);
}

#[test]
fn ports_in_use_by_others_are_reported_and_those_of_this_instance_are_not() {
    let canary = Canary::start();
    let mut i = mine(&canary.address.to_string());
    let taken = [i.tls, i.plain].map(|address| TcpListener::bind(address).unwrap());
    let checked = check(&i);
    assert_eq!(checked.faults.len(), 2, "{:#?}", checked.faults);
    any(&checked.faults, &["gateway.listen[0]", "is in use by another program", &format!("sport = :{}", i.tls.port())]);
    any(&checked.faults, &["gateway.http_listen[0]", "is in use by another program"]);
    assert_eq!(i.spawn("up", &[]).wait().unwrap().code(), Some(1));
    for key in ["gateway.listen[0]", "gateway.http_listen[0]"] {
        assert!(i.stderr().contains(key), "up reports both at once: {}", i.stderr());
    }
    drop(taken);
    assert_eq!(check(&i).faults, [""; 0]);
    i.start_role("gateway");
    assert_eq!(check(&i).faults, [""; 0], "a running instance passes the check");
    let i = mine("127.0.0.1:9");
    i.replace(&format!("http_listen = [\"{}\"]", i.plain), &format!("http_listen = [\"{}\"]", i.tls));
    only(&check(&i), &["gateway.http_listen[0]", "gateway.listen already uses port"]);
}

#[test]
fn a_port_below_1024_that_this_account_cannot_open_is_found() {
    let start = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap_or_default();
    if start.trim().parse::<u16>().is_ok_and(|start| start <= 443) {
        skipped("on this machine every account can open port 443");
        return;
    }
    let i = mine("127.0.0.1:9");
    i.replace(&format!("listen = [\"{}\"]", i.tls), "listen = [\"127.0.0.1:443\"]");
    let mut command = Command::new("setpriv");
    if rustix::process::geteuid().is_root() {
        command.arg("--bounding-set=-net_bind_service");
    }
    let output = command
        .arg(places::program())
        .args(["check", "--json", "--config"])
        .arg(i.path("config.toml"))
        .output()
        .unwrap();
    only(&report(output), &["gateway.listen[0]", "may not open port 443, which is below 1024", "8443"]);
}

#[test]
fn a_read_only_folder_is_reported_with_its_key_by_check_and_by_up() {
    let i = mine("127.0.0.1:9");
    i.replace("data_dir = \"data\"", "data_dir = \"config.toml/data\"");
    any(&check(&i).faults, &["config.toml:", "data_dir: ", "is not a folder"]);

    let i = mine("127.0.0.1:9");
    let mount = format!("mount --bind {0} {0} && mount -o remount,bind,ro {0}", i.dir.path().display());
    for role in ["check", "up"] {
        let script = format!(
            "{mount} && exec {} {role} --config {}",
            places::program().display(),
            i.path("config.toml").display()
        );
        let output = Command::new("unshare").args(["-rm", "sh", "-c", &script]).output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.code(), Some(1), "{role}: {said}");
        for words in ["data_dir: ", "read-only file system", &*i.path("data").to_string_lossy()] {
            assert!(said.contains(words), "{role}: {words}: {said}");
        }
        assert!(!said.contains("os error"), "{said}");
    }
}

#[test]
fn an_application_that_does_not_answer_yet_is_a_warning() {
    let [free] = crate::instance::free_addresses();
    let i = mine(&free.to_string());
    let checked = check(&i);
    assert_eq!(checked.faults, [""; 0]);
    any(&checked.warnings, &["app[0].upstream", "no application answers at", "start it"]);
    let text = String::from_utf8(checked.output.stdout).unwrap();
    assert!(text.contains("\"ok\":true"), "{text}");
}

#[test]
fn programs_that_downloads_need_are_run() {
    let i = Instance::made(&[]);
    for (name, text) in [("old", "#!/bin/sh\necho 2020.01.01\n"), ("broken", "#!/bin/sh\nexit 1\n")] {
        fs::write(i.path(name), text).unwrap();
        fs::set_permissions(i.path(name), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let [worker] = crate::instance::free_addresses::<1>();
    i.replace("listen = \"127.0.0.1:8001\"", &format!("listen = \"{worker}\""));
    i.replace("upstream = \"127.0.0.1:8001\"", &format!("upstream = \"{worker}\""));
    i.replace("ffmpeg = \"ffmpeg\"", "ffmpeg = \"no-such-ffmpeg\"");
    i.replace("js_runtime = \"deno\"", "js_runtime = \"./no-such-deno\"");
    let mut last = "yt-dlp";
    for (yt_dlp, words) in
        [("./old", "yt-dlp 2020.01.01 is too old"), ("./broken", "in the sandbox"), ("./missing", "was not found")]
    {
        i.replace(&format!("yt_dlp = \"{last}\""), &format!("yt_dlp = \"{yt_dlp}\""));
        let checked = check(&i);
        any(&checked.faults, &["worker.yt_dlp: ", words]);
        any(&checked.faults, &["worker.ffmpeg: no-such-ffmpeg was not found", "apt-get install ffmpeg"]);
        any(&checked.warnings, &["worker.js_runtime: ", "no-such-deno was not found"]);
        last = yt_dlp;
    }
    let gateway = report(i.output(&["check", "--role", "gateway"]));
    assert_eq!(gateway.faults, [""; 0], "a gateway by itself needs none of them");
    any(&gateway.warnings, &["app[0].upstream", &format!("no application answers at {worker}")]);
}

/// Creates a self-signed certificate that is valid from the year `from` to the year `to`.
fn certificate(from: i32, to: i32) -> (String, String, Vec<u8>, Vec<u8>) {
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(from, 1, 1);
    params.not_after = rcgen::date_time_ymd(to, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    let made = params.self_signed(&key).unwrap();
    (made.pem(), key.serialize_pem(), made.der().to_vec(), key.serialize_der())
}

fn with_files(cert: &[u8], key: &[u8]) -> Instance {
    let i = mine("127.0.0.1:9");
    fs::write(i.path("own.pem"), cert).unwrap();
    fs::write(i.path("own.key"), key).unwrap();
    i.replace("mode = \"local-ca\"", "mode = \"files\"\ncert = \"own.pem\"\nkey = \"own.key\"");
    i
}

#[test]
fn the_actual_type_of_a_wrong_certificate_file_is_reported() {
    let (cert, key, cert_der, key_der) = certificate(2020, 4000);
    let (other, other_key, ..) = certificate(2020, 4000);
    let cert = cert.as_bytes();
    let key = key.as_bytes();
    let bom = |bytes: &[u8]| [b"\xef\xbb\xbf", bytes].concat();
    let locked = b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nMA==\n-----END ENCRYPTED PRIVATE KEY-----\n";
    for (cert, key, at, words) in [
        (&cert_der[..], key, "tls.cert", "own.pem is DER, not PEM"),
        (cert, &key_der[..], "tls.key", "own.key is DER, not PEM"),
        (cert, &locked[..], "tls.key", "own.key is encrypted with a passphrase"),
        (&bom(cert), key, "tls.cert", "byte order mark"),
        (cert, &bom(key), "tls.key", "byte order mark"),
        (key, cert, "tls.cert", "swapped"),
        (&[other.as_bytes(), cert].concat(), key, "tls.cert", "wrong order"),
        (cert, other_key.as_bytes(), "tls.key", "is not the key of this certificate"),
        (b"", key, "tls.cert", "is empty"),
    ] {
        let i = with_files(cert, key);
        only(&check(&i), &["config.toml:", at, words]);
        assert_eq!(i.spawn("gateway", &[]).wait().unwrap().code(), Some(1), "{words}");
        assert!(i.stderr().contains(words), "startup reports the same: {}", i.stderr());
    }
    assert_eq!(check(&with_files(cert, key)).faults, [""; 0]);
}

#[test]
fn an_expired_or_early_certificate_is_found_and_logged_at_startup() {
    for (from, to, words) in [(2020, 2021, "expired on 2021-01-01"), (3990, 4000, "is not valid before 3990-01-01")] {
        let (cert, key, ..) = certificate(from, to);
        let mut i = with_files(cert.as_bytes(), key.as_bytes());
        only(&check(&i), &["tls.cert", words]);
        i.start_role("gateway");
        eventually("the log line", || i.stderr().contains(words).then_some(()));
    }
}

#[test]
fn without_ipv6_the_default_listens_on_ipv4_and_check_warns() {
    let canary = Canary::start();
    let mut i = mine(&canary.address.to_string());
    let every = format!("[::]:{}", i.tls.port());
    i.replace(&format!("listen = [\"{}\"]", i.tls), &format!("listen = [\"{every}\"]"));
    let without = |role: &str| {
        let mut command = Command::new("python3");
        command
            .args(["-c", WITHOUT_IPV6])
            .arg(places::program())
            .args([role, "--config"])
            .arg(i.path("config.toml"))
            .stdin(Stdio::null());
        command
    };
    let checked = report(without("check").arg("--json").output().unwrap());
    assert_eq!(checked.faults, [""; 0]);
    any(&checked.warnings, &["gateway.listen[0]", "IPv6 is disabled", &format!("0.0.0.0:{}", i.tls.port())]);
    let child = without("gateway").stderr(Stdio::null()).spawn().unwrap();
    i.adopt(child);
    eventually("the gateway", || std::net::TcpStream::connect(i.tls).ok());
    assert_eq!(i.send(&Request::new("GET", "/files").key(i.key())).status, 200);
}
