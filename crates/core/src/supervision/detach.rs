//! Starts a process that the service manager adopts immediately, so that it can wait for the process to end.
//!
//! systemd waits only for its own children. It would kill a main process that is a child of the previous one, without the time to drain that
//! `TimeoutStopSec=` allows. Here an intermediate process starts the new one and exits, which makes the new one an orphan.

use std::{
    env,
    ffi::{OsStr, OsString},
    io,
    process::{Child, Command},
};

/// The argument with which the intermediate process is started.
pub const DETACH: &str = "detach";

/// Starts this program with these arguments, by the name that this process was started with, because its own file may have been replaced.
/// Returns the intermediate process as a child; its exit status says whether the program could be started.
///
/// # Errors
/// Fails if the intermediate process cannot be started.
pub fn start(args: &[&OsStr]) -> io::Result<Child> {
    Command::new(name()?).arg(DETACH).args(args).spawn()
}

/// Runs the intermediate process: starts the program and returns.
///
/// # Errors
/// Fails if the program cannot be started.
pub fn detach(args: impl Iterator<Item = OsString>) -> io::Result<()> {
    Command::new(name()?).args(args).spawn().map(drop)
}

fn name() -> io::Result<OsString> {
    env::args_os()
        .next()
        .ok_or_else(|| io::Error::other("cannot determine the name of this program: argv[0] is missing"))
}
