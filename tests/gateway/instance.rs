//! A separate instance for each test: created by `init`, started, killed, sent requests.

use std::{
    env, fs,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    canary::Canary,
    client::{self, Request, Response},
    places,
};
pub(crate) use crate::{
    ports::free_addresses,
    programs::{eventually, yt_dlp},
};

/// An instance and its folder.
pub(crate) struct Instance {
    pub(crate) dir: TempDir,
    pub(crate) tls: SocketAddr,
    pub(crate) plain: SocketAddr,
    pub(crate) admin: SocketAddr,
    /// The output of `init`.
    pub(crate) made: Value,
    pub(crate) child: Option<Child>,
}

impl Instance {
    /// Starts a gateway with the worker's policy in front of the canary.
    pub(crate) fn start(canary: &Canary) -> Self {
        Self::with(&canary.address.to_string(), |_| ())
    }

    /// Starts a gateway in front of `upstream`, after `change` has modified its folder.
    pub(crate) fn with(upstream: &str, change: impl FnOnce(&Self)) -> Self {
        let mut instance = Self::made(&["--app", "worker", "--upstream", upstream]);
        change(&instance);
        instance.start_role("gateway");
        instance
    }

    /// Creates an instance by `init`, with unused ports, without starting it.
    pub(crate) fn made(init: &[&str]) -> Self {
        Self::made_in(tempfile::tempdir().unwrap(), init)
    }

    /// Creates an instance in front of another application, with `policy`.
    pub(crate) fn made_with_policy(name: &str, policy: &str, upstream: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("policies")).unwrap();
        fs::write(dir.path().join("policies").join(name).with_extension("toml"), policy).unwrap();
        Self::made_in(dir, &["--app", name, "--upstream", upstream])
    }

    fn made_in(dir: TempDir, init: &[&str]) -> Self {
        let output = run(&[&["init", "--json", "--dir", dir.path().to_str().unwrap()], init].concat());
        assert!(output.status.success(), "{output:?}");
        let made = serde_json::from_slice(&output.stdout).unwrap();
        let [tls, plain, admin] = free_addresses();
        let instance = Self { dir, tls, plain, admin, made, child: None };
        instance.replace("listen = [\"[::]:8443\"]", &format!("listen = [\"{tls}\"]"));
        instance.replace("http_listen = [\"[::]:8080\"]", &format!("http_listen = [\"{plain}\"]"));
        instance.replace("127.0.0.1:9901", &admin.to_string());
        instance
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Changes `config.toml`.
    pub(crate) fn replace(&self, from: &str, to: &str) {
        self.replace_in("config.toml", from, to);
    }

    pub(crate) fn replace_in(&self, file: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.path(file)).unwrap();
        assert!(text.contains(from), "{from:?} is not in {file}");
        fs::write(self.path(file), text.replacen(from, to, 1)).unwrap();
    }

    pub(crate) fn start_role(&mut self, role: &str) {
        self.child = Some(self.spawn(role, &[]));
        eventually("the gateway", || TcpStream::connect(self.tls).ok());
    }

    /// Starts a role with another executable file.
    pub(crate) fn start_role_of(&mut self, program: &Path, role: &str) {
        self.child = Some(self.spawn_from(program_in(program), role, &[]));
        eventually("the gateway", || TcpStream::connect(self.tls).ok());
    }

    /// Starts without waiting.
    pub(crate) fn spawn(&self, role: &str, env: &[(&str, &str)]) -> Child {
        self.spawn_from(program(), role, env)
    }

    fn spawn_from(&self, mut command: Command, role: &str, env: &[(&str, &str)]) -> Child {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path("stderr")).unwrap();
        command.arg(role).arg("--config").arg(self.path("config.toml")).envs(env.iter().copied());
        command.stdin(Stdio::null()).stderr(log).spawn().unwrap()
    }

    /// Makes a separately started process the instance's own.
    pub(crate) fn adopt(&mut self, child: Child) {
        self.child = Some(child);
    }

    /// Starts a successor to the running process, which may take a while to end.
    pub(crate) fn start_successor(&mut self) {
        let successor = self.spawn("gateway", &[]);
        let mut predecessor = self.child.replace(successor).unwrap();
        std::thread::spawn(move || predecessor.wait());
    }

    /// Waits until the process has exited.
    pub(crate) fn await_end(&mut self) {
        self.child.take().unwrap().wait().unwrap();
    }

    /// Kills the process with SIGKILL, as the kernel or a power cut would.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Runs a command on this instance and returns its JSON output.
    pub(crate) fn command(&self, args: &[&str]) -> Value {
        let output = self.output(args);
        assert!(output.status.success(), "{args:?}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Runs a command that must fail and returns its JSON output.
    pub(crate) fn command_fails(&self, args: &[&str]) -> Value {
        let output = self.output(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    pub(crate) fn output(&self, args: &[&str]) -> Output {
        let config = self.path("config.toml");
        run(&[args, &["--json", "--config", config.to_str().unwrap()]].concat())
    }

    /// Returns the administrator's key, which has every scope.
    pub(crate) fn key(&self) -> &str {
        self.made["api_key"].as_str().unwrap()
    }

    pub(crate) fn new_key(&self, args: &[&str]) -> String {
        self.command(&[&["key", "create"], args].concat())["key"].as_str().unwrap().to_owned()
    }

    pub(crate) fn new_token(&self, args: &[&str]) -> String {
        self.command(&[&["token", "issue"], args].concat())["token"].as_str().unwrap().to_owned()
    }

    pub(crate) fn authority(&self) -> PathBuf {
        self.path("certs/ca.pem")
    }

    pub(crate) fn send(&self, request: &Request) -> Response {
        self.send_bytes(&request.bytes())
    }

    pub(crate) fn send_bytes(&self, bytes: &[u8]) -> Response {
        client::send(self.tls, &self.authority(), bytes)
    }

    /// Sends a GET with the administrator's key.
    pub(crate) fn get(&self, target: &str) -> Response {
        self.send(&Request::new("GET", target).key(self.key()))
    }

    /// Sends a POST with the administrator's key.
    pub(crate) fn post(&self, target: &str, body: &str) -> Response {
        self.send(&Request::new("POST", target).key(self.key()).json(body))
    }

    /// Returns the access log's line for the request, once it is there.
    pub(crate) fn log_line(&self, response: &Response) -> Value {
        let id = response.header("x-request-id").unwrap();
        eventually("a line in the access log", || {
            let log = fs::read_to_string(self.path("data/access.log")).ok()?;
            let line = log.lines().find(|line| line.contains(id))?;
            serde_json::from_str(line).ok()
        })
    }

    pub(crate) fn stderr(&self) -> String {
        fs::read_to_string(self.path("stderr")).unwrap()
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Runs the program until it exits.
pub(crate) fn run(args: &[&str]) -> Output {
    program().args(args).stdin(Stdio::null()).output().unwrap()
}

/// Returns the built program, with only those environment variables that it needs to find other programs.
pub(crate) fn program() -> Command {
    program_in(&places::program())
}

/// Returns the program with a PATH on which yt-dlp and deno are where the project installs them.
fn program_in(file: &Path) -> Command {
    let mut command = Command::new(file);
    let path = env::var_os("PATH").unwrap();
    let tools = places::project().join(".tools/bin");
    let path = env::join_paths(std::iter::once(tools).chain(env::split_paths(&path))).unwrap();
    command.env_clear().env("PATH", path);
    command
}
