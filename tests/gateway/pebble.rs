//! A real ACME authority on loopback (pebble), and the name server that it queries (pebble-challtestsrv, or a given one).

use std::{
    env, fs,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    client,
    instance::{Instance, eventually, free_addresses},
    places,
};

/// The behaviour of the authority.
pub(crate) struct Habits {
    /// The validity of its certificates, in seconds.
    pub(crate) validity: u32,
    /// The percentage of valid nonces that it refuses.
    pub(crate) bad_nonces: u32,
    /// The port for TLS-ALPN-01; the gateway's by default.
    pub(crate) tls_port: Option<u16>,
    /// A domain that it issues no certificates for.
    pub(crate) blocked: &'static str,
    /// The account that ours must be bound to, and its key.
    pub(crate) external_account: Option<(&'static str, &'static str)>,
    /// The name server that it queries.
    pub(crate) name_server: Option<SocketAddr>,
}

/// The authority, with its addresses and files.
pub(crate) struct Pebble {
    address: SocketAddr,
    management: SocketAddr,
    pub(crate) names: NameServer,
    dir: TempDir,
    environment: Vec<(&'static str, String)>,
    authority: Option<Program>,
}

/// A name server that resolves every name to loopback.
pub(crate) struct NameServer {
    pub(crate) dns: SocketAddr,
    pub(crate) management: SocketAddr,
    _program: Program,
}

/// A program that is killed at the end of its test.
pub(crate) struct Program(pub(crate) Child);

impl Default for Habits {
    fn default() -> Self {
        Self {
            validity: 90 * 86_400,
            bad_nonces: 5,
            tls_port: None,
            blocked: "blocked.example.org",
            external_account: None,
            name_server: None,
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl NameServer {
    fn start() -> Self {
        let [dns, management] = free_addresses();
        let mut command = Command::new(installed("pebble-challtestsrv"));
        command.args([
            "-http01",
            "",
            "-https01",
            "",
            "-tlsalpn01",
            "",
            "-defaultIPv6",
            "",
            "-defaultIPv4",
            "127.0.0.1",
        ]);
        command.args(["-dns01", &dns.to_string(), "-management", &management.to_string()]);
        let program = Program(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        eventually("the name server", || TcpStream::connect(management).ok());
        Self { dns, management, _program: program }
    }
}

impl Pebble {
    /// Starts an authority that checks the ports of `i`.
    pub(crate) fn start(i: &Instance, habits: &Habits) -> Self {
        let mut pebble = Self::prepared(i, habits);
        pebble.run();
        pebble
    }

    /// Prepares such an authority without starting it.
    pub(crate) fn prepared(i: &Instance, habits: &Habits) -> Self {
        let [address, management] = free_addresses();
        let names = NameServer::start();
        let dir = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        fs::write(dir.path().join("cert.pem"), made.cert.pem()).unwrap();
        fs::write(dir.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        let keys: serde_json::Map<_, _> =
            habits.external_account.iter().map(|(id, key)| ((*id).to_owned(), Value::from(*key))).collect();
        let config = json!({"pebble": {
            "listenAddress": address.to_string(),
            "managementListenAddress": management.to_string(),
            "certificate": dir.path().join("cert.pem"),
            "privateKey": dir.path().join("key.pem"),
            "httpPort": i.plain.port(),
            "tlsPort": habits.tls_port.unwrap_or(i.tls.port()),
            "certificateValidityPeriod": habits.validity,
            "domainBlocklist": [habits.blocked],
            "externalAccountBindingRequired": habits.external_account.is_some(),
            "externalAccountMACKeys": keys,
        }});
        fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
        let name_server = habits.name_server.unwrap_or(names.dns);
        let environment = vec![
            ("PEBBLE_VA_NOSLEEP", "1".to_owned()),
            ("PEBBLE_AUTHZREUSE", "0".to_owned()),
            ("PEBBLE_WFE_NONCEREJECT", habits.bad_nonces.to_string()),
            ("NAME_SERVER", name_server.to_string()),
        ];
        Self { address, management, names, dir, environment, authority: None }
    }

    pub(crate) fn run(&mut self) {
        let name_server = &self.environment.iter().find(|(name, _)| *name == "NAME_SERVER").unwrap().1;
        let mut command = Command::new(installed("pebble"));
        command.arg("-config").arg(self.dir.path().join("config.json")).args(["-dnsserver", name_server]);
        command.envs(self.environment.iter().cloned()).stdout(Stdio::null()).stderr(Stdio::null());
        self.authority = Some(Program(command.spawn().unwrap()));
        eventually("the authority", || TcpStream::connect(self.management).ok());
    }

    /// Stops the authority, which forgets its accounts, orders and root.
    pub(crate) fn end(&mut self) {
        self.authority = None;
    }

    pub(crate) fn directory(&self) -> String {
        format!("https://{}/dir", self.address)
    }

    /// Returns the file with the CA certificate of the authority's own web server.
    pub(crate) fn ca(&self) -> PathBuf {
        self.dir.path().join("cert.pem")
    }

    /// Returns an `[[tls.acme.authority]]` table for it.
    pub(crate) fn table(&self) -> String {
        format!("[[tls.acme.authority]]\ndirectory = \"{}\"\nca = \"{}\"\n", self.directory(), self.ca().display())
    }

    /// Writes the root of its certificates to a file.
    pub(crate) fn root(&self) -> PathBuf {
        let request = b"GET /roots/0 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        let response = client::send(self.management, &self.ca(), request);
        let file = self.dir.path().join("root.pem");
        fs::write(&file, response.body).unwrap();
        file
    }
}

/// Finds a program on the PATH, or panics with the name of the missing one.
pub(crate) fn installed(name: &str) -> PathBuf {
    let path = env::var_os("PATH").unwrap();
    let tools = places::project().join(".tools/bin");
    let folders = env::split_paths(&path).chain([tools, "/usr/sbin".into()]);
    let found = folders.map(|folder: PathBuf| folder.join(name)).find(|file: &PathBuf| Path::exists(file));
    found.unwrap_or_else(|| panic!("{name} is not installed; scripts/test installs it"))
}
