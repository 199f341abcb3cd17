//! Stands between the worker and a child for as long as the child runs, and ends the whole process group when the
//! worker is gone. The kernel's death signal reaches a child only, not the ffmpeg that this one has started.
//!
//! It also makes the namespaces that the child lives in, and stays at their edge as the relay to the egress guard. The child
//! is the first process of its namespace, with which the kernel ends all others there, wherever they have hidden.

use std::{
    ffi::OsString,
    io,
    os::fd::AsFd,
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{ExitStatus, Stdio, exit},
};

use rustix::process::{Signal, getpgrp, kill_process_group};
use tokio::{
    io::AsyncReadExt,
    net::unix::pipe::Receiver,
    process::Command,
    runtime::Builder,
    signal::unix::{SignalKind, signal},
};

use super::{confine::Confinement, namespace, relay::Relay};

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
        Err(error) => error,
    }
}

async fn watch(args: Vec<OsString>, guard: Option<&Path>) -> io::Result<ExitStatus> {
    // Whoever ends the group in good order means the child; we go when it is gone.
    let _deaf = signal(SignalKind::terminate())?;
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
    let mut child = command.args(args).stdin(Stdio::null()).spawn()?;
    let relaying = async {
        match relay {
            Some(relay) => relay.serve().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        status = child.wait() => status,
        () = relaying => Err(io::Error::other("the relay has ended")),
        _ = lifeline.read_u8() => {
            kill_process_group(getpgrp(), Signal::KILL)?;
            child.wait().await
        }
    }
}
