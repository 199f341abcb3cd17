//! Large files in both directions: nothing is buffered in memory or on the disk.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    thread,
};

use crate::{client::connect, instance::Instance};

const BYTES: u64 = 10 << 30;
const PIECE: usize = 64 * 1024;
const POLICY: &str = "[defaults]\nmax_body = \"11GiB\"\n[[route]]\nname = \"all\"\nmethods = [\"GET\", \"PUT\"]\npath = \"/{*rest}\"\ncredentials = []\nanonymous = true\n";

/// Starts an upstream that sends or receives ten GiB, and reports how much it received.
fn volumes() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut buffer = vec![0; PIECE];
                let n = stream.read(&mut buffer).unwrap();
                if buffer.starts_with(b"GET") {
                    let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {BYTES}\r\n\r\n");
                    let piece = vec![b'x'; PIECE];
                    while stream.write_all(&piece).is_ok() {}
                    return;
                }
                let head = buffer[..n].windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
                let mut taken = (n - head) as u64;
                let mut last = n;
                while !buffer[..last].ends_with(b"0\r\n\r\n") {
                    last = stream.read(&mut buffer).unwrap();
                    taken += last as u64;
                }
                let response = taken.to_string();
                let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{response}", response.len());
            });
        }
    });
    address
}

/// Returns the peak memory of the process, in KiB.
fn peak_kib(i: &Instance) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", i.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn gigabytes_pass_in_both_directions_with_a_few_mebibytes_of_memory() {
    let i = Instance::with(&volumes().to_string(), |i| {
        fs::write(i.path("policies/volumes.toml"), POLICY).unwrap();
        i.replace("policy = \"worker\"", "policy = \"volumes\"");
    });
    let before = peak_kib(&i);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut stream = connect(i.tls, &i.authority(), rustls::ALL_VERSIONS).unwrap();
            stream.write_all(b"GET /big HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
            let mut buffer = vec![0; PIECE];
            let mut read = 0;
            while let Ok(n @ 1..) = stream.read(&mut buffer) {
                read += n as u64;
            }
            assert!((BYTES..BYTES + 1_000).contains(&read), "{read}");
        });
        scope.spawn(|| {
            let mut stream = connect(i.tls, &i.authority(), rustls::ALL_VERSIONS).unwrap();
            let head =
                "PUT /big HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
            stream.write_all(head.as_bytes()).unwrap();
            let chunk = [format!("{PIECE:x}\r\n").as_bytes(), &vec![b'x'; PIECE], b"\r\n"].concat();
            for _ in 0..BYTES / PIECE as u64 {
                stream.write_all(&chunk).unwrap();
            }
            stream.write_all(b"0\r\n\r\n").unwrap();
            let mut response = String::new();
            let _ = stream.read_to_string(&mut response);
            // The upstream counts what it received, including the framing.
            let taken: u64 = response.rsplit("\r\n").next().unwrap().parse().unwrap();
            assert!(taken >= BYTES, "{response}");
        });
    });
    let grown = peak_kib(&i) - before;
    assert!(grown < 12 * 1024, "memory grew by {grown} KiB");
    let mut files = fs::read_dir(i.path("data")).unwrap().flatten().filter(|file| file.file_name() != "state.reserve");
    assert!(files.all(|file| file.metadata().unwrap().len() < 1 << 20));
}
