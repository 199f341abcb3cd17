//! Several files as one ZIP archive, read by third-party programs.

use std::{
    fs,
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    process::Command,
    thread,
    time::Duration,
};

use sallyport_core::{
    names::role::Role,
    statement::{HEADER, Statement},
};

use crate::{
    client::{Request, sign, statement},
    media,
    origin::Origin,
    process::{Worker, signal},
};

/// Lists the names, sizes and hashes in an archive, after checking every checksum.
fn listed(archive: &[u8]) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), archive).unwrap();
    let script = include_str!("python/list_archive.py");
    let python = Command::new("python3").args(["-X", "utf8", "-c", script]).arg(file.path()).output().unwrap();
    assert!(python.status.success(), "{python:?}");
    if let Ok(unzip) = Command::new("unzip").arg("-tqq").arg(file.path()).output() {
        assert!(unzip.status.success(), "{unzip:?}");
    }
    String::from_utf8(python.stdout).unwrap()
}

#[test]
fn several_files_are_sent_as_one_archive() {
    use sha2::{Digest, Sha256};
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    origin.serve("page.html", "<html><head><title>🎬 a/b</title></head><body><video src=sample.mp4></video></body>");
    let tasks = ["sample.mp4", "page.html"].map(|name| worker.completed("ana", &origin.url(name)));
    let [first, second] = [0, 1].map(|i| tasks[i]["id"].as_str().unwrap());
    let target = format!("/api/v2/zip?ids={second},{first},{second}");
    let response = worker.get("ana", &target);
    assert_eq!((response.status, response.header("content-type")), (200, Some("application/zip")));
    assert_eq!(response.header("content-disposition"), Some("attachment; filename=\"downloads.zip\""));
    let source = media::read("sample.mp4");
    let hash = data_encoding::HEXLOWER.encode(&Sha256::digest(&source));
    let line = |i: usize| format!("{} {} {hash}\n", tasks[i]["filename"].as_str().unwrap(), source.len());
    assert_eq!(listed(&response.body), line(1) + &line(0));
    let head = Request::new("HEAD", &target).signed("ana", worker.address).send(worker.address);
    assert_eq!((head.status, head.header("content-type"), head.body.len()), (200, Some("application/zip"), 0));

    let running = worker.download("ana", &origin.url("stall/sample.mp4"));
    let unknown = "550e8400-e29b-41d4-a716-446655440000";
    for ids in [unknown, &running, "x", "", &format!("{first},"), &format!("{first},{unknown}")] {
        assert_eq!(worker.get("ana", &format!("/api/v2/zip?ids={ids}")).status, 404, "{ids}");
    }
    assert_eq!(worker.get("bob", &target).status, 404, "another user's files");
    assert_eq!(worker.get("admin", &target).status, 200);
    for query in ["", "?id=x", "?ids=x&ids=y", "?ids=x&more=y"] {
        assert_eq!(worker.get("ana", &format!("/api/v2/zip{query}")).status, 400, "{query}");
    }
}

/// Starts a worker with a finished file that exceeds all buffers on the way. Also returns the target of its archive.
fn with_large_file(origin: &Origin) -> (Worker, String) {
    let worker = Worker::start(origin);
    let task = worker.completed("ana", &origin.url("sample.mp4"));
    let id = task["id"].as_str().unwrap();
    let video = fs::OpenOptions::new().append(true).open(worker.media(id).join("media.mp4")).unwrap();
    video.set_len(200 << 20).unwrap();
    let target = format!("/api/v2/zip?ids={id}");
    (worker, target)
}

/// Builds a request by a user who may read everybody's files, by a link or not.
fn request_by<'a>(worker: &Worker, target: &'a str, user: &str, link: Option<&str>) -> Request<'a> {
    let link_id = link.map(str::to_owned);
    let requested = Statement { role: Role::Admin, link_id, ..statement(Some(user), worker.address, "GET", target) };
    Request::new("GET", target).header(HEADER, sign(&requested))
}

/// Requests an archive and reads the first bytes of the response.
fn begin(worker: &Worker, request: &Request<'_>) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(worker.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(40))).unwrap();
    stream.write_all(request.to_string().as_bytes()).unwrap();
    let mut start = [0; 12];
    stream.read_exact(&mut start).unwrap();
    (stream, String::from_utf8(start.to_vec()).unwrap())
}

const USERS: [&str; 5] = ["ana", "bob", "carl", "dora", "eve"];

const OK: &str = "HTTP/1.1 200";
const BUSY: &str = "HTTP/1.1 503";

#[test]
fn archives_are_limited_in_total_more_per_user_and_most_per_link() {
    let origin = Origin::start();
    let (worker, target) = with_large_file(&origin);
    let of = |user: usize| request_by(&worker, &target, USERS[user], None);
    let by_link = |id: &str| request_by(&worker, &target, USERS[0], Some(id));
    // Clients that read are not disconnected; each of these keeps reading in the background.
    let reading = |request: Request<'_>| {
        let (stream, start) = begin(&worker, &request);
        assert_eq!(start, OK);
        Reader::of(stream)
    };
    let first = [reading(by_link("l1")), reading(by_link("l1"))];
    thread::scope(|scope| {
        let third = scope.spawn(|| begin(&worker, &by_link("l1")).1);
        // Until the request waits for a place, which nothing shows.
        thread::sleep(Duration::from_secs(1));
        let _own = reading(of(0));
        assert_eq!(third.join().unwrap(), BUSY, "two per link, although the user has places left");
    });
    let mut anas = Vec::from(first);
    anas.extend([reading(by_link("l2")), reading(of(0))]);
    thread::scope(|scope| {
        let fifth = scope.spawn(|| begin(&worker, &of(0)).1);
        let fifth_by_link = scope.spawn(|| begin(&worker, &by_link("l3")).1);
        assert_eq!(fifth.join().unwrap(), BUSY, "four per user");
        assert_eq!(fifth_by_link.join().unwrap(), BUSY);
    });
    let others: Vec<_> = (1..4).flat_map(|user| [user; 4]).map(|user| reading(of(user))).collect();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| begin(&worker, &of(4)).1);
        // Until the request waits for a place, which nothing shows.
        thread::sleep(Duration::from_secs(2));
        anas.pop();
        assert_eq!(waiting.join().unwrap(), OK, "a waiting request gets the place that becomes free");
    });
    drop(others);
}

#[test]
fn an_unread_archive_makes_room_for_others_and_does_not_end_as_if_complete() {
    let origin = Origin::start();
    let (worker, target) = with_large_file(&origin);
    let of = |user: usize| request_by(&worker, &target, USERS[user], None);
    let mut unread: Vec<_> = (0..16).map(|n| begin(&worker, &of(n / 4))).collect();
    assert!(unread.iter().all(|(_, start)| start == OK), "{unread:?}");
    let (mut eves, start) = begin(&worker, &of(4));
    assert_eq!(start, OK, "one of the unread archives made room");
    let mut head = vec![0; 65_536];
    eves.read_exact(&mut head).unwrap();
    let broken = unread.iter_mut().filter(|(stream, _)| {
        // An archive that was ended delivers only what was in flight; one that continues would deliver all of it.
        let mut rest = Vec::new();
        let read = stream.take(16 << 20).read_to_end(&mut rest);
        read.is_err() || (rest.len() < 16 << 20 && !rest.ends_with(b"0\r\n\r\n"))
    });
    assert!(broken.count() >= 1);
}

/// Keeps reading at 300 KiB per second until it is dropped.
struct Reader {
    stream: TcpStream,
}

impl Reader {
    fn of(stream: TcpStream) -> Self {
        let mut reading = stream.try_clone().unwrap();
        thread::spawn(move || {
            let mut piece = vec![0; 32 << 10];
            while reading.read(&mut piece).is_ok_and(|read| read > 0) {
                // The pace of the reader.
                thread::sleep(Duration::from_millis(100));
            }
        });
        Self { stream }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

#[test]
fn a_request_that_waits_for_a_place_does_not_delay_a_stopping_worker() {
    let origin = Origin::start();
    let (mut worker, target) = with_large_file(&origin);
    let by_link = || request_by(&worker, &target, USERS[0], Some("l1"));
    let _held = [begin(&worker, &by_link()), begin(&worker, &by_link())];
    let pid = worker.pid();
    let request = by_link();
    thread::scope(|scope| {
        let third = scope.spawn(|| begin(&worker, &request).1);
        // Until the request waits for a place, which nothing shows.
        thread::sleep(Duration::from_secs(1));
        signal("-TERM", pid);
        // The worker ends after `drain_timeout`, which is shorter than the wait for a place.
        assert_eq!(third.join().unwrap(), BUSY);
    });
    assert!(worker.wait().success());
}
