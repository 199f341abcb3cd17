//! The sandbox in a systemd unit: a separate account, no namespaces, and a kernel that keeps this account's packets on loopback. A
//! child that could affect the worker's other processes there could affect other users.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use serde_json::json;
use tempfile::TempDir;

use crate::{
    account::{ACCOUNT, AS_ACCOUNT, js_runtime_for_account, open_folder, yt_dlp_for_account},
    media,
    origin::Origin,
    places,
    process::{Setup, Worker, eventually, processes_of, signal},
    sandbox::{RUNS_JAVASCRIPT, told},
    stand_in::python_yt_dlp_with,
    town::{Canary, PUBLIC, Town, run},
};

/// Arguments with which setpriv runs a program as another account.
const AS_OTHER: &[&str] = &["--reuid=65534", "--regid=65534", "--clear-groups"];

/// The worker, and the egress guard as another unit.
struct Unit {
    worker: Worker,
    guard: Child,
    _dir: TempDir,
}

impl Unit {
    /// Starts both in the current network, with `program` as yt-dlp.
    fn start(port: u16, program: &str, variables: &[(&str, &str)]) -> Self {
        Self::with(port, program, variables, "")
    }

    fn with(port: u16, program: &str, variables: &[(&str, &str)], extra: &str) -> Self {
        let dir = open_folder();
        let (yt_dlp, readable) = python_yt_dlp_with(dir.path(), program, variables);
        Self::of(port, yt_dlp, &format!("{readable}\n{extra}"), dir)
    }

    fn of(port: u16, yt_dlp: PathBuf, extra: &str, dir: TempDir) -> Self {
        let extra = format!("{extra}\n[egress]\nlisten = \"127.0.0.1:{port}\"").leak();
        let worker = Worker::with(&Origin::start(), &Setup { yt_dlp, extra, wrapper: AS_ACCOUNT });
        let config = worker.dir.path().join("config.toml");
        let mut guard = Command::new(places::program());
        let guard = guard.args(["egress", "--config"]).arg(config).stderr(Stdio::null()).spawn().unwrap();
        eventually("the guard", || TcpStream::connect(("127.0.0.1", port)).ok());
        assert!(!worker.log().contains("weaker sandbox"), "the sandbox is whole: {}", worker.log());
        Self { worker, guard, _dir: dir }
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        let _ = self.guard.kill();
        let _ = self.guard.wait();
    }
}

/// A network in which the account reaches only loopback, as with `IPAddressDeny=any` and `IPAddressAllow=localhost`.
fn town() -> Option<(Town, u16)> {
    let town = Town::enter()?;
    for (family, localhost) in [("-4", "127.0.0.0/8"), ("-6", "::1/128")] {
        let rule = |words: &str| run("ip", &[&[family, "rule"], &words.split(' ').collect::<Vec<_>>()[..]].concat());
        rule("add pref 20 lookup local");
        rule(&format!("add pref 10 uidrange {ACCOUNT}-{ACCOUNT} to {localhost} lookup local"));
        rule(&format!("add pref 11 uidrange {ACCOUNT}-{ACCOUNT} prohibit"));
        rule("del pref 0");
    }
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    Some((town, port))
}

/// A network without a route to the internet, prepared for the rules of [`keep_the_account_in`].
fn town_without_a_route() -> Option<(Town, u16)> {
    let town = Town::enter()?;
    run("nft", &["add", "table", "inet", "unit"]);
    run("nft", &["add chain inet unit out { type filter hook output priority 0; }"]);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    Some((town, port))
}

/// Keeps the account's packets on loopback, as the control group of its unit does.
fn keep_the_account_in() {
    for allowed in ["ip daddr != 127.0.0.0/8", "ip6 daddr != ::1"] {
        run("nft", &[&format!("add rule inet unit out meta skuid {ACCOUNT} {allowed} drop")]);
    }
}

/// Downloads normally in a job; otherwise reports which of the forbidden `ADDRESSES` it has reached.
const GOES_OUT: &str = include_str!("python/goes_out.py");

#[test]
fn a_unit_lets_nothing_out_except_through_the_guard() {
    let Some((town, port)) = town() else { return };
    let origin = Origin::at(&format!("{PUBLIC}:80"));
    town.name("videos.example.com", &[&[PUBLIC]]);
    let inside = ["10.0.0.5", "192.168.1.1", "100.64.0.9", "169.254.169.254", "93.184.216.35", "[fd00::5]"];
    let mut addresses: Vec<_> =
        inside.iter().flat_map(|host| [80, 443, port].map(|port| format!("{host}:{port}"))).collect();
    addresses.extend(["127.0.0.1:80", "127.0.0.1:443", "127.0.0.1:6379", "[::1]:80", "[::1]:443"].map(str::to_owned));
    let canary = Canary::new();
    canary.at(&addresses.iter().map(String::as_str).collect::<Vec<_>>());
    let unit = Unit::start(port, GOES_OUT, &[("ADDRESSES", &addresses.join(" "))]);
    let before = canary.seen();
    assert_eq!(told(&unit.worker), json!([]));
    assert_eq!((before, canary.seen()), (vec![], vec![]));
    unit.worker.completed("ana", "http://videos.example.com/sample.mp4");
    assert!(origin.requests().iter().any(|request| request.contains("sample.mp4")));
    assert_eq!(canary.seen(), Vec::<String>::new());
    TcpStream::connect("10.0.0.5:80").unwrap();
    eventually("the canary to notice a connection", || (!canary.seen().is_empty()).then_some(()));
}

#[test]
fn a_unit_without_a_route_is_accepted_as_soon_as_its_packets_are_kept_in() {
    let Some((town, port)) = town_without_a_route() else { return };
    let _origin = Origin::at(&format!("{PUBLIC}:80"));
    town.name("videos.example.com", &[&[PUBLIC]]);
    let unit = Unit::start(port, GOES_OUT, &[]);
    let url = "http://videos.example.com/sample.mp4";
    let order = json!({ "url": url }).to_string();
    let refused = unit.worker.post("ana", "/api/download", &order);
    assert_eq!((refused.status, &refused.json()["code"]), (503, &json!("sandbox_missing")));
    keep_the_account_in();
    eventually("a sandbox", || (unit.worker.post("ana", "/api/download", &order).status == 200).then_some(()));
    unit.worker.completed("ana", url);
}

/// Downloads, merges, creates thumbnails and streams with the real programs.
#[test]
fn a_unit_processes_sources_in_the_same_way_as_up() {
    let Some((town, port)) = town() else { return };
    let dir = open_folder();
    let Some(yt_dlp) = yt_dlp_for_account(dir.path()) else { return };
    let _origin = Origin::at(&format!("{PUBLIC}:80"));
    town.name("videos.example.com", &[&[PUBLIC]]);
    let unit = Unit::of(port, yt_dlp, "", dir);
    let orders = [("sample.mp4", "mp4"), ("hls.m3u8", "mp4"), ("dash.mpd", "mp4"), ("sample.mp4", "mkv")];
    let ids = orders.map(|(name, format)| {
        let order = json!({"url": format!("http://videos.example.com/{name}"), "format": format});
        let response = unit.worker.post("ana", "/api/download", &order.to_string());
        assert_eq!(response.status, 200, "{:?} {}", response.json(), unit.worker.log());
        response.json()["id"].as_str().unwrap().to_owned()
    });
    for id in ids {
        let task = unit.worker.wait_for_status(&id, "completed");
        assert_ne!(task["thumbnail"], "", "{task}");
        let file = unit.worker.get("ana", &format!("/api/download/{id}/file")).body;
        assert_eq!(media::probe(&file), ("h264,aac".to_owned(), 6));
        assert_eq!(unit.worker.get("ana", &format!("/api/v2/hls/{id}/index.m3u8")).status, 200);
    }
}

#[test]
fn a_javascript_runtime_works_in_a_unit() {
    let (dir, Some((_town, port))) = (open_folder(), town()) else { return };
    let Some(runtime) = js_runtime_for_account(dir.path()) else { return };
    let unit = Unit::with(port, RUNS_JAVASCRIPT, &[], &runtime);
    assert_eq!(told(&unit.worker), json!([0, "number 1,2,3\n", "", -9]));
}

/// A download with a hidden process, which keeps the result open to change it later. `THEN` says what it does next.
const KEEPS_RESULT_OPEN: &str = include_str!("python/keeps_result_open.py");

#[test]
fn a_child_in_a_unit_cannot_keep_its_reaper_from_ending_hidden_processes() {
    let Some((_town, port)) = town() else { return };
    let unit = Unit::start(port, KEEPS_RESULT_OPEN, &[("THEN", "attack")]);
    let id = unit.worker.download("ana", &format!("http://{PUBLIC}/video.mp4"));
    let task = unit.worker.wait_for(&id, |task| task["status"] == "completed" || task["status"] == "error");
    assert_eq!((&task["title"], &task["status"]), (&json!("[]"), &json!("completed")), "{task} {}", unit.worker.log());
    assert_eq!(processes_of(&id), Vec::<u32>::new(), "the processes end before the result is reported");
}

#[test]
fn a_job_fails_if_its_reaper_cannot_look_for_hidden_processes() {
    let Some((_town, port)) = town() else { return };
    let unit = Unit::start(port, KEEPS_RESULT_OPEN, &[("THEN", "wait")]);
    let id = unit.worker.download("ana", &format!("http://{PUBLIC}/video.mp4"));
    let reaper = eventually("the hidden process", || {
        let all = processes_of(&id);
        let reaper = all.iter().find(|pid| command_of(**pid).contains("--keep")).copied();
        reaper.filter(|_| all.len() >= 3)
    });
    run("setpriv", &[AS_OTHER, &["prlimit", "--nofile=0:0", "--pid", &reaper.to_string()]].concat());
    fs::write(unit.worker.job(&id).join("work/go"), "").unwrap();
    let task = unit.worker.wait_for(&id, |task| task["status"] == "completed" || task["status"] == "error");
    // Nobody else ends the hidden process now.
    for pid in processes_of(&id) {
        signal("-KILL", pid);
    }
    assert_eq!(task["status"], "error", "{task}");
    assert!(!unit.worker.media(&id).exists());
}

fn command_of(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default()
}

#[test]
fn a_child_in_a_unit_leaves_process_slots_for_the_worker() {
    let Some((_town, port)) = town() else { return };
    let unit = Unit::start(port, include_str!("python/many_processes.py"), &[]);
    let started = told(&unit.worker).as_u64().unwrap();
    assert!((100..=768).contains(&started), "{started} of the unit's tasks");
    assert!(include_str!("../../systemd/sallyport-worker.service").contains("\nTasksMax=1024\n"));
}
