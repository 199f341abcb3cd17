//! Stands between the worker and a child for as long as the child runs, and ends the whole process group when the
//! worker is gone. The kernel's death signal reaches a child only, not the ffmpeg that this one has started.
//!
//! It also makes the namespaces that the child lives in, and stays at their edge as the relay to the egress guard. The child
//! is the first process of its namespace, with which the kernel ends all others there, wherever they have hidden.

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

use super::{NOT_KEPT, confine::Confinement, namespace, relay::Relay};

/// Our own (proc_tid_children(5)), of which a list may lack some while others end.
const CHILDREN: &str = "/proc/thread-self/children";
/// Until the list is looked at once more.
const PAUSE: Duration = Duration::from_millis(2);

/// Runs this program again as `confine ARGS`, and ends as that ends.
///
/// The standard input is a pipe that the worker holds and never writes to: its end is the worker's.
pub(super) fn keep(confinement: &Confinement, args: Vec<OsString>) -> io::Error {
    // While there is one thread only; the kernel asks for it.
    if confinement.relay.is_some()
        && let Err(error) = namespace::enter()
    {
        return io::Error::new(error.kind(), format!("no namespace can be had: {error}"));
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
    // Whoever ends the group in good order means the child; we go when it is gone, and with it all that it has left.
    let mut terminate = signal(SignalKind::terminate())?;
    set_child_subreaper(Some(getpid()))?;
    let relay = match guard {
        Some(guard) => Some(Relay::listen(guard).await?),
        None => None,
    };
    // No thread could wait for it: there can be none beside a process whose children are in another namespace.
    let mut lifeline = Receiver::from_owned_fd(io::stdin().as_fd().try_clone_to_owned()?)?;
    let mut command = Command::new("/proc/self/exe");
    command.arg("confine");
    if relay.is_none() {
        // From within a namespace, a process outside is nobody.
        command.args(["--parent", &std::process::id().to_string()]);
    }
    // In a group of its own, since it may signal its own group, and we are what ends it.
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
            () = &mut relaying => break Err(io::Error::other("the relay has ended")),
            // By its number, for it can leave every group. As the first of its namespace it hears no signal that it has not asked
            // for, but the one that ends the namespace.
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

/// Ends what the child has left, wherever it hides: without a namespace of processes, orphans come to us. That there is nobody left is
/// what the kernel says, and nothing else is taken for it.
fn end_orphans() -> io::Result<()> {
    let mut patience = WaitOptions::NOHANG;
    loop {
        // Also for those of a clone that has no signal for its end.
        match wait(patience | WaitOptions::from_bits_retain(libc::__WALL.cast_unsigned())) {
            Err(Errno::CHILD) => return Ok(()),
            Ok(None) => patience = kill_children()?,
            Ok(Some(_)) | Err(Errno::INTR) => patience = WaitOptions::NOHANG,
            Err(error) => return Err(error.into()),
        }
    }
}

/// How to wait then: for those who were killed, or not at all where the list lacks whoever is left.
fn kill_children() -> io::Result<WaitOptions> {
    let children = fs::read_to_string(CHILDREN)?;
    let children = children.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?));
    if children.filter(|child| kill_process(*child, Signal::KILL).is_ok()).count() > 0 {
        return Ok(WaitOptions::empty());
    }
    sleep(PAUSE);
    Ok(WaitOptions::NOHANG)
}
