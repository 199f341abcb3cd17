//! `sallyport up` and its restarts on SIGUSR2: no request is refused, no response is cut, and only one `up` runs a folder.

use std::{
    fs,
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
};

use crate::{
    canary::Canary,
    client::{Request, Tls, connect},
    instance::{Instance, eventually},
    origin::Origin,
    places,
    roles::{alive, descendants},
    whole::{completed, start_download, stream_path, task, up_with},
};

/// Larger than every buffer between the worker and a client that does not read.
const LONG: u64 = 96 << 20;

/// Starts `up` with only the gateway, in front of `upstream`.
fn up_before(upstream: &Canary) -> Instance {
    let mut i = Instance::made(&["--app", "worker", "--upstream", &upstream.address.to_string()]);
    without_rates(&i);
    i.start_role("up");
    i
}

fn without_rates(i: &Instance) {
    i.replace_in("policies/worker.toml", "600/minute", "600000/minute");
}

fn signal(name: &str, pid: u32) {
    assert!(Command::new("kill").args([name, &pid.to_string()]).status().unwrap().success());
}

/// Returns the processes of a role that are direct children of `up`.
fn running(i: &Instance, role: &str) -> Vec<u32> {
    let is_it = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|b| *b == 0).nth(1) == Some(role.as_bytes())
    };
    descendants(i.pid()).into_iter().filter(is_it).collect()
}

fn only(i: &Instance, role: &str) -> u32 {
    eventually("one process", || match running(i, role)[..] {
        [one] => Some(one),
        _ => None,
    })
}

fn another(i: &Instance, role: &str, than: u32) -> u32 {
    eventually("another process", || running(i, role).into_iter().find(|pid| *pid != than))
}

/// Extends the file of a finished download with zeros.
fn lengthen(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            lengthen(&entry.path());
        } else if entry.path().extension().is_some_and(|e| e == "mp4") {
            fs::OpenOptions::new().write(true).open(entry.path()).unwrap().set_len(LONG).unwrap();
        }
    }
}

/// Begins a stream and reads only its first piece.
fn begin(i: &Instance, path: &str) -> Tls {
    let mut stream = connect(i.tls, &i.authority(), rustls::ALL_VERSIONS).unwrap();
    stream.write_all(&Request::new("GET", path).key(i.key()).bytes()).unwrap();
    let mut first = [0; 12];
    stream.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    stream
}

/// Returns how many bytes still arrive.
fn rest(stream: &mut Tls) -> u64 {
    let mut length = 0;
    let mut buffer = vec![0; 1 << 16];
    while let Ok(n @ 1..) = stream.read(&mut buffer) {
        length += n as u64;
    }
    length
}

/// Does `work` while two clients send requests without a pause; panics at the first response that is not 200.
fn under_load(i: &Instance, work: impl FnOnce()) {
    let over = AtomicBool::new(false);
    let served = AtomicUsize::new(0);
    let tls = i.tls;
    let authority = i.authority();
    let key = i.key();
    thread::scope(|scope| {
        let _over = SetOnDrop(&over);
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let request = Request::new("GET", "/api/downloads").key(key);
                    let response = crate::client::send(tls, &authority, &request.bytes());
                    assert_eq!(response.status, 200, "{response:?}");
                    served.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let responses = |n| eventually("answers", || (served.load(Ordering::Relaxed) >= n).then_some(()));
        responses(10);
        work();
        responses(served.load(Ordering::Relaxed) + 10);
    });
}

#[test]
fn at_sigusr2_gateway_and_worker_are_replaced_and_nothing_is_refused_cut_or_lost() {
    let origin = Origin::start();
    let i = up_with(&origin, |i| {
        i.replace("drain_timeout = \"10s\"", "drain_timeout = \"60s\"");
        without_rates(i);
    });
    let finished = completed(&i, &start_download(&i, &origin.url("sample.mp4")));
    lengthen(&i.path("data/media"));
    let mut stream = begin(&i, &stream_path(&finished));
    let download = start_download(&i, &origin.url("slow/sample.mp4"));
    eventually("some progress", || (task(&i, &download)["downloaded_bytes"].as_u64() > Some(50_000)).then_some(()));
    let gateway = only(&i, "gateway");
    let worker = only(&i, "worker");
    under_load(&i, || {
        signal("-USR2", i.pid());
        another(&i, "gateway", gateway);
        another(&i, "worker", worker);
        assert!(alive(gateway) && alive(worker), "they finish what they have begun");
        completed(&i, &download);
    });
    assert!(rest(&mut stream) > LONG, "the stream was cut");
    eventually("the end of the first", || (!alive(gateway) && !alive(worker)).then_some(()));
    // The process that kept the download may end a moment after it.
    let all = eventually("two roles and no other process", || Some(descendants(i.pid())).filter(|all| all.len() == 2));
    signal("-KILL", i.pid());
    eventually("the end of all", || all.iter().all(|pid| !alive(*pid)).then_some(()));
}

#[test]
fn ten_restarts_of_the_gateway_under_load_refuse_no_request() {
    let canary = Canary::start();
    let i = up_before(&canary);
    under_load(&i, || {
        for turn in 0..10 {
            let gateway = only(&i, "gateway");
            // `up` starts the next gateway, whether it or its gateway gets the signal.
            signal("-USR2", if turn % 2 == 0 { i.pid() } else { gateway });
            another(&i, "gateway", gateway);
            eventually("its word", || (i.stderr().matches("the new gateway is serving").count() > turn).then_some(()));
        }
    });
    assert!(
        !i.stderr().contains("restarting the gateway"),
        "a gateway that was followed has not failed: {}",
        i.stderr()
    );
}

#[test]
fn a_restart_that_fails_changes_nothing() {
    let canary = Canary::start();
    let i = up_before(&canary);
    let gateway = only(&i, "gateway");
    let good = fs::read(i.path("config.toml")).unwrap();
    i.replace("[tls]\nmode = \"local-ca\"", "[tls]\nmode = \"nonsense\"");
    signal("-USR2", i.pid());
    eventually("a complaint", || i.stderr().contains("the old one keeps serving").then_some(()));
    assert_eq!(running(&i, "gateway"), [gateway]);
    fs::write(i.path("config.toml"), good).unwrap();
    signal("-USR2", i.pid());
    another(&i, "gateway", gateway);
    assert_eq!(i.get("/api/downloads").status, 200);
}

#[test]
fn only_one_up_runs_a_folder_and_a_second_one_names_its_process() {
    let canary = Canary::start();
    let i = up_before(&canary);
    under_load(&i, || {
        for role in ["up", "gateway"] {
            let status = i.spawn(role, &[]).wait().unwrap();
            assert_eq!(status.code(), Some(1), "{role}");
            let said = format!("`sallyport up` is already running on this data folder, as process {}", i.pid());
            assert_eq!(i.stderr().matches(&said).count(), if role == "up" { 1 } else { 2 }, "{}", i.stderr());
        }
    });
    assert!(alive(i.pid()));
}

#[test]
fn up_is_refused_while_a_standalone_gateway_runs() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    let status = i.spawn("up", &[]).wait().unwrap();
    assert_eq!(status.code(), Some(1));
    assert!(i.stderr().contains(&format!("a gateway is already running on this data folder, as process {}", i.pid())));
    assert_eq!(i.get("/api/downloads").status, 200);
}

#[test]
fn after_an_upgrade_sigusr2_starts_the_new_program() {
    let canary = Canary::start();
    let mut i = Instance::made(&["--app", "worker", "--upstream", &canary.address.to_string()]);
    let program = i.path("program");
    let newer = i.path("newer");
    fs::copy(places::program(), &program).unwrap();
    fs::copy(places::program(), &newer).unwrap();
    i.start_role_of(&program, "up");
    let gateway = only(&i, "gateway");
    let inode = |pid: u32| {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(format!("/proc/{pid}/exe")).unwrap().ino()
    };
    let old = inode(gateway);
    fs::rename(&newer, &program).unwrap();
    signal("-USR2", i.pid());
    let second = another(&i, "gateway", gateway);
    eventually("the new program", || (inode(second) != old).then_some(()));
    eventually("the end of the first", || (!alive(gateway)).then_some(()));
    // A gateway that dies is restarted from the new program as well.
    signal("-KILL", second);
    let third = another(&i, "gateway", second);
    eventually("the port", || std::net::TcpStream::connect(i.tls).ok());
    assert_ne!(inode(third), old);
    assert_eq!(i.get("/api/downloads").status, 200);
}

#[test]
fn up_stops_completely_if_another_process_takes_its_ports() {
    let canary = Canary::start();
    let mut i = up_before(&canary);
    let gateway = only(&i, "gateway");
    // As a gateway of an older version would, which does not know about locks.
    let mut control = eventually("the control socket", || UnixStream::connect(i.path("data/control.sock")).ok());
    control.write_all(b"handover\n").unwrap();
    assert_eq!(control.read(&mut [0; 1]).unwrap(), 1);
    control.write_all(b"ready\n").unwrap();
    i.await_end();
    assert!(!alive(gateway));
    let said = format!("process {}, which this `sallyport up` did not start, has taken over", std::process::id());
    assert_eq!(i.stderr().matches(&said).count(), 1, "{}", i.stderr());
}

struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
