//! Finds other programs that tests run, and waits for events in other processes.

use std::{
    env,
    path::PathBuf,
    thread::sleep,
    time::{Duration, Instant},
};

use crate::places::project;

/// Returns yt-dlp from the environment, from the project's tools, or from `PATH`.
pub(crate) fn yt_dlp() -> PathBuf {
    let tools = project().join(".tools");
    let candidates = [tools.join("bin/yt-dlp"), tools.join("venv/bin/yt-dlp")];
    let installed = candidates.into_iter().find(|path| path.exists());
    env::var_os("TEST_YT_DLP").map(PathBuf::from).or(installed).unwrap_or_else(|| "yt-dlp".into())
}

/// Polls until `condition` returns something, for at most 40 seconds.
pub(crate) fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(start.elapsed() < Duration::from_secs(40), "timed out waiting for {what}");
        sleep(Duration::from_millis(50));
    }
}
