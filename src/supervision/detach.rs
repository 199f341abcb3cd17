//! Starts a process that the service manager adopts at once, so that it can wait for its end.
//!
//! systemd waits only for its own children. It would kill a main process that is the child of the one before it, without the time to
//! drain that `TimeoutStopSec=` gives. Here a process in between starts the new one and ends, which makes that an orphan.

use std::{
    env,
    ffi::{OsStr, OsString},
    io,
    process::{Child, Command},
};

/// What the process in between is started with.
pub(crate) const DETACH: &str = "detach";

/// Starts this program with these arguments, by the name that this process was started with: its own file may have been replaced.
/// The returned child is the process in between, and its status tells whether the program could be started.
///
/// # Errors
/// When the process in between cannot be started.
pub(crate) fn start(args: &[&OsStr]) -> io::Result<Child> {
    Command::new(name()?).arg(DETACH).args(args).spawn()
}

/// What the process in between does.
///
/// # Errors
/// When the program cannot be started.
pub(crate) fn detach(args: impl Iterator<Item = OsString>) -> io::Result<()> {
    Command::new(name()?).args(args).spawn().map(drop)
}

fn name() -> io::Result<OsString> {
    env::args_os().next().ok_or_else(|| io::Error::other("this program does not know by which name it was started"))
}
