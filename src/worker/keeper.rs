//! Stands between the worker and a child for as long as the child runs, and ends the whole process group when the
//! worker is gone. The kernel's death signal reaches a child only, not the ffmpeg that this one has started.

use std::{
    ffi::OsString,
    io::{self, Read},
    os::unix::process::ExitStatusExt,
    process::{ExitStatus, exit},
};

use rustix::process::{Signal, getpgrp, kill_process_group};
use tokio::{
    process::Command,
    runtime::Builder,
    signal::unix::{SignalKind, signal},
    task::spawn_blocking,
};

/// Runs this program again as `confine ARGS`, and ends as that ends.
///
/// The standard input is a pipe that the worker holds and never writes to: its end is the worker's.
pub(super) fn keep(args: Vec<OsString>) -> io::Error {
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return error,
    };
    let kept = runtime.block_on(watch(args));
    // The thread that waits for the worker's end would be waited for.
    runtime.shutdown_background();
    match kept {
        Ok(status) => exit(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))),
        Err(error) => error,
    }
}

async fn watch(args: Vec<OsString>) -> io::Result<ExitStatus> {
    // Whoever ends the group in good order means the child; we go when it is gone.
    let _deaf = signal(SignalKind::terminate())?;
    let parent = std::process::id().to_string();
    let mut command = Command::new("/proc/self/exe");
    command.args(["confine", "--parent", &parent]).args(args).stdin(std::process::Stdio::null());
    let mut child = command.spawn()?;
    tokio::select! {
        status = child.wait() => status,
        _ = spawn_blocking(worker_is_gone) => {
            kill_process_group(getpgrp(), Signal::KILL)?;
            child.wait().await
        }
    }
}

fn worker_is_gone() {
    while io::stdin().read(&mut [0]).is_ok_and(|read| read > 0) {}
}
