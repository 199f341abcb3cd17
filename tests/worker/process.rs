//! The built worker as a separate process: started, killed, and started again on the same folder.

use std::{
    env, fs,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

pub(crate) use crate::programs::{eventually, yt_dlp};
use crate::{
    client::{KEY, Request, Response},
    origin::Origin,
    places,
    ports::free_addresses,
};

/// A worker and its folder.
pub(crate) struct Worker {
    pub(crate) dir: TempDir,
    pub(crate) address: SocketAddr,
    child: Child,
    wrapper: &'static [&'static str],
}

/// A configuration beyond the defaults of these tests.
pub(crate) struct Setup {
    pub(crate) yt_dlp: PathBuf,
    pub(crate) extra: &'static str,
    /// A command that starts the worker; empty to start it directly.
    pub(crate) wrapper: &'static [&'static str],
}

impl Default for Setup {
    fn default() -> Self {
        Self { yt_dlp: yt_dlp(), extra: "", wrapper: &[] }
    }
}

impl Worker {
    pub(crate) fn start(origin: &Origin) -> Self {
        Self::with(origin, &Setup::default())
    }

    pub(crate) fn with(origin: &Origin, setup: &Setup) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let [address] = free_addresses();
        fs::create_dir_all(dir.path().join("data/secrets")).unwrap();
        let key = dir.path().join("data/secrets/worker.key");
        fs::write(&key, KEY).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        let config = format!(
            "[worker]\nlisten = \"{address}\"\nyt_dlp = \"{}\"\nallow_private = [\"{}\"]\n\
             retry_delay = \"300ms\"\n{}\n",
            setup.yt_dlp.display(),
            origin.address,
            setup.extra
        );
        fs::write(dir.path().join("config.toml"), config).unwrap();
        let child = spawn(dir.path(), setup.wrapper);
        let worker = Self { dir, address, child, wrapper: setup.wrapper };
        worker.wait_until_ready();
        worker
    }

    /// Sends SIGKILL, like the kernel, or a power cut.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends SIGTERM. Returns true if the worker exited successfully.
    pub(crate) fn terminate(&mut self) -> bool {
        signal("-TERM", self.child.id());
        self.wait().success()
    }

    /// Waits until the worker exits.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// Changes the configuration for the next start.
    pub(crate) fn reconfigure(&self, from: &str, to: &str) {
        let path = self.dir.path().join("config.toml");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(path, text.replace(from, to)).unwrap();
    }

    pub(crate) fn start_again(&mut self) {
        self.child = spawn(self.dir.path(), self.wrapper);
        self.wait_until_ready();
    }

    /// Starts without waiting, for a worker that listens elsewhere.
    pub(crate) fn start_blindly(&mut self) {
        self.child = spawn(self.dir.path(), &[]);
    }

    /// Starts a second worker on the same folder. Returns whether it exited successfully.
    pub(crate) fn second(&self) -> bool {
        spawn(self.dir.path(), &[]).wait().unwrap().success()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    pub(crate) fn get(&self, user: &str, target: &str) -> Response {
        Request::new("GET", target).signed(user, self.address).send(self.address)
    }

    pub(crate) fn delete(&self, user: &str, target: &str) -> Response {
        Request::new("DELETE", target).signed(user, self.address).send(self.address)
    }

    pub(crate) fn post(&self, user: &str, target: &str, body: &str) -> Response {
        Request::new("POST", target).json(body).signed(user, self.address).send(self.address)
    }

    /// Starts a download and returns its id.
    pub(crate) fn download(&self, user: &str, url: &str) -> String {
        let response = self.post(user, "/api/download", &format!("{{\"url\":\"{url}\"}}"));
        assert_eq!(response.status, 200, "{:?}", response.json());
        response.json()["id"].as_str().unwrap().to_owned()
    }

    /// Returns one task from the administrator's list.
    pub(crate) fn task(&self, id: &str) -> Option<Value> {
        let list = self.get("admin", "/api/downloads").json();
        list.as_array().unwrap().iter().find(|task| task["id"] == id).cloned()
    }

    pub(crate) fn wait_for(&self, id: &str, what: impl Fn(&Value) -> bool) -> Value {
        eventually(&format!("task {id}"), || self.task(id).filter(&what))
    }

    pub(crate) fn wait_for_status(&self, id: &str, status: &str) -> Value {
        self.wait_for(id, |task| {
            assert!(task["status"] != "error" || status == "error", "{task}");
            task["status"] == status
        })
    }

    /// Downloads a URL and returns the completed task.
    pub(crate) fn completed(&self, user: &str, url: &str) -> Value {
        let id = self.download(user, url);
        self.wait_for_status(&id, "completed")
    }

    pub(crate) fn job(&self, id: &str) -> PathBuf {
        self.dir.path().join("data/media/.jobs").join(id)
    }

    pub(crate) fn media(&self, id: &str) -> PathBuf {
        self.dir.path().join("data/media").join(id)
    }

    /// Waits until at least `bytes` of a download are on disk.
    pub(crate) fn wait_for_partial(&self, id: &str, bytes: u64) {
        let folder = self.job(id).join("work/tmp");
        eventually("a partial file", || {
            let size = |entry: fs::DirEntry| entry.metadata().map_or(0, |m| m.len());
            let total: u64 = fs::read_dir(&folder).ok()?.flatten().map(size).sum();
            (total >= bytes).then_some(())
        });
    }

    fn wait_until_ready(&self) {
        eventually("the worker", || self.responses().ok().filter(|responses| *responses));
    }

    /// Asks the worker whether it serves requests. A connection alone shows nothing: if the worker is killed while it starts a child,
    /// its socket stays open until the child runs its own program.
    fn responses(&self) -> io::Result<bool> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: worker\r\nconnection: close\r\n\r\n")?;
        let mut response = String::new();
        stream.read_to_string(&mut response)?;
        Ok(response.starts_with("HTTP/1.1 200"))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The ids of processes that work for a task.
pub(crate) fn processes_of(id: &str) -> Vec<u32> {
    let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|e| e.file_name().to_str()?.parse().ok());
    pids.filter(|pid| {
        let folder = fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
        folder.to_string_lossy().contains(id)
    })
    .collect()
}

pub(crate) fn signal(signal: &str, pid: u32) {
    assert!(Command::new("kill").args([signal, &pid.to_string()]).status().unwrap().success());
}

fn spawn(dir: &Path, wrapper: &[&str]) -> Child {
    let program = places::program();
    let mut words = wrapper.iter().copied().chain(program.to_str());
    Command::new(words.next().unwrap())
        .args(words)
        .args(["worker", "--config"])
        .arg(dir.join("config.toml"))
        .env_clear()
        .env("PATH", env::var_os("PATH").unwrap())
        .env("OF_THE_WORKER_ALONE", "secret")
        .stdin(Stdio::null())
        .stderr(fs::OpenOptions::new().create(true).append(true).open(dir.join("log")).unwrap())
        .spawn()
        .unwrap()
}
