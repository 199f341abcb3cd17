//! A separate network for one test: public and private addresses on one loopback, and a name server whose answers change.

use std::{
    collections::HashMap,
    fs,
    net::{IpAddr, SocketAddr, TcpListener, UdpSocket},
    process::Command,
    sync::{Arc, Mutex},
    thread,
};

use hickory_proto::{
    op::{Message, MessageType, ResponseCode},
    rr::{RData, Record, RecordType},
};
use rustix::thread::UnshareFlags;
use tempfile::TempDir;

use crate::skips::skipped;

/// A public address, which is on loopback here.
pub(crate) const PUBLIC: &str = "93.184.216.34";

/// Private addresses, which must never be reached.
const PRIVATE: [&str; 6] =
    ["10.0.0.5/32", "192.168.1.1/32", "100.64.0.9/32", "169.254.169.254/32", "fd00::5/128", "fe80::5/128"];

/// The successive answers for each name.
type Names = HashMap<String, Vec<Vec<IpAddr>>>;

/// The network, for the lifetime of this value. The test's thread and its children are in it.
pub(crate) struct Town {
    names: Arc<Mutex<Names>>,
    /// The names in the questions so far.
    asked: Arc<Mutex<Vec<String>>>,
    _dir: TempDir,
}

/// A listener that records every connection and datagram.
#[derive(Clone)]
pub(crate) struct Canary(Arc<Mutex<Vec<String>>>);

impl Town {
    /// Enters a new network. Returns none, and reports the test as skipped, if this user may not create one.
    pub(crate) fn enter() -> Option<Self> {
        if unshare(UnshareFlags::NEWNET | UnshareFlags::NEWNS).is_err() {
            skipped("only root can create a network for a test");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("resolv.conf"), "nameserver 127.0.0.1\n").unwrap();
        fs::write(dir.path().join("hosts"), "127.0.0.1 localhost\n").unwrap();
        run("mount", &["--make-rprivate", "/"]);
        for name in ["resolv.conf", "hosts"] {
            run("mount", &["--bind", dir.path().join(name).to_str().unwrap(), &format!("/etc/{name}")]);
        }
        run("ip", &["link", "set", "lo", "up"]);
        for address in PRIVATE.iter().copied().chain([&*format!("{PUBLIC}/32"), "93.184.216.35/32"]) {
            run("ip", &["address", "add", address, "dev", "lo", "nodad"]);
        }
        let names = Arc::default();
        let asked = Arc::default();
        answer_names(&names, &asked);
        Some(Self { names, asked, _dir: dir })
    }

    /// Sets the responses for a name: one list after the other, then the last one forever. While a list is empty, there is no response at
    /// all.
    pub(crate) fn name(&self, name: &str, responses: &[&[&str]]) {
        let responses = responses.iter().map(|list| list.iter().map(|ip| ip.parse().unwrap()).collect()).collect();
        self.names.lock().unwrap().insert(format!("{name}."), responses);
    }
}

impl Town {
    pub(crate) fn asked(&self, name: &str) -> bool {
        self.asked.lock().unwrap().contains(&format!("{name}."))
    }
}

impl Canary {
    pub(crate) fn new() -> Self {
        Self(Arc::default())
    }

    /// Listens on all these addresses, without answering.
    pub(crate) fn at(&self, addresses: &[&str]) {
        for address in addresses {
            let address: SocketAddr = address.parse().unwrap();
            let listener = TcpListener::bind(address).unwrap_or_else(|e| panic!("{address}: {e}"));
            let seen = self.clone();
            thread::spawn(move || {
                for _ in listener.incoming() {
                    seen.0.lock().unwrap().push(format!("tcp {address}"));
                }
            });
            let socket = UdpSocket::bind(address).unwrap();
            let seen = self.clone();
            thread::spawn(move || {
                while socket.recv(&mut [0; 9]).is_ok() {
                    seen.0.lock().unwrap().push(format!("udp {address}"));
                }
            });
        }
    }

    pub(crate) fn seen(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

#[expect(deprecated, reason = "it is unsound only with UnshareFlags::FILES, which is not used here")]
pub(crate) fn unshare(flags: UnshareFlags) -> rustix::io::Result<()> {
    rustix::thread::unshare(flags)
}

pub(crate) fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {output:?}");
}

fn answer_names(names: &Arc<Mutex<Names>>, asked: &Arc<Mutex<Vec<String>>>) {
    let socket = UdpSocket::bind("127.0.0.1:53").unwrap();
    let names = Arc::clone(names);
    let asked = Arc::clone(asked);
    thread::spawn(move || {
        let mut packet = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut packet) {
            let query = Message::from_vec(&packet[..length]).unwrap();
            let name = query.queries[0].name().to_string().to_lowercase();
            let mut names = names.lock().unwrap();
            let is_silent = names.get(&name).is_some_and(|responses| responses[0].is_empty());
            asked.lock().unwrap().push(name);
            if !is_silent {
                socket.send_to(&respond(&query, &mut names).to_vec().unwrap(), from).unwrap();
            }
        }
    });
}

fn respond(query: &Message, names: &mut Names) -> Message {
    let question = query.queries[0].clone();
    let mut message = Message::new(query.metadata.id, MessageType::Response, query.metadata.op_code);
    message.add_query(question.clone());
    let Some(responses) = names.get_mut(&question.name().to_string().to_lowercase()) else {
        message.metadata.response_code = ResponseCode::NXDomain;
        return message;
    };
    for ip in &responses[0] {
        let data = match (ip, question.query_type()) {
            (IpAddr::V4(v4), RecordType::A) => RData::A((*v4).into()),
            (IpAddr::V6(v6), RecordType::AAAA) => RData::AAAA((*v6).into()),
            _ => continue,
        };
        message.add_answer(Record::from_rdata(question.name().clone(), 0, data));
    }
    // A lookup queries both record types; the second query completes it.
    if question.query_type() == RecordType::AAAA && responses.len() > 1 {
        responses.remove(0);
    }
    message
}
