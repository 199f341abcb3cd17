//! Socket activation: the test opens the sockets and keeps them open, as systemd does.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    os::{fd::OwnedFd, unix::net::UnixListener},
    process::{Child, Command, Stdio},
    thread,
};

use crate::{
    canary::Canary,
    instance::{Instance, eventually, free_addresses},
    places,
};

/// Runs the gateway with standard input and output as descriptors 3 and 4 (sd_listen_fds(3)).
const PASS: &str = "exec 3<&0 4<&1 </dev/null >/dev/null; export LISTEN_FDS=2 LISTEN_PID=${OF:-$$}; exec \"$@\"";

fn start(i: &Instance, sockets: [OwnedFd; 2], env: &[(&str, &str)]) -> Child {
    let [first, second] = sockets.map(Stdio::from);
    let log = fs::OpenOptions::new().create(true).append(true).open(i.path("stderr")).unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", PASS, "sh"]).arg(places::program()).args(["gateway", "--config"]);
    command.arg(i.path("config.toml")).env_clear().env("PATH", "/usr/bin:/bin").envs(env.iter().copied());
    command.stdin(first).stdout(second).stderr(log).spawn().unwrap()
}

fn instance(canary: &Canary) -> Instance {
    Instance::made(&["--app", "worker", "--upstream", &canary.address.to_string()])
}

#[test]
fn a_restart_with_passed_sockets_refuses_no_connection() {
    let canary = Canary::start();
    let i = instance(&canary);
    let path = i.path("admin.sock");
    i.replace(&format!("admin_listen = \"{}\"", i.admin), &format!("admin_listen = \"unix:{}\"", path.display()));
    let tls = TcpListener::bind(i.tls).unwrap();
    let admin = UnixListener::bind(&path).unwrap();
    let again = || start(&i, [tls.try_clone().unwrap().into(), admin.try_clone().unwrap().into()], &[]);

    let mut child = again();
    assert_eq!(i.get("/api/downloads").status, 200);
    Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(child.wait().unwrap().success());
    thread::scope(|scope| {
        let waiting = scope.spawn(|| i.get("/api/downloads").status);
        assert!(TcpStream::connect(i.tls).is_ok(), "while no process serves it");
        child = again();
        assert_eq!(waiting.join().unwrap(), 200);
    });
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_passed_socket_that_is_not_configured_stops_startup() {
    let canary = Canary::start();
    let i = instance(&canary);
    let [elsewhere] = free_addresses::<1>();
    let sockets = || [i.tls, elsewhere].map(|address| OwnedFd::from(TcpListener::bind(address).unwrap()));
    assert_eq!(start(&i, sockets(), &[]).wait().unwrap().code(), Some(1));
    assert!(
        i.stderr().contains(&format!("cannot listen on {elsewhere}: systemd passed this socket")),
        "{}",
        i.stderr()
    );
}

#[test]
fn descriptors_for_another_process_or_that_are_not_sockets_are_not_served() {
    let canary = Canary::start();
    let i = instance(&canary);
    let file = || OwnedFd::from(fs::File::open("/dev/null").unwrap());
    assert_eq!(start(&i, [file(), file()], &[]).wait().unwrap().code(), Some(1));
    assert!(i.stderr().contains("descriptor 3 that systemd passed is not a socket"), "{}", i.stderr());
    let mut child = start(&i, [file(), file()], &[("OF", "1")]);
    eventually("sockets of its own", || TcpStream::connect(i.tls).ok());
    child.kill().unwrap();
    child.wait().unwrap();
}
