//! The systemd units: valid, with low exposure, and able to work under their own restrictions.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

#[path = "support/ports.rs"]
mod ports;
#[path = "support/skips.rs"]
mod skips;

use ports::free_addresses;
use skips::skipped;

const UNITS: [&str; 4] =
    ["sallyport-gateway.socket", "sallyport-gateway.service", "sallyport-worker.service", "sallyport-egress.service"];

const PROGRAM: &str = env!("CARGO_BIN_EXE_sallyport");

fn unit(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd").join(name)).unwrap()
}

fn run(program: &str, args: &[&str]) -> Output {
    Command::new(program).args(args).output().unwrap()
}

fn done(program: &str, args: &[&str]) -> String {
    let output = run(program, args);
    assert!(output.status.success(), "{program} {args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn each_unit_is_valid_and_has_an_exposure_of_at_most_1_5() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        skipped("systemd-analyze is not installed");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let paths = UNITS.map(|name| {
        fs::write(dir.path().join(name), unit(name).replace("/usr/local/bin/sallyport", PROGRAM)).unwrap();
        dir.path().join(name).to_str().unwrap().to_owned()
    });
    for path in &paths {
        let output = run("systemd-analyze", &["verify", path]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && !said.contains("sallyport"), "{said}");
    }
    for path in paths.iter().filter(|path| path.ends_with(".service")) {
        done("systemd-analyze", &["security", "--offline=true", "--threshold=15", "--no-pager", path]);
    }
}

#[test]
fn each_service_has_limits_as_a_whole() {
    for name in UNITS.iter().filter(|name| name.ends_with(".service")) {
        for limit in ["MemoryMax=", "CPUQuota=", "TasksMax="] {
            assert!(unit(name).lines().any(|line| line.starts_with(limit)), "{name}: {limit}");
        }
    }
}

#[test]
fn no_number_of_restarts_stops_a_unit_for_good() {
    for name in UNITS {
        assert!(unit(name).lines().any(|line| line == "StartLimitIntervalSec=0"), "{name}");
    }
    assert!(unit(UNITS[0]).lines().any(|line| line == "TriggerLimitIntervalSec=0"));
}

#[test]
fn the_guard_starts_before_the_worker_and_stops_after_it() {
    let worker = unit("sallyport-worker.service");
    let guard = unit("sallyport-egress.service");
    assert!(worker.lines().any(|line| line.starts_with("After=") && line.contains("sallyport-egress.service")));
    assert!(!guard.contains("sallyport-worker.service"));
}

#[test]
fn the_ports_of_the_socket_are_those_of_the_configuration() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("config.toml"), "").unwrap();
    let config = sallyport_core::config::load(&dir.path().join("config.toml")).unwrap();
    let configured: Vec<_> = config.listen.iter().chain(&config.http_listen).map(ToString::to_string).collect();
    let socket = unit("sallyport-gateway.socket");
    let opened: Vec<_> = socket.lines().filter_map(|line| line.strip_prefix("ListenStream=")).collect();
    assert_eq!(opened, configured);
}

/// The units, with other names and an account that every machine has, on a running systemd; removed on drop.
struct Staged {
    url: String,
    key: String,
}

const NAME: &str = "sallyport-test";

impl Staged {
    fn start() -> Self {
        let [tls, plain, admin] = free_addresses().map(|address| address.port());
        fs::copy(PROGRAM, format!("/usr/local/bin/{NAME}")).unwrap();
        let key = make_instance(tls, plain, admin);
        for name in UNITS {
            let unit = unit(name).replace("sallyport", NAME).replace("[::]:8443", &format!("127.0.0.1:{tls}"));
            let unit = unit.replace("[::]:8080", &format!("127.0.0.1:{plain}"));
            let account = |line: &str| match line.split_once('=') {
                Some(("User", _)) => "User=nobody\n".to_owned(),
                Some(("Group", _)) => "Group=nogroup\n".to_owned(),
                _ => format!("{line}\n"),
            };
            let text: String = unit.lines().map(account).collect();
            fs::write(Path::new("/run/systemd/system").join(name.replace("sallyport", NAME)), text).unwrap();
        }
        let staged = Self { url: format!("https://localhost:{tls}/api/downloads"), key };
        done("systemctl", &["daemon-reload"]);
        for name in [UNITS[3], UNITS[2], UNITS[0], UNITS[1]] {
            done("systemctl", &["start", &name.replace("sallyport", NAME)]);
        }
        staged
    }

    /// Returns the status of a request that the gateway forwards to the worker.
    fn fetch(&self) -> String {
        let authority = format!("/etc/{NAME}/certs/ca.pem");
        let key = format!("X-API-Key: {}", self.key);
        let args = ["-sS", "-m", "20", "-o", "/dev/null", "-w", "%{http_code}", "--cacert", &authority, "-H", &key];
        done("curl", &[&args[..], &[&self.url]].concat())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        for name in UNITS {
            let name = name.replace("sallyport", NAME);
            run("systemctl", &["stop", &name]);
            let _ = fs::remove_file(Path::new("/run/systemd/system").join(name));
        }
        run("systemctl", &["daemon-reload"]);
        for folder in folders() {
            let _ = fs::remove_dir_all(folder);
        }
        let _ = fs::remove_file(format!("/usr/local/bin/{NAME}"));
    }
}

fn folders() -> [PathBuf; 5] {
    let state = format!("/var/lib/{NAME}");
    let [worker, egress] = ["worker", "egress"].map(|role| format!("{state}-{role}"));
    [format!("/etc/{NAME}"), state, worker, format!("/var/log/{NAME}"), egress].map(PathBuf::from)
}

/// Creates an instance as docs/systemd.md describes; returns the administrator's key.
fn make_instance(tls: u16, plain: u16, admin: u16) -> String {
    let [etc, state, worker, log, _] = folders();
    let init =
        Command::new(PROGRAM).args(["init", "--json", "--dir"]).arg(&etc).env("SALLYPORT_DATA_DIR", &state).output();
    let made: serde_json::Value = serde_json::from_slice(&init.unwrap().stdout).unwrap();
    let config = fs::read_to_string(etc.join("config.toml")).unwrap();
    let config = config
        .replace("data_dir = \"data\"", &format!("data_dir = \"{}\"", state.display()))
        .replace("\"data/access.log\"", &format!("\"{}/access.log\"", log.display()))
        .replace("\"127.0.0.1:8001\"", &format!("\"unix:/run/{NAME}/worker.sock\""))
        .replace("\"data/media\"", &format!("\"{}/media\"", worker.display()))
        .replace("[::]:8443", &format!("127.0.0.1:{tls}"))
        .replace("[::]:8080", &format!("127.0.0.1:{plain}"))
        .replace("127.0.0.1:9901", &format!("127.0.0.1:{admin}"));
    fs::write(etc.join("config.toml"), config).unwrap();
    done(PROGRAM, &["check", "--role", "gateway", "--config", etc.join("config.toml").to_str().unwrap()]);
    fs::create_dir_all(worker.join("secrets")).unwrap();
    fs::copy(state.join("secrets/worker.key"), worker.join("secrets/worker.key")).unwrap();
    for folder in [&etc, &state, &worker] {
        done("chown", &["-R", "nobody:nogroup", folder.to_str().unwrap()]);
    }
    made["api_key"].as_str().unwrap().to_owned()
}

/// Writes to /etc, /usr/local/bin and /var, and therefore runs only with explicit permission.
#[test]
fn both_roles_work_under_their_restrictions_and_a_restart_refuses_no_request() {
    if env::var_os("TEST_SYSTEMD").is_none() || !Path::new("/run/systemd/system").exists() {
        skipped("it needs a running systemd, root, and TEST_SYSTEMD=1, because it installs units");
        return;
    }
    let staged = Staged::start();
    assert_eq!(staged.fetch(), "200", "the gateway reaches the worker's socket");
    done("systemctl", &["reload", &format!("{NAME}-gateway.service")]);
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| (0..30).map(|_| staged.fetch()).collect::<Vec<_>>());
        for _ in 0..2 {
            done("systemctl", &["restart", &format!("{NAME}-gateway.service")]);
        }
        assert_eq!(asked.join().unwrap(), ["200"; 30]);
    });
}
