//! `sallyport trust` with real certificate stores; the machine's own stores stay out of reach.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

#[path = "support/ports.rs"]
mod ports;
#[path = "support/skips.rs"]
mod skips;

use ports::free_addresses;
use skips::skipped;

const DEBIAN: &str = "/usr/local/share/ca-certificates";

/// An instance, and an empty home folder.
struct Setting {
    dir: TempDir,
}

impl Setting {
    fn new() -> Self {
        let setting = Self { dir: tempfile::tempdir().unwrap() };
        fs::create_dir(setting.path("home")).unwrap();
        let output = setting.run(&["init", "--json", "--dir", setting.path("door").to_str().unwrap()]);
        assert!(output.status.success(), "{output:?}");
        setting
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn config(&self) -> PathBuf {
        self.path("door/config.toml")
    }

    fn run(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_sallyport")).args(args).env("HOME", self.path("home")).output().unwrap()
    }

    /// Runs the command on the machine itself; use only arguments that change nothing.
    fn trust(&self, args: &[&str]) -> (Option<i32>, Value) {
        let config = self.config();
        let output = self.run(&[&["trust", "--json", "--config", config.to_str().unwrap()], args].concat());
        (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}")))
    }

    /// Runs a script in namespaces where Debian's stores are copies; returns None if that is not possible.
    fn apart(&self, script: &str) -> Option<Output> {
        if !Path::new(DEBIAN).is_dir() || !Path::new("/usr/sbin/update-ca-certificates").is_file() {
            return None;
        }
        let private = "set -e; mkdir -p $T/certs $T/local $T/hooks; cp -a /etc/ssl/certs/. $T/certs; \
            mount --bind $T/certs /etc/ssl/certs; mount --bind $T/local /usr/local/share/ca-certificates; \
            if [ -d /etc/ca-certificates/update.d ]; then mount --bind $T/hooks /etc/ca-certificates/update.d; fi; set +e\n";
        let shell = |script: &str| {
            let mut unshare = Command::new("unshare");
            unshare.args(["-rm", "sh", "-c", script]).env("T", self.dir.path()).env("HOME", self.path("home"));
            unshare.env("SALLYPORT", env!("CARGO_BIN_EXE_sallyport")).env("CONFIG", self.config());
            unshare.env_remove("CURL_CA_BUNDLE").env_remove("SSL_CERT_FILE").env_remove("SSL_CERT_DIR").output()
        };
        shell(private).ok().filter(|output| output.status.success())?;
        Some(shell(&format!("{private}{script}")).unwrap())
    }
}

/// A gateway that is killed at the end of the test.
struct Gateway {
    child: Child,
    address: SocketAddr,
}

impl Gateway {
    fn start(setting: &Setting) -> Self {
        let [address, plain, admin] = free_addresses();
        let text = fs::read_to_string(setting.config()).unwrap();
        let text = text.replace("[::]:8443", &address.to_string()).replace("[::]:8080", &plain.to_string());
        fs::write(setting.config(), text.replace("127.0.0.1:9901", &admin.to_string())).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_sallyport"));
        command.args(["gateway", "--config"]).arg(setting.config()).stdin(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap();
        let start = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(start.elapsed() < Duration::from_secs(20), "the gateway did not start");
            thread::sleep(Duration::from_millis(20));
        }
        Self { child, address }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_installed(program: &str) -> bool {
    Command::new(program).arg("-H").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

fn certutil(database: &Path, args: &[&str]) -> String {
    let place = format!("sql:{}", database.display());
    let output = Command::new("certutil").args(["-d", &place]).args(args).stdin(Stdio::null()).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn of_kind<'v>(report: &'v Value, kind: &str) -> &'v Value {
    let stores = report["stores"].as_array().unwrap();
    stores.iter().find(|store| store["store"] == kind).unwrap_or_else(|| panic!("no {kind}: {report}"))
}

/// Returns each line of a script's output; for a report, the outcome for the machine's store.
fn outcomes(output: &Output) -> Vec<String> {
    let said = String::from_utf8_lossy(&output.stdout);
    let what = |line: &str| match serde_json::from_str::<Value>(line).ok().filter(Value::is_object) {
        Some(report) if report["stores"].as_array().is_some_and(Vec::is_empty) => "shown".to_owned(),
        Some(report) => of_kind(&report, "system")["what"].as_str().unwrap().to_owned(),
        None => line.to_owned(),
    };
    said.lines().map(what).collect()
}

#[test]
fn the_machine_and_curl_trust_the_authority_until_it_is_removed() {
    let setting = Setting::new();
    let gateway = Gateway::start(&setting);
    let script = format!(
        "ask() {{ curl -sS -o /dev/null https://localhost:{}/ 2>/dev/null; echo \"curl $?\"; }}\n\
         say() {{ $SALLYPORT trust --json --config $CONFIG \"$@\"; echo \"exit $?\"; }}\n\
         before=$(sort /etc/ssl/certs/ca-certificates.crt | sha256sum)\n\
         ask; say; ask; say; say --show; ls /usr/local/share/ca-certificates\n\
         rm /etc/ssl/certs/ca-certificates.crt; say; ask\n\
         say --remove; ask; say --remove; ls -A /usr/local/share/ca-certificates; ls /etc/ssl/certs/sallyport* 2>/dev/null\n\
         grep -c BEGIN /etc/ssl/certs/ca-certificates.crt\n",
        gateway.address.port()
    );
    let Some(output) = setting.apart(&script) else {
        skipped("it needs unshare with mounts, and update-ca-certificates");
        return;
    };
    let outcomes = outcomes(&output);
    let outcomes: Vec<_> = outcomes.iter().map(String::as_str).collect();
    let fingerprint = setting.trust(&["--show"]).1["fingerprint"].as_str().unwrap().replace(':', "").to_lowercase();
    let file = format!("sallyport-{}.crt", fingerprint.split_at(12).0);
    let expected = "curl 60|now trusted|exit 0|curl 0|already trusted|exit 0|shown|exit 0|FILE|\
        now trusted|exit 0|curl 0|no longer trusted|exit 0|curl 60|not trusted|exit 0";
    let expected = expected.replace("FILE", &file);
    let expected: Vec<_> = expected.split('|').collect();
    assert_eq!(outcomes[..expected.len()], expected, "{output:?}");
    assert_eq!(outcomes.len(), expected.len() + 1, "nothing is left behind: {outcomes:?}");
    assert!(outcomes[expected.len()].parse::<u32>().unwrap() > 0, "the other certificates are still there");
}

#[test]
fn the_next_attempt_completes_an_interrupted_one() {
    let setting = Setting::new();
    let script = "say() { $SALLYPORT trust --json --config $CONFIG \"$@\"; }\n\
         say >/dev/null; f=$(ls /usr/local/share/ca-certificates/*.crt); cp $f $T/whole\n\
         head -c 100 $T/whole >$f; update-ca-certificates >/dev/null 2>&1; say; cmp $f $T/whole && echo mended\n\
         rm $f; say --remove; cp $T/whole $f; say --remove; ls /usr/local/share/ca-certificates\n";
    let Some(output) = setting.apart(script) else {
        skipped("it needs unshare with mounts, and update-ca-certificates");
        return;
    };
    let outcomes = outcomes(&output);
    assert_eq!(outcomes, ["now trusted", "mended", "no longer trusted", "no longer trusted"], "{output:?}");
}

#[test]
fn without_permission_it_fails_and_prints_the_command() {
    let setting = Setting::new();
    // The folder of the store can be made read-only, even for root.
    let script = "mount -o remount,bind,ro /usr/local/share/ca-certificates || exit 9\n\
         $SALLYPORT trust --json --config $CONFIG; echo \"exit $?\"\n";
    let Some(output) = setting.apart(script).filter(|output| output.status.code() != Some(9)) else {
        skipped("it needs unshare with mounts, and update-ca-certificates");
        return;
    };
    let said = String::from_utf8_lossy(&output.stdout);
    let (report, rest) = said.split_once('\n').unwrap();
    assert_eq!(rest.trim(), "exit 1");
    let report: Value = serde_json::from_str(report).unwrap();
    let system = of_kind(&report, "system");
    assert_eq!(system["outcome"], "missing");
    let command = system["command"].as_str().unwrap();
    assert!(
        command.starts_with("sudo install -m 0644 ") && command.ends_with("&& sudo update-ca-certificates"),
        "{command}"
    );
}

#[test]
fn browsers_trust_the_authority_until_it_is_removed() {
    if !is_installed("certutil") {
        skipped("certutil is not installed");
        return;
    }
    let setting = Setting::new();
    let databases = [".pki/nssdb", ".mozilla/firefox/abc.default"].map(|name| setting.path("home").join(name));
    for database in &databases {
        fs::create_dir_all(database).unwrap();
        certutil(database, &["-N", "--empty-password"]);
    }
    fs::create_dir_all(setting.path("home/.mozilla/firefox/Crash Reports")).unwrap();
    let lists = || databases.iter().map(|database| certutil(database, &["-L"])).collect::<Vec<_>>();
    let empty = lists();
    let script = "say() { $SALLYPORT trust --json --config $CONFIG \"$@\"; echo \"exit $?\"; }\n\
        say; say; for d in $HOME/.pki/nssdb $HOME/.mozilla/firefox/abc.default; do certutil -d sql:$d -L; done | grep sallyport; \
        certutil -d sql:$HOME/.pki/nssdb -M -n $(certutil -d sql:$HOME/.pki/nssdb -L | sed -n 's/^\\(sallyport-[0-9a-f]*\\).*/\\1/p') -t ,,; \
        say; say --remove; say --remove\n";
    let Some(output) = setting.apart(script) else {
        skipped("it needs unshare with mounts, and update-ca-certificates");
        return;
    };
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said.lines().filter(|line| line.contains("C,,")).count(), 2, "{output:?}");
    let reports: Vec<Value> = said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let what = |kind: &str| {
        let each =
            reports.iter().map(|report| of_kind(report, kind)["what"].as_str().unwrap().split(';').next().unwrap());
        each.collect::<Vec<_>>()
    };
    let known = ["now trusted", "already trusted", "already trusted", "no longer trusted", "not trusted"];
    assert_eq!(what("firefox"), known);
    let known = ["now trusted", "already trusted", "now trusted", "no longer trusted", "not trusted"];
    assert_eq!(what("chromium"), known, "a known but untrusted authority is trusted again");
    assert!(reports.iter().all(|report| report["stores"].as_array().unwrap().len() == 3));
    assert_eq!(lists(), empty);
}

#[test]
fn the_fingerprint_is_shown_and_nothing_is_changed() {
    let setting = Setting::new();
    let (code, shown) = setting.trust(&["--show"]);
    assert_eq!((code, shown["stores"].as_array().unwrap().len()), (Some(0), 0));
    let mut openssl = Command::new("openssl");
    openssl.args(["x509", "-noout", "-fingerprint", "-sha256", "-in"]);
    let output = openssl.arg(setting.path("door/certs/ca.pem")).output().unwrap();
    let expected = String::from_utf8(output.stdout).unwrap();
    assert_eq!(expected.trim().split_once('=').unwrap().1, shown["fingerprint"].as_str().unwrap());
    let config = setting.config();
    let text = setting.run(&["trust", "--show", "--config", config.to_str().unwrap()]);
    assert!(String::from_utf8(text.stdout).unwrap().contains(shown["fingerprint"].as_str().unwrap()));
    assert_eq!(setting.run(&["trust", "--show", "--remove"]).status.code(), Some(2));
}

#[test]
fn other_tls_modes_have_no_authority_to_trust() {
    let setting = Setting::new();
    let text = fs::read_to_string(setting.config()).unwrap();
    let files = "mode = \"files\"\ncert = \"certs/server.pem\"\nkey = \"certs/server.key\"";
    fs::write(setting.config(), text.replace("mode = \"local-ca\"", files)).unwrap();
    fs::set_permissions(setting.config(), fs::Permissions::from_mode(0o600)).unwrap();
    let config = setting.config();
    let output = setting.run(&["trust", "--config", config.to_str().unwrap()]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    assert!(String::from_utf8(output.stderr).unwrap().contains("local-ca"));
}
