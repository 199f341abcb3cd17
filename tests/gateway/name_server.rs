//! A real name server on loopback (BIND's named) with a zone that accepts updates signed with a key.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    process::{Command, Stdio},
};

use tempfile::TempDir;

use crate::{
    instance::{eventually, free_addresses},
    pebble::{Program, installed},
};

/// The name server of `example.org`, whose key may write only the challenge record of `home.example.org`.
pub(crate) struct Named {
    pub(crate) address: SocketAddr,
    dir: TempDir,
    _program: Program,
}

impl Named {
    /// Starts the server with a key named `sallyport`.
    pub(crate) fn start(algorithm: &str, key: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let [address] = free_addresses();
        let path = dir.path().display();
        let port = address.port();
        let config = format!(
            "options {{ directory \"{path}\"; listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};\n\
             recursion no; dnssec-validation no; pid-file none; session-keyfile none; }};\n\
             controls {{ }};\n\
             key \"sallyport\" {{ algorithm {algorithm}; secret \"{key}\"; }};\n\
             zone \"example.org\" {{ type primary; file \"zone\";\n\
             update-policy {{ grant sallyport name _acme-challenge.home.example.org. TXT; }}; }};\n"
        );
        fs::write(dir.path().join("named.conf"), config).unwrap();
        let zone = "$TTL 60\n@ SOA ns.example.org. me.example.org. 1 60 60 60 60\n@ NS ns\nns A 127.0.0.1\n";
        fs::write(dir.path().join("zone"), zone).unwrap();
        let mut command = Command::new(installed("named"));
        command.args(["-f", "-c"]).arg(dir.path().join("named.conf"));
        let log = fs::File::create(dir.path().join("log")).unwrap();
        let program = Program(command.arg("-g").stdout(Stdio::null()).stderr(log).spawn().unwrap());
        eventually("the name server", || TcpStream::connect(address).ok());
        Self { address, dir, _program: program }
    }

    /// Returns its log of updates.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap()
    }
}
