//! The access log and standard error under a flood: bounded, fair to each user and client, and intact.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    canary::Canary,
    client::Request,
    disk::Disk,
    floods::{END_HEADERS, END_STREAM, HEADERS, Stream, WINDOW_UPDATE, ends, frame, start},
    instance::{Instance, eventually},
};

/// Parses each line: none is torn, none is glued to another. The last one may not be complete yet.
fn lines(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

fn log(i: &Instance) -> Vec<Value> {
    lines(&i.path("data/access.log"))
}

/// Returns the number of requests that a line covers.
fn requests(line: &Value) -> u64 {
    line["more"].as_u64().unwrap_or(1)
}

/// Returns two HPACK blocks of a GET: one that sends the path and adds it to the dynamic table, and one that refers to it by index
/// (RFC 7541, section 6.1).
fn long_path_heads(path: &str) -> (Vec<u8>, Vec<u8>) {
    let rest = path.len() - 127;
    let length = [0x7f, u8::try_from(rest & 0x7f | 0x80).unwrap(), u8::try_from(rest >> 7).unwrap()];
    let host = [&[0x01, 9][..], b"localhost"].concat();
    let first = [&[0x82, 0x87, 0x44][..], &length, path.as_bytes(), &host].concat();
    (first, [&[0x82, 0x87, 0x80 | 0x3e][..], &host].concat())
}

/// Reads until `missing` streams have ended.
fn await_ends(stream: &mut Stream, mut missing: usize) {
    let mut buffer = Vec::new();
    let mut piece = vec![0; 64 << 10];
    while missing > 0 {
        let n = stream.read(&mut piece).unwrap();
        assert!(n > 0, "{missing} streams have not ended");
        buffer.extend_from_slice(&piece[..n]);
        while let [a, b, c, kind, flags, ..] = buffer[..] {
            let length = 9 + u32::from_be_bytes([0, a, b, c]) as usize;
            if buffer.len() < length {
                break;
            }
            missing -= usize::from(kind <= HEADERS && flags & END_STREAM != 0);
            buffer.drain(..length);
        }
    }
}

#[test]
fn a_long_path_that_is_sent_once_does_not_fill_the_log() {
    const REQUESTS: usize = 4_000;
    let canary = Canary::start();
    let i = Instance::start(&canary);
    let begun = Instant::now();
    let (first, again) = long_path_heads(&format!("/{}", "a".repeat(3_949)));
    let mut connection = start(&i);
    connection.write_all(&frame(WINDOW_UPDATE, 0, 0, &0x7fff_0000_u32.to_be_bytes())).unwrap();
    for n in 0..REQUESTS {
        let head = if n == 0 { &first } else { &again };
        let id = u32::try_from(2 * n + 1).unwrap();
        connection.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, id, head)).unwrap();
        if n % 50 == 49 {
            await_ends(&mut connection, 50);
        }
    }
    let seconds = begun.elapsed().as_secs() + 2;
    let said = eventually("lines for all requests", || {
        let said = log(&i);
        (said.iter().map(requests).sum::<u64>() >= REQUESTS as u64).then_some(said)
    });
    assert_eq!(said.iter().map(requests).sum::<u64>(), REQUESTS as u64, "each request has a line or is counted");
    let size = fs::metadata(i.path("data/access.log")).unwrap().len();
    assert!(size < seconds * 200 * 1_600, "{size} bytes in {seconds} s");
    let more = said.iter().find(|line| line["more"].is_u64()).unwrap();
    let of_them = (&more["client_ip"], &more["code"], &more["why"]);
    assert_eq!(of_them, (&"127.0.0.1".into(), &"no_route".into(), &"client_budget".into()));
    assert_eq!((said[0]["path"].as_str().unwrap().len(), &said[0]["path_length"]), (1_024, &3_950.into()));
    let metrics = crate::admin::metric(&i, "sallyport_access_log_left_out_total{reason=\"client_budget\"}");
    assert!(metrics > 0.0, "{metrics}");
}

#[test]
fn each_client_has_its_own_lines_and_the_rest_is_one_summary() {
    let canary = Canary::start();
    let i = Instance::with(&canary.address.to_string(), |i| {
        i.replace("trusted_proxies = []", "trusted_proxies = [\"127.0.0.0/8\"]");
        i.replace("access_lines_per_client = 200", "access_lines_per_client = 2");
    });
    let fetch = |client: &str| i.send(&Request::new("GET", "/nowhere").header("X-Forwarded-For", client));
    eventually("a second with more than two requests", || {
        (0..10).for_each(|_| drop(fetch("2001:db8::7")));
        log(&i).iter().any(|line| line["client_ip"] == "2001:db8::/64" && line["more"].is_u64()).then_some(())
    });
    let other = fetch("192.0.2.8");
    assert_eq!(i.log_line(&other)["client_ip"], "192.0.2.8");
}

/// Sends requests over one connection without waiting for the responses, and returns their number.
fn pipeline(i: &Instance, heads: &[String]) -> usize {
    let last = heads.len() - 1;
    let head = |(n, head): (usize, &String)| {
        let end = if n == last { "Connection: close\r\n" } else { "" };
        format!("{head}Host: localhost\r\n{end}\r\n")
    };
    let mut stream = crate::client::connect(i.tls, &i.authority(), rustls::ALL_VERSIONS).unwrap();
    stream.write_all(heads.iter().enumerate().map(head).collect::<String>().as_bytes()).unwrap();
    let mut responses = Vec::new();
    let _ = stream.read_to_end(&mut responses);
    String::from_utf8_lossy(&responses).matches("HTTP/1.1 ").count()
}

/// Returns a request that can be found in the log by its user agent.
fn signed(target: &str, key: &str, agent: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nX-API-Key: {key}\r\nUser-Agent: {agent}\r\n")
}

fn with_lines_per_client(canary: &Canary, lines: &str) -> Instance {
    Instance::with(&canary.address.to_string(), |i| {
        i.replace("access_lines_per_client = 200", &format!("access_lines_per_client = {lines}"));
    })
}

/// Waits until the log has lines for all `count` requests, or has counted them.
fn all_of(i: &Instance, count: u64) -> Vec<Value> {
    eventually("all of them", || {
        let said = log(i);
        (said.iter().map(requests).sum::<u64>() >= count).then_some(said)
    })
}

fn is_of(agent: &str) -> impl Fn(&Value) -> bool {
    move |line| line["user_agent"] == agent
}

#[test]
fn denied_requests_never_take_the_line_of_a_permitted_one() {
    let canary = Canary::start();
    let i = with_lines_per_client(&canary, "8");
    let denied = || (0..80).map(|_| "GET /nowhere HTTP/1.1\r\n".to_owned());
    for n in 0..8 {
        let heads: Vec<_> = denied().chain([signed("/api/downloads", i.key(), &format!("wanted-{n}"))]).collect();
        assert_eq!(pipeline(&i, &heads), 81);
    }
    let said = all_of(&i, 8 * 81);
    for n in 0..8 {
        assert!(said.iter().any(is_of(&format!("wanted-{n}"))), "{n}");
    }
    assert!(said.iter().any(|line| line["more"].as_u64() > Some(1) && line["code"] == "no_route"));
}

#[test]
fn each_user_and_each_link_has_its_own_lines_at_one_address() {
    let canary = Canary::start();
    let i = with_lines_per_client(&canary, "4");
    i.command(&["user", "add", "ana"]);
    let ana = i.new_key(&["--user", "ana"]);
    let link = || {
        let made = i.command(&["link", "create", "/api/stream/a.mp4"]);
        made["url"].as_str().unwrap().split_once("://").unwrap().1.split_once('/').unwrap().1.to_owned()
    };
    let one = link();
    let other = link();
    let by_link = |target: &str, agent: &str| format!("GET /{target} HTTP/1.1\r\nUser-Agent: {agent}\r\n");
    let mut heads: Vec<_> = (0..80).map(|_| signed("/api/downloads", &ana, "ana")).collect();
    heads.push(signed("/api/downloads", i.key(), "beside-ana"));
    heads.extend((0..80).map(|_| by_link(&one, "visitor")));
    heads.push(signed("/api/downloads", i.key(), "owner"));
    heads.push(by_link(&other, "other-visitor"));
    assert_eq!(pipeline(&i, &heads), heads.len());
    let said = all_of(&i, heads.len() as u64);
    for agent in ["beside-ana", "owner", "other-visitor"] {
        assert!(said.iter().any(is_of(agent)), "{agent}");
    }
    let anas = said.iter().find(|line| line["more"].is_u64() && line["user"] == "ana").expect("a summary of ana's");
    assert_eq!((&anas["client_ip"], &anas["decision"]), (&"127.0.0.1".into(), &"forward".into()));
}

#[test]
fn a_days_bytes_are_shared_so_that_one_user_never_fills_the_log() {
    let canary = Canary::start();
    let i = Instance::with(&canary.address.to_string(), |i| {
        i.replace("access_lines_per_client = 200", "access_lines_per_client = 100000");
        i.replace("access_bytes_per_day = \"900MiB\"", "access_bytes_per_day = \"1MiB\"");
    });
    i.command(&["user", "add", "ana"]);
    let ana = i.new_key(&["--user", "ana"]);
    let agent = "u".repeat(256);
    let path = format!("/nowhere/{}", "x".repeat(1_100));
    let mut requested = 0;
    for _ in 0..8 {
        let denied = (0..50).map(|_| signed(&path, &ana, &agent));
        let heads: Vec<_> = denied.chain((0..50).map(|_| signed("/api/downloads", &ana, &agent))).collect();
        assert_eq!(pipeline(&i, &heads), 100);
        requested += 100;
    }
    i.log_line(&i.get("/api/downloads"));
    let said = all_of(&i, requested + 1);
    assert_eq!(said.iter().map(requests).sum::<u64>(), requested + 1, "each request has a line or is counted");
    // Half of 10 % and half of 5 % of the day's bytes, a line beyond each, the summaries, and the administrator's line.
    let size = fs::metadata(i.path("data/access.log")).unwrap().len();
    assert!(size < (52_428 + 26_214) + 4_096 + 52_428, "{size} bytes");
    let written =
        |decision: &str| said.iter().filter(|line| line["more"].is_null() && line["decision"] == decision).count();
    assert!((10..=20).contains(&written("deny")) && (50..=110).contains(&written("forward")), "{said:?}");
    let unlimited = Instance::with(&canary.address.to_string(), |i| {
        i.replace("access_lines_per_client = 200", "access_lines_per_client = 100000");
        i.replace("access_bytes_per_day = \"900MiB\"", "access_bytes_per_day = \"0B\"");
    });
    let heads: Vec<_> = (0..100).map(|_| signed(&path, unlimited.key(), &agent)).collect();
    assert_eq!(pipeline(&unlimited, &heads), 100);
    assert!(all_of(&unlimited, 100).iter().all(|line| line["more"].is_null()));
}

#[test]
fn a_full_file_is_rotated_and_no_line_is_lost_or_torn() {
    let canary = Canary::start();
    let i = Instance::with(&canary.address.to_string(), |i| {
        i.replace("access_max_size = \"100MiB\"", "access_max_size = \"4KiB\"");
        i.replace("access_keep = 9", "access_keep = 2");
    });
    let files = ["data/access.log", "data/access.log.1", "data/access.log.2"].map(|name| i.path(name));
    eventually("three files", || {
        assert_eq!(i.get("/api/downloads").status, 200);
        files.iter().all(|file| file.exists()).then_some(())
    });
    let last = i.get("/api/downloads");
    i.log_line(&last);
    for file in &files[1..] {
        assert!(lines(file).len() > 5 && fs::metadata(file).unwrap().len() >= 4 << 10);
        assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert!(!i.path("data/access.log.3").exists());
}

#[test]
fn logrotate_may_move_the_file_and_needs_no_signal() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    i.log_line(&i.get("/api/downloads"));
    fs::rename(i.path("data/access.log"), i.path("data/moved.log")).unwrap();
    eventually("a new file in its place", || {
        assert_eq!(i.get("/api/downloads").status, 200);
        i.path("data/access.log").exists().then_some(())
    });
    i.log_line(&i.get("/api/downloads"));
    assert!(!lines(&i.path("data/moved.log")).is_empty());
}

#[test]
fn lines_that_a_full_disk_rejected_are_counted_and_none_is_glued_to_a_torn_one() {
    if !Disk::can_be_mounted() {
        return;
    }
    let canary = Canary::start();
    let mut disk = None;
    let i = Instance::with(&canary.address.to_string(), |i| {
        fs::create_dir(i.path("log")).unwrap();
        disk = Some(Disk::mount(&i.path("log"), "64k"));
        i.replace("access = \"data/access.log\"", "access = \"log/access.log\"");
        i.replace("access_lines_per_client = 200", "access_lines_per_client = 100000");
        i.replace("disk_reserve = \"256MiB\"", "disk_reserve = \"0B\"");
    });
    let disk = disk.unwrap();
    let agent = "a".repeat(250);
    disk.leave(16 << 10);
    let user = || i.send(&Request::new("GET", "/api/downloads").key(i.key()).header("User-Agent", &agent));
    let stranger = || i.send(&Request::new("GET", "/nowhere").header("User-Agent", &agent));
    let mut requested = 0;
    eventually("a full disk", || {
        assert_eq!((user().status, stranger().status), (200, 404));
        requested += 2;
        i.stderr().contains("cannot write the access log").then_some(())
    });
    // From now on, strangers are only counted, and lines of users wait.
    eventually("a line that is left out", || {
        requested += 1;
        stranger();
        (crate::admin::metric(&i, "sallyport_access_log_left_out_total{reason=\"disk_reserve\"}") > 0.0).then_some(())
    });
    assert_eq!(user().status, 200);
    disk.empty();
    let waited = i.send(&Request::new("GET", "/api/downloads").key(i.key()));
    let id = waited.header("x-request-id").unwrap().to_owned();
    let said = eventually("the lines that waited", || {
        let said = lines(&i.path("log/access.log"));
        let whole = said.iter().any(|line| line["request_id"] == *id)
            && said.iter().map(requests).sum::<u64>() >= requested + 2;
        whole.then_some(said)
    });
    assert_eq!(said.iter().map(requests).sum::<u64>(), requested + 2);
    assert!(said.iter().any(|line| line["why"] == "disk_reserve"), "a summary reports the omitted requests");
}

#[test]
fn below_the_disks_reserve_only_users_are_logged() {
    let canary = Canary::start();
    let i = Instance::with(&canary.address.to_string(), |i| {
        i.replace("disk_reserve = \"256MiB\"", "disk_reserve = \"900TiB\"");
    });
    assert_eq!(i.send(&Request::new("GET", "/nowhere")).status, 404);
    i.log_line(&i.get("/api/downloads"));
    assert!(log(&i).iter().all(|line| line["user"] == "admin"), "{:?}", log(&i));
    assert!(i.stderr().contains("the disk is nearly full"), "{}", i.stderr());
}

/// Returns the number of lines on standard error that contain `what`.
fn told(i: &Instance, what: &str) -> usize {
    i.stderr().lines().filter(|line| line.contains(what)).count()
}

/// Returns the most lines that one kind of message may have by now: ten per ten seconds, and one with the number of the rest.
fn bound(begun: Instant) -> usize {
    usize::try_from(begun.elapsed().as_secs() / 10 + 2).unwrap() * 11
}

#[test]
fn acknowledgements_without_a_ping_write_few_lines_to_standard_error() {
    const PING: u8 = 6;
    const ACK: u8 = 1;
    let canary = Canary::start();
    let i = Instance::start(&canary);
    let begun = Instant::now();
    eventually("a summary of the omitted messages", || {
        ends(&mut start(&i), (0..500).map(|_| frame(PING, ACK, 0, &[7; 8])));
        (told(&i, "more messages like the last ones from h2") > 0).then_some(())
    });
    let written = told(&i, "h2::proto");
    assert!((1..=bound(begun)).contains(&written), "{written} lines");
}

/// Returns the first message of a handshake for `name`.
fn client_hello(i: &Instance, name: &str) -> Vec<u8> {
    let config = crate::client::client_config(&i.authority(), rustls::ALL_VERSIONS);
    let name_of = "localhost";
    assert_eq!(name.len(), name_of.len());
    let mut hello = Vec::new();
    let mut connection =
        rustls::ClientConnection::new(std::sync::Arc::new(config), name_of.try_into().unwrap()).unwrap();
    connection.write_tls(&mut hello).unwrap();
    let at = hello.windows(name.len()).position(|bytes| bytes == name_of.as_bytes()).unwrap();
    hello[at..at + name.len()].copy_from_slice(name.as_bytes());
    hello
}

#[test]
fn handshakes_for_an_address_write_few_lines_to_standard_error() {
    let canary = Canary::start();
    let i = Instance::start(&canary);
    let hello = client_hello(&i, "127.0.0.1");
    let begun = Instant::now();
    for _ in 0..60 {
        let mut connection = TcpStream::connect(i.tls).unwrap();
        connection.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        connection.write_all(&hello).unwrap();
        assert!(connection.read(&mut [0; 16]).unwrap_or(0) > 0, "the server answers");
    }
    eventually("a summary of the omitted messages", || {
        (told(&i, "more messages like the last ones from rustls") > 0).then_some(())
    });
    let written = told(&i, "rustls::");
    assert!((1..=bound(begun)).contains(&written), "{written} lines");
}
