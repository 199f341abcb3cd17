//! Clock jumps: the worker runs under libfaketime, and the tests change its clock while it runs.

use std::{env, fs, path::PathBuf, thread::sleep, time::Duration};

use crate::{
    media,
    origin::Origin,
    places,
    process::{Setup, Worker, eventually, yt_dlp},
    skips::skipped,
    stand_in::fake_yt_dlp,
};

/// The offset of the worker's clock from the correct time, in a file that libfaketime reads at each call.
struct Clock(tempfile::NamedTempFile);

impl Clock {
    fn right() -> Self {
        let clock = Self(tempfile::NamedTempFile::new().unwrap());
        clock.set("+0");
        clock
    }

    /// Sets the offset, such as `+10y` or `-1d`.
    fn set(&self, ahead: &str) {
        fs::write(self.0.path(), format!("{ahead}\n")).unwrap();
    }
}

fn library() -> Option<PathBuf> {
    let given = env::var_os("TEST_FAKETIME").map(PathBuf::from);
    let system = PathBuf::from("/usr/lib").join(format!("{}-linux-gnu", env::consts::ARCH));
    let folders = [places::project().join(".tools/faketime"), system.join("faketime")];
    given.into_iter().chain(folders.map(|folder| folder.join("libfaketimeMT.so.1"))).find(|path| path.exists())
}

/// Starts a worker with its own clock. Returns `None` and reports a skip if libfaketime is not installed.
fn worker(origin: &Origin, yt_dlp: PathBuf, extra: &'static str) -> Option<(Worker, Clock)> {
    let Some(library) = library() else {
        skipped("libfaketime is not installed");
        return None;
    };
    let clock = Clock::right();
    let file = format!("FAKETIME_TIMESTAMP_FILE={}", clock.0.path().display());
    let words = ["env", &format!("LD_PRELOAD={}", library.display()), &file, "FAKETIME_NO_CACHE=1"];
    let words = words.map(|word| &*word.to_owned().leak()).into_iter().chain(["FAKETIME_DONT_FAKE_MONOTONIC=1"]);
    let wrapper = words.collect::<Vec<_>>().leak();
    Some((Worker::with(origin, &Setup { yt_dlp, extra, wrapper }), clock))
}

#[test]
fn a_clock_that_jumps_ahead_does_not_expire_the_library() {
    let origin = Origin::start();
    let Some((worker, clock)) = worker(&origin, yt_dlp(), "keep_for = \"30d\"") else { return };
    let task = worker.completed("ana", &origin.url("sample.mp4"));
    let id = task["id"].as_str().unwrap();
    clock.set("+10y");
    eventually("a log line about the jump", || worker.log().contains("the clock has jumped").then_some(()));
    // Long enough for two checks of the retention limits.
    sleep(Duration::from_secs(11));
    clock.set("+0");
    assert!(worker.media(id).join("media.mp4").exists() && !worker.log().contains("by retention"), "{}", worker.log());
    assert_eq!(worker.get("ana", &format!("/api/download/{id}/file")).body, media::read("sample.mp4"));
}

#[test]
fn a_download_survives_a_clock_that_jumps_and_jumps_back() {
    for ahead in ["+1d", "-1d"] {
        let origin = Origin::start();
        let Some((worker, clock)) = worker(&origin, yt_dlp(), "") else { return };
        let ids = ["slow/hls.m3u8", "slow/sample.mp4"].map(|name| worker.download("ana", &origin.url(name)));
        for id in &ids {
            worker.wait_for_partial(id, 1);
        }
        clock.set(ahead);
        // How long the clock is wrong. A task that waits to retry then has a time that lies in the future of the correct clock.
        sleep(Duration::from_secs(5));
        clock.set("+0");
        for id in &ids {
            worker.wait_for_status(id, "completed");
            let file = worker.get("ana", &format!("/api/download/{id}/file"));
            assert_eq!(media::probe(&file.body), ("h264,aac".to_owned(), 6), "{ahead}");
        }
    }
}

#[test]
fn a_wrong_clock_does_not_make_a_job_look_stalled() {
    let origin = Origin::start();
    let dir = tempfile::tempdir().unwrap();
    let script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do echo x >> tmp/media.mp4; sleep 0.5; done\n\
        echo 'ERROR: it is over' >&2; exit 1";
    let yt_dlp = fake_yt_dlp(dir.path(), script);
    let Some((worker, clock)) = worker(&origin, yt_dlp, "stall_timeout = \"2s\"\nretries = 0") else { return };
    let id = worker.download("ana", &origin.url("sample.mp4"));
    worker.wait_for_partial(&id, 1);
    clock.set("+1d");
    // Longer than `stall_timeout`, and than the script runs.
    sleep(Duration::from_secs(8));
    clock.set("+0");
    assert_eq!(worker.wait_for_status(&id, "error")["error_message"], "it is over");
}
