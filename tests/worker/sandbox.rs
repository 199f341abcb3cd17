//! The sandbox: what a malicious child can read, write, start and consume. A stand-in for yt-dlp does what a page could have made the
//! real one do.

use std::{
    env, fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    origin::Origin,
    places,
    process::{Setup, Worker, eventually, processes_of, signal, yt_dlp},
    skips::skipped,
    stand_in::{python_yt_dlp, python_yt_dlp_with},
};

/// Starts a worker whose yt-dlp is a Python program. Also returns the folder that holds the program.
fn worker(program: &str) -> (Worker, TempDir) {
    worker_with(program, &[])
}

/// The same, with environment variables for the program.
fn worker_with(program: &str, variables: &[(&str, &str)]) -> (Worker, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let (yt_dlp, readable) = python_yt_dlp_with(dir.path(), program, variables);
    (Worker::with(&Origin::start(), &Setup { yt_dlp, extra: readable.leak(), ..Setup::default() }), dir)
}

/// Runs the program, and returns what it reports as the title of a search's only result.
pub(crate) fn told(worker: &Worker) -> Value {
    told_of(worker, "x")
}

/// The same, with `text` as an argument for the program.
fn told_of(worker: &Worker, text: &str) -> Value {
    let response = worker.get("ana", &format!("/api/search?q={}", text.replace('/', "%2F")));
    assert_eq!(response.status, 200, "{:?}", response.json());
    serde_json::from_str(response.json()["results"][0]["title"].as_str().unwrap()).unwrap()
}

#[test]
fn a_child_reads_and_writes_nothing_but_its_own_folder() {
    let (worker, _dir) = worker(include_str!("python/reads_and_writes.py"));
    let victim = worker.completed("bob", &format!("http://{}/video.mp4", crate::town::PUBLIC));
    let video = worker.media(victim["id"].as_str().unwrap()).join("media.mp4");
    assert_eq!(fs::metadata(&video).unwrap().len(), 1_012);
    let expected = json!({"read": [], "written": [], "listed": [], "own": true});
    assert_eq!(told_of(&worker, video.to_str().unwrap()), expected);
}

#[test]
fn a_playlist_reaches_no_other_users_file_even_without_rules_for_ffmpeg() {
    let origin = Origin::start();
    let first = Worker::start(&origin);
    let victim = first.completed("bob", &origin.url("sample.mp4"));
    let video = first.media(victim["id"].as_str().unwrap()).join("media.mp4");
    let program = include_str!("python/reaches_by_playlist.py");
    let (worker, _dir) = worker_with(program, &[("VIDEO", video.to_str().unwrap())]);
    assert_eq!(told(&worker), json!([0, 0]));
    assert!(copies_without_a_sandbox(&video), "without a sandbox, the playlists work");
}

/// Runs the real yt-dlp without the arguments that restrict ffmpeg, which would otherwise copy what a playlist names.
const WITHOUT_FFMPEG_RULES: &str = include_str!("python/without_ffmpeg_rules.py");

/// Creates such a program for the same Python. Also returns the configuration line that lets it read the real yt-dlp.
fn yt_dlp_without_ffmpeg_rules(dir: &Path) -> Option<(PathBuf, String)> {
    let real = yt_dlp();
    let content = fs::read(&real).ok()?;
    let interpreter = content.split(|byte| *byte == b'\n').next().filter(|line| line.starts_with(b"#!"))?;
    symlink(&real, dir.join("real-yt-dlp")).unwrap();
    let path = dir.join("yt-dlp");
    fs::write(&path, [interpreter, b"\n", WITHOUT_FFMPEG_RULES.as_bytes()].concat()).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    Some((path, format!("readable = [{:?}, {:?}]", real.to_str()?, dir.to_str()?)))
}

#[test]
fn no_post_processor_reaches_another_users_file_even_without_our_arguments() {
    let dir = tempfile::tempdir().unwrap();
    let Some((wrapped, readable)) = yt_dlp_without_ffmpeg_rules(dir.path()) else {
        skipped("this yt-dlp is not a Python program");
        return;
    };
    let origin = Origin::start();
    let extra = format!("{readable}\nretries = 0").leak();
    let worker = Worker::with(&origin, &Setup { yt_dlp: wrapped, extra, ..Setup::default() });
    let victim = worker.completed("bob", &origin.url("sample.mp4"));
    let video = worker.media(victim["id"].as_str().unwrap()).join("media.mp4");
    // A readable copy, to show what a playlist would do if the file were not protected.
    let open = dir.path().join("video.mp4");
    fs::copy(&video, &open).unwrap();
    for attack in ATTACKS {
        let closed = attack.order(&worker, &origin, "closed", &video);
        let open = attack.order(&worker, &origin, "open", &open);
        let [closed, open] = [closed, open]
            .map(|id| worker.wait_for(&id, |task| task["status"] == "error" || task["status"] == "completed"));
        println!("{} {}: {} if the file is readable", attack.name, attack.order, open["status"]);
        assert_eq!(closed["status"], "error", "{closed}");
        assert!(!worker.media(closed["id"].as_str().unwrap()).exists());
    }
}

/// A playlist in place of a video, and the download request that makes ffmpeg read it.
struct Attack {
    name: &'static str,
    order: &'static str,
}

const ATTACKS: &[Attack] = &[
    Attack { name: "master.m3u8", order: "{}" },
    Attack { name: "list.mp4", order: "{\"format\": \"mkv\"}" },
    Attack { name: "list.mp4", order: "{\"download_type\": \"audio\", \"format\": \"mp3\"}" },
    Attack { name: "list.mp4?meta", order: "{}" },
    Attack { name: "list.mp4?meta", order: "{\"format\": \"mkv\"}" },
];

impl Attack {
    /// Requests the download, with playlists that refer to `video` and whose names start with `which`. Returns the task's id.
    fn order(&self, worker: &Worker, origin: &Origin, which: &str, video: &Path) -> String {
        let list = |what: &str| format!("#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\n{what}\n#EXT-X-ENDLIST\n");
        for name in ["list.mp4", "list.mp4?meta", "segment.ts"] {
            origin.serve(&format!("{which}-{name}"), &list(&format!("file://{}", video.display())));
        }
        origin.serve(&format!("{which}-stream.m3u8"), &list(&format!("{which}-segment.ts")));
        let master = "#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"x\",DEFAULT=YES,URI=\"stream.m3u8\"\n\
            #EXT-X-STREAM-INF:BANDWIDTH=100000,RESOLUTION=320x180,CODECS=\"avc1.64000d,mp4a.40.2\",AUDIO=\"a\"\n\
            stream.m3u8\n";
        origin.serve(&format!("{which}-master.m3u8"), &master.replace("stream.m3u8", &format!("{which}-stream.m3u8")));
        let mut order: Value = serde_json::from_str(self.order).unwrap();
        order["url"] = json!(origin.url(&format!("{which}-{}", self.name)));
        worker.post("ana", "/api/download", &order.to_string()).json()["id"].as_str().unwrap().to_owned()
    }
}

/// Returns whether such a playlist works as intended when ffmpeg is not confined.
fn copies_without_a_sandbox(video: &Path) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let list = format!("ffconcat version 1.0\nfile {}\n", video.display());
    fs::write(dir.path().join("b.ffconcat"), list).unwrap();
    let copied = Command::new("ffmpeg")
        .args(["-v", "quiet", "-nostdin", "-safe", "0", "-i", "b.ffconcat", "-c", "copy", "out.mkv"])
        .current_dir(dir.path())
        .status()
        .unwrap();
    copied.success() && fs::metadata(dir.path().join("out.mkv")).unwrap().len() > 10_000
}

#[test]
fn a_child_has_only_ip_sockets_and_no_access_to_other_processes() {
    // Descriptors inherited from the test's own parent are open in all processes; 3 is the one that lists the folder.
    let leaked = open_here().join(" ") + " 3";
    let variables = [("FOREIGN", &*std::process::id().to_string()), ("LEAKED", &leaked)];
    let (worker, _dir) = worker_with(include_str!("python/sockets_and_processes.py"), &variables);
    let expected = json!({"families": [], "allowed": [], "killed": [], "descriptors": [], "pair": 2});
    assert_eq!(told(&worker), expected);
}

fn open_here() -> Vec<String> {
    let open = fs::read_dir("/proc/self/fd").unwrap().flatten();
    open.map(|entry| entry.file_name().into_string().unwrap()).collect()
}

#[test]
fn a_child_cannot_exceed_its_limits_on_memory_and_tasks() {
    let (worker, _dir) = worker(include_str!("python/memory_and_tasks.py"));
    assert_eq!(told(&worker), json!(["some", "some"]));
}

#[test]
fn a_process_that_hides_in_its_own_session_ends_with_its_job() {
    let (worker, _dir) = worker(include_str!("python/own_session.py"));
    let lookups = format!("{}/look-", worker.job("").display()).replace("//", "/");
    assert_eq!(told(&worker), json!("started"));
    eventually("the end of all processes", || processes_of(&lookups).is_empty().then_some(()));
}

/// A first process of a namespace that tries to drop its parent-death signal, and ignores SIGTERM.
const HIDING: &str = include_str!("python/ignores_signals.py");

#[test]
fn the_first_process_cannot_hide_either() {
    let (worker, _dir) = worker(HIDING);
    let lookups = format!("{}/look-", worker.job("").display()).replace("//", "/");
    let request = crate::client::Request::new("GET", "/api/search?q=x").signed("ana", worker.address).to_string();
    let mut stream = std::net::TcpStream::connect(worker.address).unwrap();
    std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
    eventually("the child", || (processes_of(&lookups).len() >= 2).then_some(()));
    drop(stream);
    eventually("the end of the child", || processes_of(&lookups).is_empty().then_some(()));
}

#[test]
fn the_signal_of_a_cancellation_ends_the_first_process_whatever_it_ignores() {
    let dir = tempfile::tempdir().unwrap();
    let (yt_dlp, readable) = python_yt_dlp(dir.path(), HIDING);
    let extra = format!("{readable}\ninfo_timeout = \"5m\"").leak();
    let worker = Worker::with(&Origin::start(), &Setup { yt_dlp, extra, ..Setup::default() });
    let lookups = format!("{}/look-", worker.job("").display()).replace("//", "/");
    let request = crate::client::Request::new("GET", "/api/search?q=x").signed("ana", worker.address).to_string();
    let mut stream = std::net::TcpStream::connect(worker.address).unwrap();
    std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
    let that_has = |word: &str| {
        let has = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains(word));
        processes_of(&lookups).into_iter().find(has)
    };
    let reaper = eventually("the reaper", || that_has("python3\0").and(that_has("\0--keep\0")));
    // The signal that the worker sends first. The worker has no reason to do anything else, since the client is still connected.
    signal("-TERM", reaper);
    eventually("the end of the child", || processes_of(&lookups).is_empty().then_some(()));
    drop(stream);
}

#[test]
fn a_child_cannot_create_a_link_that_the_worker_would_follow() {
    let (worker, _dir) = worker(include_str!("python/creates_links.py"));
    assert_eq!(told(&worker), json!([]));
}

#[test]
fn a_child_cannot_create_namespaces_or_bypass_the_port_rules() {
    let (worker, _dir) = worker(include_str!("python/namespaces_and_ports.py"));
    assert_eq!(told(&worker), json!([]));
}

/// These calls are refused for any named process, even the caller's own, because a filter cannot tell whose id it is.
#[test]
fn a_child_can_set_limits_priorities_and_processors_only_for_itself() {
    let (worker, _dir) = worker(include_str!("python/settings_of_processes.py"));
    assert_eq!(told(&worker), json!([[], []]));
}

/// Runs JavaScript the way yt-dlp runs a page's scripts: compiled just in time, in threads, and killed if it takes too long.
pub(crate) const RUNS_JAVASCRIPT: &str = include_str!("python/javascript.py");

/// Returns the JavaScript runtime, if there is one.
pub(crate) fn js_runtime() -> Option<PathBuf> {
    let installed = places::project().join(".tools/bin/deno");
    let deno = env::var_os("TEST_DENO").map(PathBuf::from).or_else(|| installed.exists().then_some(installed));
    if deno.is_none() {
        skipped("deno was not found");
    }
    deno
}

#[test]
fn a_javascript_runtime_works_in_the_sandbox() {
    let Some(runtime) = js_runtime() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (yt_dlp, readable) = python_yt_dlp(dir.path(), RUNS_JAVASCRIPT);
    let extra = format!("{readable}\njs_runtime = {runtime:?}").leak();
    let worker = Worker::with(&Origin::start(), &Setup { yt_dlp, extra, ..Setup::default() });
    assert_eq!(told(&worker), json!([0, "number 1,2,3\n", "", -9]));
}

/// x32 calls have the same architecture but other numbers, which no list contains. They are caught even if the kernel lacks x32.
#[cfg(target_arch = "x86_64")]
#[test]
fn an_x32_call_kills_the_process_that_makes_it() {
    let (worker, _dir) = worker(include_str!("python/x32.py"));
    assert_eq!(told(&worker), json!([31, 31, 31, 31]), "SIGSYS");
}

#[test]
fn a_killed_worker_leaves_no_hidden_processes() {
    let (mut worker, _dir) = worker(include_str!("python/never_ends.py"));
    let lookups = format!("{}/look-", worker.job("").display()).replace("//", "/");
    std::thread::scope(|scope| {
        let lookup = scope.spawn(|| {
            let mut stream = std::net::TcpStream::connect(worker.address).unwrap();
            let request = crate::client::Request::new("GET", "/api/search?q=x").signed("ana", worker.address);
            std::io::Write::write_all(&mut stream, request.to_string().as_bytes()).unwrap();
            stream
        });
        // The reaper, the program and the process that the program has started.
        eventually("all processes", || (processes_of(&lookups).len() >= 3).then_some(()));
        signal("-KILL", worker.pid());
        drop(lookup.join().unwrap());
    });
    eventually("the end of all processes", || processes_of(&lookups).is_empty().then_some(()));
    worker.kill();
}

/// Runs the worker in a user namespace that allows no further ones.
const WITHOUT_NAMESPACES: &[&str] =
    &["unshare", "-Ur", "sh", "-c", "echo 0 >/proc/sys/user/max_user_namespaces && exec \"$@\"", "sh"];

#[test]
fn without_a_whole_sandbox_nothing_is_downloaded_unless_that_is_allowed() {
    let origin = Origin::start();
    let worker = Worker::with(&origin, &Setup { wrapper: WITHOUT_NAMESPACES, ..Setup::default() });
    let response = worker.get("ana", "/api/search?q=x");
    assert_eq!((response.status, &response.json()["code"]), (503, &json!("sandbox_missing")), "{}", worker.log());
    assert!(worker.log().contains("creating a user namespace failed"), "{}", worker.log());
    let order = json!({"url": origin.url("sample.mp4")}).to_string();
    assert_eq!(worker.post("ana", "/api/download", &order).status, 503);
    drop(worker);

    let extra = "[insecure]\npartial_sandbox = true";
    let worker = Worker::with(&origin, &Setup { wrapper: WITHOUT_NAMESPACES, extra, ..Setup::default() });
    worker.completed("ana", &origin.url("sample.mp4"));
    assert!(worker.log().contains("a weaker sandbox"), "{}", worker.log());
}

#[test]
fn a_separate_guard_serves_a_worker_that_its_unit_confines() {
    let origin = Origin::start();
    let extra = "[egress]\nlisten = \"127.0.0.1:0\"";
    let worker = Worker::with(&origin, &Setup { extra, ..Setup::default() });
    let response = worker.get("ana", "/api/search?q=x");
    assert_eq!((response.status, &response.json()["code"]), (503, &json!("sandbox_missing")));
    assert!(worker.log().contains("this process can send packets past the egress guard"), "{}", worker.log());
    drop(worker);

    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let extra = format!("[egress]\nlisten = \"{address}\"\n[insecure]\npartial_sandbox = true").leak();
    let worker = Worker::with(&origin, &Setup { extra, ..Setup::default() });
    let id = worker.download("ana", &origin.url("sample.mp4"));
    worker.wait_for_status(&id, "error");
    let mut guard = Command::new(places::program());
    let mut guard = guard.args(["egress", "--config"]).arg(worker.dir.path().join("config.toml")).spawn().unwrap();
    eventually("the guard", || std::net::TcpStream::connect(address).ok());
    worker.completed("ana", &origin.url("sample.mp4"));
    guard.kill().unwrap();
    guard.wait().unwrap();
}
