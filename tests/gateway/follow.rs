//! The worker's events through the gateway: immediate, resumable, and for longer than an application may be silent.

use std::{
    io::{BufRead, BufReader, Write},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    client::{Request, Tls, connect},
    instance::{Instance, eventually},
    origin::Origin,
    whole::{completed, start_download, up_with},
};

fn open(i: &Instance, last: Option<&str>) -> BufReader<Tls> {
    let mut stream = connect(i.tls, &i.authority(), rustls::ALL_VERSIONS).unwrap();
    let last = last.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
    let key = i.key();
    let head = format!("GET /api/v2/events HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {key}\r\n{last}\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut reader = BufReader::new(stream);
    assert!(line(&mut reader).starts_with("HTTP/1.1 200"));
    reader
}

fn line(stream: &mut impl BufRead) -> String {
    let mut line = String::new();
    assert_ne!(stream.read_line(&mut line).unwrap(), 0, "the stream ended");
    line.trim_end().to_owned()
}

/// Returns the rest of the first line that begins with `start`.
fn until(stream: &mut impl BufRead, start: &str) -> String {
    loop {
        if let Some(rest) = line(stream).strip_prefix(start) {
            return rest.to_owned();
        }
    }
}

/// Returns the statuses of the task in order.
fn statuses(stream: &mut impl BufRead, task: &str) -> Vec<String> {
    let mut seen = Vec::new();
    while seen.last().is_none_or(|status| status != "completed") {
        let data: Value = serde_json::from_str(&until(stream, "data: ")).unwrap();
        if data["id"] == task
            && let Some(status) = data["status"].as_str()
        {
            seen.push(status.to_owned());
        }
    }
    seen.dedup();
    seen
}

#[test]
fn events_arrive_through_the_gateway_at_once_and_outlast_the_longest_silence() {
    let origin = Origin::start();
    let silence = Duration::from_secs(17);
    let i = up_with(&origin, |i| i.replace("timeout = \"60s\"   #", "timeout = \"17s\"   #"));
    eventually("the worker", || (i.get("/api/downloads").status == 200).then_some(()));
    let begun = Instant::now();
    let mut stream = open(&i, None);
    assert_eq!(until(&mut stream, "event: "), "reset");
    let last = until(&mut stream, "id: ");
    until(&mut stream, ":");
    // The time is the subject: the stream stays open for longer than its timeout.
    std::thread::sleep((silence + Duration::from_secs(1)).saturating_sub(begun.elapsed()));
    let task = start_download(&i, &origin.url("slow/sample.mp4"));
    let all = statuses(&mut stream, &task);
    assert_eq!(all, ["pending", "downloading", "processing", "completed"]);
    let told = Instant::now();
    completed(&i, &task);
    assert!(told.elapsed() < Duration::from_secs(1), "the event arrives no later than polling shows it");

    let mut again = open(&i, Some(&last));
    assert_eq!(until(&mut again, "event: "), "task", "no reset");
    assert_eq!(statuses(&mut again, &task), all);
    assert_eq!(i.send(&Request::new("GET", "/api/v2/events")).status, 401);
}
