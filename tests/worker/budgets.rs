//! Unread and long responses: how much of the worker's memory they take, and how they are truncated.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    thread::sleep,
    time::{Duration, Instant},
};

use rusqlite::{Connection, params};
use serde_json::{Value, json};

use crate::{
    client::Request,
    origin::Origin,
    process::{Setup, Worker, eventually, signal},
    stand_in::fake_yt_dlp,
};

const TASKS: usize = 5_000;

/// Returns the resident memory of a process, in MiB.
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
}

/// Puts [`TASKS`] failed tasks with long titles per owner into a worker's database while it is stopped.
fn fill(worker: &mut Worker, owners: &[&str]) {
    worker.terminate();
    let db = Connection::open(worker.dir.path().join("data/worker.db")).unwrap();
    let title = format!("\u{1}{}", "\u{e9}\"".repeat(700));
    for owner in owners {
        let filling = db.unchecked_transaction().unwrap();
        for n in 0..TASKS {
            let id = format!("{:08x}-{:04x}-4000-8000-000000000000", n, owner.len());
            let url = format!("https://example.com/{n}/{}", "x".repeat(1_900));
            filling
                .execute(
                    "INSERT INTO task (id, owner, url, quality, download_type, status, title, error_message, created_at) \
                     VALUES (?1, ?2, ?3, 'best', 'video', 'error', ?4, ?5, '2026-01-01T00:00:00Z')",
                    params![id, owner, url, title, "e".repeat(9_000)],
                )
                .unwrap();
        }
        filling.commit().unwrap();
    }
    drop(db);
    worker.start_again();
}

/// Sends a request and does not read the response.
fn unread(worker: &Worker, user: &str, target: &str) -> TcpStream {
    let mut stream = TcpStream::connect(worker.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(40))).unwrap();
    stream.write_all(Request::new("GET", target).signed(user, worker.address).to_string().as_bytes()).unwrap();
    stream
}

#[test]
fn unread_lists_take_little_memory_and_do_not_make_other_users_wait() {
    let origin = Origin::start();
    let mut worker = Worker::start(&origin);
    fill(&mut worker, &["ana", "bobby"]);
    let list = worker.get("ana", "/api/downloads").json();
    assert_eq!(list.as_array().unwrap().len(), TASKS, "the whole list, in many pieces");
    let sorted = list.as_array().unwrap().is_sorted_by_key(|task| task["id"].as_str().unwrap().to_owned());
    assert!(sorted, "oldest first");
    let first = &list[0];
    assert!(first["title"].as_str().unwrap().len() <= 1_000 && first["error_message"].as_str().unwrap().len() <= 1_200);
    let before = resident(worker.pid());

    let held: Vec<_> = (0..150).map(|_| unread(&worker, "ana", "/api/downloads")).collect();
    let most = watch(&worker, Duration::from_secs(12));
    assert!(most < 150, "150 unread lists: {before} MiB before, {most} MiB at most");
    assert_eq!(worker.get("bobby", "/api/downloads").json().as_array().unwrap().len(), TASKS);
    assert_eq!(worker.get("bobby", "/api/v2/downloads").status, 200);
    let refused = worker.get("ana", "/api/downloads");
    assert_eq!((refused.status, &refused.json()["code"]), (503, &json!("busy")), "her own share is used up");
    drop(held);
    assert_eq!(worker.get("ana", "/api/downloads").status, 200);
    let id = worker.download("carl", &origin.url("sample.mp4"));
    eventually("a download by another user", || {
        let newest = worker.get("carl", "/api/v2/downloads?limit=1").json()["downloads"][0].take();
        (newest["id"] == id && newest["status"] == "completed").then_some(())
    });
}

/// Returns the peak memory of a worker during `time`, in MiB.
fn watch(worker: &Worker, time: Duration) -> u64 {
    let start = Instant::now();
    let mut most = 0;
    while start.elapsed() < time {
        most = most.max(resident(worker.pid()));
        // The interval of the samples.
        sleep(Duration::from_millis(100));
    }
    most
}

#[test]
fn a_list_that_is_read_slowly_completes_and_does_not_block_the_database() {
    let origin = Origin::start();
    let mut worker = Worker::start(&origin);
    fill(&mut worker, &["ana"]);
    let mut slow = unread(&worker, "ana", "/api/downloads");
    let mut first = vec![0; 1 << 10];
    slow.read_exact(&mut first).unwrap();
    // A new download writes to the database, and is answered.
    worker.completed("bob", &origin.url("sample.mp4"));
    let mut rest = Vec::new();
    slow.read_to_end(&mut rest).unwrap();
    assert!(rest.ends_with(b"]\r\n0\r\n\r\n"), "complete: {}", rest.len());
}

#[test]
fn a_stopping_worker_completes_a_list_that_it_has_begun_to_send() {
    let origin = Origin::start();
    let mut worker = Worker::with(&origin, &Setup { extra: "[gateway]\ndrain_timeout = \"1m\"", ..Setup::default() });
    fill(&mut worker, &["ana"]);
    let mut slow = unread(&worker, "ana", "/api/downloads");
    slow.read_exact(&mut [0; 1 << 10]).unwrap();
    signal("-TERM", worker.pid());
    // Long enough to release the database if this list did not hold it.
    sleep(Duration::from_secs(2));
    let mut rest = Vec::new();
    slow.read_to_end(&mut rest).unwrap();
    assert!(rest.ends_with(b"]\r\n0\r\n\r\n"), "complete: {} {}", rest.len(), worker.log());
    assert!(worker.wait().success());
}

#[test]
fn the_newer_list_has_pages_a_filter_and_totals() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    assert_eq!(
        worker.get("ana", "/api/v2/downloads").json(),
        json!({"downloads": [], "next": null, "totals": {"all": 0, "pending": 0, "downloading": 0, "processing": 0,
            "completed": 0, "error": 0, "cancelled": 0}})
    );
    let done = worker.completed("ana", &origin.url("sample.mp4"));
    let ids: Vec<_> = (0..4).map(|n| worker.download("ana", &origin.url(&format!("stall/{n}/sample.mp4")))).collect();
    worker.download("bob", &origin.url("stall/sample.mp4"));
    let page = |query: &str| worker.get("ana", &format!("/api/v2/downloads{query}")).json();
    let ids_of = |page: &Value| -> Vec<String> {
        page["downloads"].as_array().unwrap().iter().map(|task| task["id"].as_str().unwrap().to_owned()).collect()
    };
    let mut newest_first: Vec<_> = ids.iter().rev().cloned().collect();
    newest_first.push(done["id"].as_str().unwrap().to_owned());
    let mut seen = Vec::new();
    let mut query = "?limit=2".to_owned();
    loop {
        let page = page(&query);
        assert!(ids_of(&page).len() <= 2 && page["totals"]["all"] == 5, "{page}");
        seen.extend(ids_of(&page));
        let Some(next) = page["next"].as_str() else { break };
        query = format!("?limit=2&cursor={next}");
        if seen.len() == 2 {
            // Tasks that are added, removed or cancelled in the meantime do not shift the position.
            worker.delete("ana", &format!("/api/downloads/{}/remove", seen[1]));
            worker.download("ana", &origin.url("stall/later/sample.mp4"));
            worker.delete("ana", &format!("/api/downloads/{}", seen[0]));
        }
    }
    assert_eq!(seen, newest_first);
}

#[test]
fn a_page_can_be_filtered_and_an_invalid_query_is_refused() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    worker.completed("ana", &origin.url("sample.mp4"));
    let ids: Vec<_> = (0..3).map(|n| worker.download("ana", &origin.url(&format!("stall/{n}/sample.mp4")))).collect();
    worker.download("bob", &origin.url("stall/sample.mp4"));
    worker.delete("ana", &format!("/api/downloads/{}", ids[2]));
    let page = |query: &str| worker.get("ana", &format!("/api/v2/downloads{query}")).json();
    let completed = page("?status=completed,error");
    assert_eq!(
        completed["downloads"],
        json!([worker.get("ana", "/api/downloads").json()[0]]),
        "the same as in the older list"
    );
    assert_eq!((&completed["totals"]["completed"], &completed["totals"]["cancelled"]), (&json!(1), &json!(1)));
    assert_eq!(page("?text=STALL/1")["downloads"][0]["id"], ids[1]);
    assert_eq!(worker.get("admin", "/api/v2/downloads").json()["totals"]["all"], 5);
    for wrong in
        ["limit=0", "limit=101", "limit=x", "cursor=", "cursor=zz", "cursor=-1", "status=gone", "status=", "x=1"]
    {
        let refused = worker.get("ana", &format!("/api/v2/downloads?{wrong}"));
        assert_eq!((refused.status, &refused.json()["code"]), (422, &json!("invalid_value")), "{wrong}");
    }
    let long = "x".repeat(201);
    assert_eq!(worker.get("ana", &format!("/api/v2/downloads?text={long}")).status, 422);
}

/// Sets up a program that prints `said` from a file next to it.
fn saying(dir: &std::path::Path, said: &Value) -> Setup {
    fs::write(dir.join("said.json"), said.to_string()).unwrap();
    let yt_dlp = fake_yt_dlp(dir, &format!("cat {}", dir.join("said.json").display()));
    let extra = format!("readable = [\"{}\"]\nlook_keep_for = \"0s\"", dir.display());
    Setup { yt_dlp, extra: extra.leak(), ..Setup::default() }
}

#[test]
fn long_metadata_of_a_page_is_truncated() {
    let origin = Origin::start();
    let dir = tempfile::tempdir().unwrap();
    let long = "\u{e9}\"".repeat(100_000);
    let format = json!({"format_id": long[..3_000], "format_note": long[..3_000], "ext": "mp4", "resolution": "1x1",
        "height": 1, "width": 1, "fps": null, "filesize": 7, "vcodec": long[..3_000], "acodec": "none"});
    let said = json!({"id": long, "title": long, "description": long, "thumbnail": format!("https://e.com/{long}"),
        "duration": 1, "uploader": long, "view_count": 1, "formats": vec![format; 300]});
    let worker = Worker::with(&origin, &saying(dir.path(), &said));
    let response = worker.post("ana", "/api/info", &json!({"url": origin.url("x")}).to_string());
    assert_eq!(response.status, 200, "{:?}", response.json());
    let info = response.json();
    assert!(response.body.len() < 160 << 10, "{}", response.body.len());
    let chars = |field: &str| info[field].as_str().map(|text| text.chars().count());
    assert_eq!((chars("title"), chars("description"), chars("thumbnail")), (Some(500), Some(2_000), None));
    assert!((1..=200).contains(&info["formats"].as_array().unwrap().len()));
    let found = worker.get("ana", &format!("/api/search?q={}", origin.url("x")));
    assert!(found.status == 200 && found.body.len() < 16 << 10, "{}", found.body.len());
}

#[test]
fn long_search_results_are_truncated() {
    let origin = Origin::start();
    let dir = tempfile::tempdir().unwrap();
    let long = "\u{e9}".repeat(5_000);
    let entry = json!({"id": long, "title": long, "url": "https://e.com/", "uploader": long, "duration": 1,
        "view_count": 1, "thumbnails": [{"url": format!("https://e.com/{long}")}]});
    let worker = Worker::with(&origin, &saying(dir.path(), &json!({"entries": vec![entry; 80]})));
    let response = worker.get("ana", "/api/search?q=x");
    assert!(response.status == 200 && response.body.len() < 160 << 10, "{} {}", response.status, response.body.len());
    let found = response.json();
    assert_eq!(found["results"].as_array().unwrap().len(), 50);
    assert_eq!(found["results"][0]["title"].as_str().unwrap().chars().count(), 500);
}

#[test]
fn long_metadata_of_a_source_is_truncated_before_it_is_stored() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    let title = "\u{1f3ac}".repeat(4_000);
    let page = format!("<html><head><title>{title}</title></head><body><video src=sample.mp4></video></body></html>");
    origin.serve("page.html", &page);
    let task = worker.completed("ana", &origin.url("page.html"));
    let title = task["title"].as_str().unwrap();
    assert!((100..=1_000).contains(&title.len()), "{}", title.len());
}
