//! The processes of `up`: one that is killed or fails is restarted, and no other is affected.

use std::{fs, net::TcpStream, os::unix::fs::PermissionsExt, path::PathBuf, process::Command};

use serde_json::json;

use crate::{
    client::{Request, send_plain},
    instance::{Instance, eventually},
    media,
    origin::Origin,
    places,
    whole::{completed, made, start_download, stream_path, task, up},
};

#[test]
fn a_kill_at_any_time_loses_nothing_and_leaves_nothing_running() {
    let origin = Origin::start();
    let mut i = up(&origin);
    let finished = completed(&i, &start_download(&i, &origin.url("sample.mp4")));
    let link = i.post("/.sallyport/links", &json!({ "path": stream_path(&finished) }).to_string()).json();
    let link = link["url"].as_str().unwrap().split_once("localhost").unwrap().1.to_owned();
    let running = start_download(&i, &origin.url("slow/sample.mp4"));
    eventually("some progress", || (task(&i, &running)["downloaded_bytes"].as_u64() > Some(50_000)).then_some(()));
    let children = descendants(i.pid());
    assert!(children.len() >= 3, "gateway, worker and yt-dlp: {children:?}");
    i.kill();
    eventually("the end of all its processes", || children.iter().all(|pid| !alive(*pid)).then_some(()));
    assert!(TcpStream::connect(i.tls).is_err());

    i.start_role("up");
    assert_eq!(task(&i, finished["id"].as_str().unwrap()), finished, "the finished task is as it was");
    assert!(i.send(&Request::new("GET", &link)).body == media::read("sample.mp4"), "and so are its link and its file");
    let task = completed(&i, &running);
    assert!(i.get(&stream_path(&task)).body == media::read("sample.mp4"), "the interrupted download was resumed");
}

#[test]
fn a_role_that_is_killed_under_up_is_restarted() {
    let origin = Origin::start();
    let i = up(&origin);
    let finished = completed(&i, &start_download(&i, &origin.url("sample.mp4")));
    let old = descendants(i.pid());
    for pid in &old {
        Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap();
    }
    eventually("both roles", || {
        let new = descendants(i.pid());
        let both = new.len() == 2 && new.iter().all(|pid| !old.contains(pid));
        (both && TcpStream::connect(i.tls).is_ok()).then_some(())
    });
    eventually("the worker", || (i.get("/api/downloads").status == 200).then_some(()));
    assert_eq!(task(&i, finished["id"].as_str().unwrap()), finished);
}

/// Sends a request to the admin listener.
fn admin(i: &Instance, path: &str) -> (u16, String) {
    let response = send_plain(i.admin, format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes());
    (response.status, String::from_utf8(response.body).unwrap())
}

/// Returns the process of a role under `up`.
fn process(i: &Instance, role: &str) -> Option<u32> {
    descendants(i.pid()).into_iter().find(|pid| {
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        words.split(|byte| *byte == 0).nth(1) == Some(role.as_bytes())
    })
}

#[test]
fn a_failing_worker_does_not_affect_the_gateway_and_recovers_when_it_can() {
    let origin = Origin::start();
    let i = up(&origin);
    let finished = completed(&i, &start_download(&i, &origin.url("sample.mp4")));
    let gateway = process(&i, "gateway").unwrap();
    assert_eq!(admin(&i, "/readyz"), (200, "ready\n".to_owned()));
    // A folder in place of the database: every start fails from now on.
    fs::rename(i.path("data/worker.db"), i.path("data/kept.db")).unwrap();
    fs::create_dir(i.path("data/worker.db")).unwrap();
    Command::new("kill").args(["-KILL", &process(&i, "worker").unwrap().to_string()]).status().unwrap();
    eventually("more failures than `up` once bore", || {
        (i.stderr().matches("restarting the worker").count() >= 6).then_some(())
    });
    let (status, said) = eventually("word of the worker", || Some(admin(&i, "/readyz")).filter(|(s, _)| *s == 503));
    assert!(said.starts_with("the worker has been down for "), "{status} {said}");
    let (status, said) = admin(&i, "/healthz");
    assert!(status == 200 && said.contains("the worker has been down"), "{status} {said}");
    assert!(crate::admin::metric(&i, "sallyport_worker_down") > 0.5);
    let refused = i.get("/api/downloads");
    assert_eq!((refused.status, refused.header("retry-after")), (502, Some("5")));
    let link = i.post("/.sallyport/links", &json!({ "path": stream_path(&finished) }).to_string());
    assert_eq!(link.status, 201, "requests that need no worker still succeed");
    assert_eq!(process(&i, "gateway"), Some(gateway));

    fs::remove_dir(i.path("data/worker.db")).unwrap();
    fs::rename(i.path("data/kept.db"), i.path("data/worker.db")).unwrap();
    eventually("the worker", || (i.get("/api/downloads").status == 200).then_some(()));
    eventually("word of it", || (admin(&i, "/readyz").0 == 200).then_some(()));
    assert_eq!(task(&i, finished["id"].as_str().unwrap()), finished);
    assert_eq!(process(&i, "gateway"), Some(gateway));
}

/// Wraps the program in a script: the first worker is killed as soon as the gateway starts, a second before the gateway is there,
/// and each later one fails until there is a file `mended`.
fn with_a_worker_that_served_once(i: &Instance) -> PathBuf {
    let script = i.path("sallyport");
    let program = places::program();
    let text = format!(
        "#!/bin/bash\ncd {}\ncase \"$1\" in\n\
         worker) [ ! -e worker.pid ] || [ -e mended ] || exit 1; echo $$ >worker.pid ;;\n\
         gateway) [ -e killed ] || {{ touch killed; kill -KILL \"$(cat worker.pid)\"; sleep 1; }} ;;\n\
         esac\nexec -a \"$0\" {} \"$@\"\n",
        i.dir.path().display(),
        program.display(),
    );
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    script
}

#[test]
fn a_worker_that_fails_before_the_gateway_is_ready_does_not_stop_it() {
    let origin = Origin::start();
    let mut i = made(&origin, |_| ());
    i.start_role_of(&with_a_worker_that_served_once(&i), "up");
    eventually("word of the start", || i.stderr().contains("started").then_some(()));
    let gateway = process(&i, "gateway").unwrap();
    Command::new("kill").args(["-KILL", &gateway.to_string()]).status().unwrap();
    eventually("the next gateway", || process(&i, "gateway").filter(|next| *next != gateway));
    eventually("its port", || TcpStream::connect(i.tls).ok());
    assert_eq!(i.get("/nowhere").status, 404, "it serves without a worker");
    fs::write(i.path("mended"), "").unwrap();
    eventually("the worker", || (i.get("/api/downloads").status == 200).then_some(()));
}

#[test]
fn out_of_memory_kills_the_processes_of_downloads_first_and_the_gateway_last() {
    let origin = Origin::start();
    let i = up(&origin);
    let score = |pid: u32| -> i32 {
        fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).ok().and_then(|t| t.trim().parse().ok()).unwrap_or(0)
    };
    let gateway = process(&i, "gateway").unwrap();
    let worker = process(&i, "worker").unwrap();
    start_download(&i, &origin.url("stall/sample.mp4"));
    let children = || descendants(worker).into_iter().map(score).max();
    eventually("a child", || (children() > Some(score(worker))).then_some(()));
    assert!(score(gateway) < score(worker), "{} {}", score(gateway), score(worker));
}

#[test]
fn a_sighup_to_up_is_passed_to_its_roles_and_ends_none() {
    let origin = Origin::start();
    let i = up(&origin);
    eventually("both roles", || i.stderr().contains("started").then_some(()));
    let roles = || fs::read_to_string(format!("/proc/{0}/task/{0}/children", i.pid())).unwrap();
    let before = roles();
    let hang_up = || Command::new("kill").args(["-HUP", &i.pid().to_string()]).status().unwrap();
    let reloads = || i.stderr().matches("configuration and policies were reloaded").count();
    for n in 1..=2 {
        hang_up();
        eventually("the reload", || (reloads() == n).then_some(()));
        eventually("the worker's word", || {
            (i.stderr().matches("the worker reads its settings only at startup").count() == n).then_some(())
        });
    }
    assert_eq!(roles(), before);
    assert_eq!(i.get("/api/downloads").status, 200);
}

#[test]
fn one_signal_stops_all_processes() {
    let origin = Origin::start();
    let i = up(&origin);
    let children = descendants(i.pid());
    Command::new("kill").args(["-TERM", &i.pid().to_string()]).status().unwrap();
    eventually("the end", || {
        (!children.iter().any(|pid| alive(*pid)) && TcpStream::connect(i.tls).is_err()).then_some(())
    });
}

pub(crate) fn descendants(pid: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let mut all: Vec<u32> = children.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    for task in tasks {
        let text = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        all.extend(text.split_whitespace().map(|pid| pid.parse::<u32>().unwrap()));
    }
    all.sort_unstable();
    all.dedup();
    let below: Vec<u32> = all.iter().flat_map(|pid| descendants(*pid)).collect();
    all.extend(below);
    all
}

/// Returns true for a running process; a zombie has ended and only waits to be reaped.
pub(crate) fn alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.trim().is_empty() && !rest.trim().starts_with(['Z', 'X']))
}

#[test]
fn another_app_at_the_workers_address_starts_no_worker() {
    let canary = crate::canary::Canary::start();
    let mut i = Instance::made(&["--app", "worker", "--upstream", &canary.address.to_string()]);
    i.replace("listen = \"127.0.0.1:8001\"", &format!("listen = \"{}\"", canary.address));
    i.replace_in("policies/worker.toml", "statement = true", "statement = false");
    i.replace_in("policies/worker.toml", "link_also", "# link_also");
    i.start_role("up");
    assert_eq!(i.get("/api/downloads").body, b"canary");
    assert_eq!(descendants(i.pid()).len(), 1, "only the gateway runs");
}
