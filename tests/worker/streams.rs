//! HLS of finished downloads: their own streams in another container, prepared once and served only to their owner.

use std::{collections::HashSet, env, fs, os::unix::fs::PermissionsExt, path::Path, process::Command, thread};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    client::{Request, Response},
    media,
    origin::Origin,
    process::{Setup, Worker, eventually, processes_of, signal},
};

/// Replaces the file of a finished download with another one, as if that had been downloaded.
pub(crate) fn finished(worker: &Worker, origin: &Origin, video: &[u8]) -> String {
    let id = finished_of("ana", worker, origin);
    fs::write(worker.media(&id).join("media.mkv"), video).unwrap();
    id
}

fn finished_of(user: &str, worker: &Worker, origin: &Origin) -> String {
    let order = json!({"url": origin.url("sample.mp4"), "format": "mkv"});
    let task = worker.post(user, "/api/download", &order.to_string()).json();
    let id = task["id"].as_str().unwrap().to_owned();
    worker.wait_for_status(&id, "completed");
    id
}

pub(crate) fn index(id: &str) -> String {
    format!("/api/v2/hls/{id}/index.m3u8")
}

fn stream(id: &str) -> String {
    format!("/api/v2/hls/{id}/stream.mp4")
}

/// Converts the sample with ffmpeg.
fn video(args: &str, name: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-i", "sample.mp4"])
        .args(args.split_whitespace())
        .arg(dir.path().join(name))
        .current_dir(media::folder())
        .status();
    assert!(made.unwrap().success(), "{args}");
    fs::read(dir.path().join(name)).unwrap()
}

/// Returns ffmpeg's hash of each stream in a file: of its packets, or of its decoded pictures.
fn hashes(path: &Path, args: &[&str]) -> String {
    let output = Command::new("ffmpeg").args(["-v", "error", "-i"]).arg(path).args(args).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Fetches what a player gets: the playlist and the media file, in one folder.
fn played(worker: &Worker, id: &str) -> TempDir {
    let list = worker.get("ana", &index(id));
    let video = worker.get("ana", &stream(id));
    assert_eq!((list.status, video.status), (200, 200), "{}", worker.log());
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("index.m3u8"), list.body).unwrap();
    fs::write(dir.path().join("stream.mp4"), video.body).unwrap();
    dir
}

/// Creates a stand-in for ffmpeg in `dir`: for HLS it runs `script`, and otherwise the real ffmpeg. Returns its configuration.
pub(crate) fn stand_in(dir: &Path, script: &str) -> String {
    let path = dir.join("ffmpeg");
    let folders = env::split_paths(&env::var_os("PATH").unwrap()).collect::<Vec<_>>();
    let real = folders.iter().map(|folder| folder.join("ffmpeg")).find(|path| path.exists()).unwrap();
    let text = format!("#!/bin/sh\ncase \"$*\" in *' hls '*) {script};; esac\nexec {} \"$@\"\n", real.display());
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    format!("ffmpeg = \"{}\"\nreadable = [\"{}\"]\n", path.display(), dir.display())
}

fn with_ffmpeg(origin: &Origin, script: &str, extra: &str) -> (Worker, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let extra = stand_in(dir.path(), script) + extra;
    (Worker::with(origin, &Setup { extra: extra.leak(), ..Setup::default() }), dir)
}

fn code(response: &Response) -> (u16, Value) {
    (response.status, response.json()["code"].clone())
}

/// Waits until a run has left neither processes nor files.
pub(crate) fn is_clean(worker: &Worker, id: &str) {
    eventually("a clean folder", || {
        let jobs = fs::read_dir(worker.dir.path().join("data/media/.jobs")).unwrap().count();
        (jobs == 0 && processes_of("hls-").iter().all(|pid| !belongs(*pid, worker))).then_some(())
    });
    assert!(!worker.media(id).join("hls").exists());
}

fn belongs(pid: u32, worker: &Worker) -> bool {
    fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(worker.dir.path()))
}

/// Counts the streams that are being prepared.
fn at_work(worker: &Worker) -> usize {
    let pids = processes_of("hls-").into_iter().filter(|pid| belongs(*pid, worker));
    pids.filter_map(|pid| fs::read_link(format!("/proc/{pid}/cwd")).ok()).collect::<HashSet<_>>().len()
}

#[test]
fn every_stream_has_the_packets_of_the_original() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    for (args, name) in [
        ("-c copy", "x.mkv"),
        ("-c copy", "x.flv"),
        ("-c:v copy -c:a libmp3lame", "x.mkv"),
        ("-c:v copy -c:a ac3", "x.mkv"),
        ("-c:v libvpx-vp9 -deadline realtime -c:a libopus -strict -2", "x.webm"),
        ("-vn -c:a copy", "x.m4a"),
    ] {
        let source = video(args, name);
        let id = finished(&worker, &origin, &source);
        let dir = played(&worker, &id);
        fs::write(dir.path().join(name), source).unwrap();
        let copy = ["-map", "0", "-c", "copy", "-f", "streamhash", "-"];
        let ours = hashes(&dir.path().join("index.m3u8"), &copy);
        let own = hashes(&dir.path().join(name), &copy);
        assert!(!own.is_empty() && ours == own, "{args} {name}: {ours} {own}");
    }
}

/// These have other packets in other containers, but decode to the same pictures.
#[test]
fn a_transport_stream_and_hevc_decode_to_the_pictures_of_the_original() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    for (args, name) in [
        ("-c copy", "x.ts"),
        ("-c copy", "x.avi"),
        ("-c:v libx265 -x265-params log-level=none -preset ultrafast -c:a copy", "x.mkv"),
    ] {
        let source = video(args, name);
        let id = finished(&worker, &origin, &source);
        let dir = played(&worker, &id);
        fs::write(dir.path().join(name), source).unwrap();
        let decoded = ["-map", "0:v", "-vsync", "passthrough", "-f", "streamhash", "-"];
        let ours = hashes(&dir.path().join("index.m3u8"), &decoded);
        let own = hashes(&dir.path().join(name), &decoded);
        assert_eq!(ours, own, "{name}");
        if args.contains("265") {
            let text = fs::read(dir.path().join("stream.mp4")).unwrap();
            assert!(text[..4_096].windows(4).any(|name| name == b"hvc1"), "with the tag that Safari supports");
        }
    }
}

#[test]
fn a_playlist_refers_to_ranges_of_one_file_and_nothing_else_is_served() {
    let origin = Origin::start();
    let mut worker = Worker::start(&origin);
    let id = finished(&worker, &origin, &video("-c copy", "x.mkv"));
    let list = worker.get("ana", &index(&id));
    assert_eq!((list.status, list.header("content-type")), (200, Some("application/vnd.apple.mpegurl")));
    assert_eq!(list.header("cache-control"), Some("private, no-store"));
    let text = String::from_utf8(list.body).unwrap();
    assert!(text.starts_with("#EXTM3U\n") && text.ends_with("#EXT-X-ENDLIST\n"), "{text}");
    assert!(text.lines().all(|line| line.starts_with('#') || line == "stream.mp4"), "{text}");

    let whole = worker.get("ana", &stream(&id));
    assert_eq!((whole.status, whole.header("content-type")), (200, Some("video/mp4")));
    let range = text.lines().find_map(|line| line.strip_prefix("#EXT-X-BYTERANGE:")).unwrap();
    let (length, at): (usize, usize) =
        range.split_once('@').map(|(length, at)| (length.parse().unwrap(), at.parse().unwrap())).unwrap();
    let bytes = format!("bytes={at}-{}", at + length - 1);
    let part =
        Request::new("GET", &stream(&id)).header("range", bytes).signed("ana", worker.address).send(worker.address);
    assert!(part.status == 206 && part.body == whole.body[at..at + length]);
    let head = Request::new("HEAD", &index(&id)).signed("ana", worker.address).send(worker.address);
    assert_eq!((head.status, head.body.len()), (200, 0));

    for name in ["index.m3u8x", "stream.mp4.tmp", "init.mp4", "index0.m4s", "..%2fmedia.mkv", "media.mkv", ""] {
        assert_eq!(worker.get("ana", &format!("/api/v2/hls/{id}/{name}")).status, 404, "{name}");
    }
    let unknown = "00000000-0000-4000-8000-000000000000";
    for target in [index(&id), stream(&id)] {
        let others = worker.get("bob", &target);
        let nobodys = worker.get("bob", &target.replace(&id, unknown));
        assert_eq!((others.status, nobodys.status), (404, 404));
        assert_eq!(others.body, nobodys.body);
        assert_eq!(worker.get("admin", &target).status, 200);
    }
    assert_eq!(worker.get("ana", &index("..%2f..")).status, 404);
    // A restart keeps the stream, and removing the download removes it.
    assert!(worker.terminate());
    worker.start_again();
    assert!(worker.media(&id).join("hls/index.m3u8").exists());
    assert_eq!(worker.delete("ana", &format!("/api/downloads/{id}/remove")).status, 200);
    assert!(!worker.media(&id).exists());
    assert_eq!(worker.get("ana", &index(&id)).status, 404);
}

#[test]
fn concurrent_viewers_have_a_stream_prepared_once() {
    let origin = Origin::start();
    let (worker, _dir) = with_ffmpeg(&origin, "sleep 1", "");
    let id = finished(&worker, &origin, &video("-c copy", "x.mkv"));
    let runs = || worker.log().lines().filter(|line| line.contains("a stream is being prepared")).count();
    thread::scope(|scope| {
        let targets = [index(&id), stream(&id), index(&id), index(&id), stream(&id)];
        let viewers = targets.map(|target| scope.spawn(|| worker.get("ana", &{ target }).status));
        assert_eq!(viewers.map(|viewer| viewer.join().unwrap()), [200; 5]);
    });
    assert_eq!(runs(), 1);
    assert_eq!(worker.get("ana", &index(&id)).status, 200);
    assert_eq!(runs(), 1, "the stream is not prepared again");
}

#[test]
fn a_file_that_no_player_supports_is_refused_and_not_re_encoded() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    for args in ["-c:v copy -c:a libvorbis", "-c:v mpeg4 -c:a copy", "-c:v copy -c:a pcm_s16le"] {
        let id = finished(&worker, &origin, &video(args, "x.mkv"));
        for target in [index(&id), stream(&id)] {
            assert_eq!(code(&worker.get("ana", &target)), (415, json!("not_streamable")), "{args}");
        }
        is_clean(&worker, &id);
    }
}

#[test]
fn a_hostile_file_reaches_nothing_and_leaves_nothing() {
    let origin = Origin::start();
    let worker = Worker::start(&origin);
    let victim = worker.completed("bob", &origin.url("sample.mp4"));
    let video = worker.media(victim["id"].as_str().unwrap()).join("media.mp4");
    let list = format!("#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\nfile://{}\n#EXT-X-ENDLIST\n", video.display());
    let concat = format!("ffconcat version 1.0\nfile {}\n", video.display());
    for content in [list.into_bytes(), concat.into_bytes(), vec![0x1a; 5_000], Vec::new()] {
        let id = finished(&worker, &origin, &content);
        assert_eq!(code(&worker.get("ana", &index(&id))), (500, json!("remux_failed")));
        is_clean(&worker, &id);
    }
}

#[test]
fn an_ffmpeg_that_fails_is_an_error_and_leaves_nothing() {
    for script in [
        "exit 1",
        "sh -c 'kill -SEGV $$'; exit $?",
        "exit 0",
        "echo '#EXTM3U' > $HOME/index.m3u8; echo x > $HOME/stream.mp4; exit 0",
        "printf '#EXT-X-MAP:URI=\"x\",BYTERANGE=\"1@0\"\\n#EXTINF:1,\\n#EXT-X-BYTERANGE:9@1\\n' > $HOME/index.m3u8; echo x > $HOME/stream.mp4; exit 0",
        "mkdir $HOME/stream.mp4; exit 0",
        "while :; do head -c 1000000 /dev/zero >> $HOME/stream.mp4 || exit 1; done",
    ] {
        let origin = Origin::start();
        let (worker, _dir) = with_ffmpeg(&origin, script, "");
        let id = finished(&worker, &origin, &media::read("sample.mp4"));
        assert_eq!(code(&worker.get("ana", &index(&id))), (500, json!("remux_failed")), "{script}");
        is_clean(&worker, &id);
        assert_eq!(worker.get("ana", "/api/downloads").status, 200);
    }
}

#[test]
fn a_full_disk_refuses_a_stream() {
    let origin = Origin::start();
    let (mut worker, _dir) = with_ffmpeg(&origin, "sleep 600", "disk_reserve = \"0B\"");
    let id = finished(&worker, &origin, &media::read("sample.mp4"));
    assert!(worker.terminate());
    worker.reconfigure("disk_reserve = \"0B\"", "disk_reserve = \"900TiB\"");
    worker.start_again();
    assert_eq!(code(&worker.get("ana", &index(&id))), (507, json!("disk_full")));
    is_clean(&worker, &id);
}

#[test]
fn a_slow_preparation_is_reported_and_ends_with_its_task() {
    let origin = Origin::start();
    let (mut worker, _dir) = with_ffmpeg(&origin, "sleep 600", "");
    let ids: Vec<_> = (0..2).map(|_| finished(&worker, &origin, &media::read("sample.mp4"))).collect();
    let response = worker.get("ana", &index(&ids[0]));
    assert_eq!(code(&response), (503, json!("preparing")));
    assert!(response.header("retry-after").is_some());
    assert_eq!(worker.delete("ana", &format!("/api/downloads/{}/remove", ids[0])).status, 200);
    is_clean(&worker, &ids[0]);

    // A worker that was killed meanwhile cleans up the folder when it starts.
    let address = worker.address;
    let viewer = thread::spawn({
        let request = Request::new("GET", &index(&ids[1])).signed("ana", worker.address).to_string();
        move || {
            use std::io::{Read, Write};
            let mut connection = std::net::TcpStream::connect(address).unwrap();
            connection.write_all(request.as_bytes()).unwrap();
            let mut response = String::new();
            drop(connection.read_to_string(&mut response));
            response
        }
    });
    let jobs = worker.dir.path().join("data/media/.jobs");
    eventually("a run", || fs::read_dir(&jobs).unwrap().next().map(drop));
    worker.kill();
    assert_eq!(viewer.join().unwrap(), "");
    assert_eq!(fs::read_dir(&jobs).unwrap().count(), 1);
    worker.start_again();
    is_clean(&worker, &ids[1]);
}

#[test]
fn a_worker_that_stops_ends_its_preparations() {
    let origin = Origin::start();
    let (mut worker, _dir) = with_ffmpeg(&origin, "sleep 600", "");
    let id = finished(&worker, &origin, &media::read("sample.mp4"));
    thread::scope(|scope| {
        let viewer = scope.spawn(|| worker.get("ana", &index(&id)));
        eventually("a run", || processes_of("hls-").iter().any(|pid| belongs(*pid, &worker)).then_some(()));
        signal("-TERM", worker.pid());
        assert_eq!(code(&viewer.join().unwrap()), (503, json!("busy")));
    });
    worker.kill();
    is_clean(&worker, &id);
}

#[test]
fn an_unused_stream_is_removed_and_prepared_again_on_request() {
    let origin = Origin::start();
    let worker = Worker::with(&origin, &Setup { extra: "hls_keep_for = \"3s\"", ..Setup::default() });
    let id = finished(&worker, &origin, &media::read("sample.mp4"));
    let first = worker.get("ana", &index(&id)).body;
    let whole = worker.get("ana", &stream(&id)).body;
    let folder = worker.media(&id).join("hls");
    assert!(folder.exists());
    eventually("the removal of the stream", || (!folder.exists()).then_some(()));
    assert!(worker.media(&id).join("media.mkv").exists());
    let part = Request::new("GET", &stream(&id))
        .header("range", "bytes=1000-1999")
        .signed("ana", worker.address)
        .send(worker.address);
    assert!(part.status == 206 && part.body == whole[1_000..2_000], "the same bytes at the same offsets");
    assert!(worker.get("ana", &index(&id)).body == first);
}

#[test]
fn a_prepared_stream_counts_towards_the_space_limit_and_is_removed_before_any_file() {
    let origin = Origin::start();
    let half_more = media::read("sample.mp4").len() * 5 / 2;
    let extra = format!("keep_bytes = \"{half_more}B\"").leak();
    let worker = Worker::with(&origin, &Setup { extra, ..Setup::default() });
    let first = finished(&worker, &origin, &media::read("sample.mp4"));
    let second = finished(&worker, &origin, &media::read("sample.mp4"));
    assert_eq!(worker.get("ana", &index(&second)).status, 200);
    eventually("the removal of the stream", || (!worker.media(&second).join("hls").exists()).then_some(()));
    for id in [&first, &second] {
        assert_eq!(worker.task(id).unwrap()["status"], "completed");
        assert!(worker.media(id).exists());
    }
}

/// One user's many streams do not keep another user's waiting.
#[test]
fn no_user_can_keep_others_from_having_a_stream_prepared() {
    let origin = Origin::start();
    let (worker, _dir) =
        with_ffmpeg(&origin, "sleep 600", "concurrent_downloads = 8\nconcurrent_downloads_per_user = 8");
    let eves: Vec<_> = (0..6).map(|_| finished_of("eve", &worker, &origin)).collect();
    let anas = finished_of("ana", &worker, &origin);
    let worker = &worker;
    thread::scope(|scope| {
        let request_by = |user: &'static str, id: &str| {
            let path = index(id);
            scope.spawn(move || code(&worker.get(user, &path)).1)
        };
        let asked: Vec<_> = eves.iter().map(|id| request_by("eve", id)).collect();
        let mut refused: Vec<_> = asked.into_iter().map(|asked| asked.join().unwrap()).collect();
        refused.sort_by_key(ToString::to_string);
        assert_eq!(refused, ["busy", "busy", "preparing", "preparing", "preparing", "preparing"].map(Value::from));
        assert_eq!(at_work(worker), 1);
        let ana = request_by("ana", &anas);
        eventually("ana's turn", || (at_work(worker) == 2).then_some(()));
        assert_eq!(ana.join().unwrap(), "preparing");
    });
}

#[test]
fn a_failed_preparation_is_not_retried_at_once() {
    let origin = Origin::start();
    let (worker, _dir) = with_ffmpeg(&origin, "exit 1", "");
    let id = finished(&worker, &origin, &media::read("sample.mp4"));
    for _ in 0..3 {
        assert_eq!(code(&worker.get("ana", &index(&id))), (500, json!("remux_failed")));
        assert_eq!(code(&worker.get("ana", &stream(&id))), (500, json!("remux_failed")));
    }
    assert_eq!(worker.log().matches("a stream was not prepared").count(), 1, "{}", worker.log());
}
