//! Several files as one ZIP archive, read by somebody else's programs.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    process::Command,
};

use crate::{
    client::Request,
    media,
    origin::Origin,
    process::{Worker, eventually},
};

/// What lies in chunks (RFC 9112, section 7.1).
fn dechunked(mut rest: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    loop {
        let end = rest.windows(2).position(|pair| pair == b"\r\n").unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        if size == 0 {
            return whole;
        }
        whole.extend(&rest[end + 2..end + 2 + size]);
        rest = &rest[end + 2 + size + 2..];
    }
}

/// Names and sizes, once every checksum was right.
fn listed(archive: &[u8]) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), archive).unwrap();
    let script = "import sys, zipfile, hashlib\nz = zipfile.ZipFile(sys.argv[1])\nassert z.testzip() is None\n\
                  for i in z.infolist(): print(i.filename, i.file_size, hashlib.sha256(z.read(i)).hexdigest())";
    let python = Command::new("python3").args(["-X", "utf8", "-c", script]).arg(file.path()).output().unwrap();
    assert!(python.status.success(), "{python:?}");
    if let Ok(unzip) = Command::new("unzip").arg("-tqq").arg(file.path()).output() {
        assert!(unzip.status.success(), "{unzip:?}");
    }
    String::from_utf8(python.stdout).unwrap()
}

#[test]
fn several_files_come_as_one_archive() {
    use sha2::{Digest, Sha256};
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    origin.serve("page.html", "<html><head><title>🎬 a/b</title></head><body><video src=sample.mp4></video></body>");
    let tasks = ["sample.mp4", "page.html"].map(|name| worker.completed("ana", &origin.url(name)));
    let [first, second] = [0, 1].map(|i| tasks[i]["id"].as_str().unwrap());
    let target = format!("/api/v2/zip?ids={second},{first},{second}");
    let answer = worker.get("ana", &target);
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/zip")));
    assert_eq!(answer.header("content-disposition"), Some("attachment; filename=\"downloads.zip\""));
    let source = media::read("sample.mp4");
    let hash = data_encoding::HEXLOWER.encode(&Sha256::digest(&source));
    let line = |i: usize| format!("{} {} {hash}\n", tasks[i]["filename"].as_str().unwrap(), source.len());
    assert_eq!(listed(&dechunked(&answer.body)), line(1) + &line(0));
    let head = Request::new("HEAD", &target).signed("ana", worker.address).send(worker.address);
    assert_eq!((head.status, head.header("content-type"), head.body.len()), (200, Some("application/zip"), 0));

    let running = worker.download("ana", &origin.url("stall/sample.mp4"));
    let unknown = "550e8400-e29b-41d4-a716-446655440000";
    for ids in [unknown, &running, "x", "", &format!("{first},"), &format!("{first},{unknown}")] {
        assert_eq!(worker.get("ana", &format!("/api/v2/zip?ids={ids}")).status, 404, "{ids}");
    }
    assert_eq!(worker.get("bob", &target).status, 404, "another's");
    assert_eq!(worker.get("admin", &target).status, 200);
    for query in ["", "?id=x", "?ids=x&ids=y", "?ids=x&more=y"] {
        assert_eq!(worker.get("ana", &format!("/api/v2/zip{query}")).status, 400, "{query}");
    }
}

#[test]
fn archives_have_so_many_threads_and_a_client_that_leaves_gives_its_own_back() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    let task = worker.completed("ana", &origin.url("sample.mp4"));
    let id = task["id"].as_str().unwrap();
    // More than the buffers on the way take.
    let film = fs::OpenOptions::new().append(true).open(worker.media(id).join("media.mp4")).unwrap();
    film.set_len(200 << 20).unwrap();
    let target = format!("/api/v2/zip?ids={id}");
    let begin = || {
        let mut stream = TcpStream::connect(worker.address).unwrap();
        stream.write_all(Request::new("GET", &target).signed("ana", worker.address).to_string().as_bytes()).unwrap();
        let mut start = [0; 12];
        stream.read_exact(&mut start).unwrap();
        (stream, String::from_utf8(start.to_vec()).unwrap())
    };
    let mut readers: Vec<_> = (0..16).map(|_| begin()).collect();
    assert!(readers.iter().all(|(_, start)| start == "HTTP/1.1 200"), "{readers:?}");
    assert_eq!(begin().1, "HTTP/1.1 503");
    readers.pop();
    eventually("a free thread", || (begin().1 == "HTTP/1.1 200").then_some(()));
}
