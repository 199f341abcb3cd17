//! The process between the worker and a child. It runs as long as the child and ends the whole process group when the worker has
//! ended: the kernel's death signal reaches only the child, not the ffmpeg that the child has started.
//!
//! The reaper also creates the child's namespaces and relays its connections to the egress guard. The child is the first process of
//! its PID namespace: when it ends, the kernel ends all others there, however they hide.

use std::{
    ffi::OsString,
    fs, io,
    os::fd::AsFd,
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{ExitStatus, Stdio, exit},
    thread::sleep,
    time::Duration,
};

use rustix::{
    io::Errno,
    process::{Pid, Signal, WaitOptions, getpid, kill_process, set_child_subreaper, wait},
};
use tokio::{
    io::AsyncReadExt,
    net::unix::pipe::Receiver,
    process::Command,
    runtime::Builder,
    signal::unix::{SignalKind, signal},
};

use super::{NOT_KEPT, confinement::Confinement, namespace, relay::Relay};

/// The children of this process (proc_tid_children(5)). The list may be incomplete while some of them end.
const CHILDREN: &str = "/proc/thread-self/children";
/// The pause before the list is read again.
const PAUSE: Duration = Duration::from_millis(2);

/// Runs this program again as `confine ARGS`, and exits with its status.
///
/// The standard input is a pipe that the worker holds open and never writes to: when it ends, the worker has ended.
pub(super) fn keep(confinement: &Confinement, args: Vec<OsString>) -> io::Error {
    // The kernel requires that the process has only one thread here.
    if confinement.relay.is_some()
        && let Err(error) = namespace::enter()
    {
        return io::Error::new(error.kind(), format!("creating a user namespace failed: {error}"));
    }
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return error,
    };
    let kept = runtime.block_on(watch(args, confinement.relay.as_deref()));
    match kept {
        Ok(status) => exit(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))),
        Err(error) => {
            eprintln!("sallyport: {error}");
            exit(NOT_KEPT)
        }
    }
}

async fn watch(args: Vec<OsString>, guard: Option<&Path>) -> io::Result<ExitStatus> {
    // A SIGTERM to the group is meant for the child. The reaper exits once the child and its descendants have ended.
    let mut terminate = signal(SignalKind::terminate())?;
    set_child_subreaper(Some(getpid()))?;
    let relay = match guard {
        Some(guard) => Some(Relay::listen(guard).await?),
        None => None,
    };
    // An asynchronous reader, since no thread can block on it: a process whose children go into another PID namespace cannot create
    // threads.
    let mut lifeline = Receiver::from_owned_fd(io::stdin().as_fd().try_clone_to_owned()?)?;
    let mut command = Command::new("/proc/self/exe");
    command.arg("confine");
    if relay.is_none() {
        // Not in a namespace: there the parent, which is outside, has no process id.
        command.args(["--parent", &std::process::id().to_string()]);
    }
    // In its own process group: a child may signal its group, and the reaper must survive to end the child.
    let mut child = command.args(args).stdin(Stdio::null()).process_group(0).kill_on_drop(true).spawn()?;
    let id = child.id().and_then(|id| Pid::from_raw(id.cast_signed())).ok_or(io::ErrorKind::NotFound)?;
    let in_namespace = relay.is_some();
    let relaying = async {
        match relay {
            Some(relay) => relay.serve().await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(relaying);
    let status = loop {
        tokio::select! {
            status = child.wait() => break status,
            () = &mut relaying => break Err(io::Error::other("the relay to the egress guard has ended")),
            // By process id, since the child can leave its group. As the first process of a namespace it receives only signals that
            // it has a handler for, and SIGKILL, which ends the namespace.
            _ = terminate.recv() => drop(kill_process(id, if in_namespace { Signal::KILL } else { Signal::TERM })),
            _ = lifeline.read_u8() => {
                child.start_kill()?;
                break child.wait().await;
            }
        }
    };
    drop(child);
    end_orphans()?;
    status
}

/// Ends all processes that the child has left, however they hide: without a PID namespace, the reaper adopts orphans. Only the kernel's
/// answer that there are no children counts as the end.
fn end_orphans() -> io::Result<()> {
    let mut patience = WaitOptions::NOHANG;
    loop {
        // `__WALL` also waits for clones that send no signal when they end.
        match wait(patience | WaitOptions::from_bits_retain(libc::__WALL.cast_unsigned())) {
            Err(Errno::CHILD) => return Ok(()),
            Ok(None) => patience = kill_children()?,
            Ok(Some(_)) | Err(Errno::INTR) => patience = WaitOptions::NOHANG,
            Err(error) => return Err(error.into()),
        }
    }
}

/// Kills the listed children. Returns how to wait next: blocking if any was killed, otherwise polling, because the list may lack some.
fn kill_children() -> io::Result<WaitOptions> {
    let children = fs::read_to_string(CHILDREN)?;
    let children = children.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?));
    if children.filter(|child| kill_process(*child, Signal::KILL).is_ok()).count() > 0 {
        return Ok(WaitOptions::empty());
    }
    sleep(PAUSE);
    Ok(WaitOptions::NOHANG)
}
