//! Executes another program that dies with its parent, gains no privileges, and can access only what the arguments allow.
//!
//! It runs as a helper process between the worker and each child, because these settings would otherwise have to be made between fork
//! and exec, which requires unsafe code.

use std::{ffi::OsString, io, os::unix::process::CommandExt, process::Command};

use rustix::{
    process::{
        Pid, Resource, Rlimit, Signal, geteuid, getppid, getrlimit, getuid, set_parent_process_death_signal, setrlimit,
    },
    thread::{CapabilitiesSecureBits, set_capabilities_secure_bits, set_no_new_privs},
};
use sallyport_core::supervision::OomPriority;

use super::{
    Strictness,
    confinement::{Confinement, Network},
    landlock,
    reaper::keep,
    syscalls,
};

/// Writable memory of a process, in bytes. V8 reserves far more address space than that, which does not count.
const MAX_DATA: u64 = 4 << 30;
const MAX_FILES: u64 = 1_024;
/// Processes and threads, counted per namespace.
const MAX_TASKS: u64 = 512;
/// Processes and threads, counted for the worker's account: three quarters of the unit's `TasksMax=`. Outside a unit the limit is not
/// set, because the account also runs other programs.
const MAX_TASKS_OF_UNIT: u64 = 768;

/// Replaces this process with `PROGRAM`; the arguments are `[OPTIONS] -- PROGRAM ARGS…`.
///
/// With `--keep` as the first argument, this process stays as the reaper and ends the program's whole group when its standard input
/// ends. Returns only on failure, with the reason.
#[must_use]
pub fn confine(mut args: Vec<OsString>) -> io::Error {
    let keeps = args.first().is_some_and(|first| first == "--keep");
    if keeps {
        args.remove(0);
    }
    match Confinement::parse(args.clone()) {
        Some(confinement) if keeps => keep(&confinement, args),
        Some(confinement) => confinement.apply(),
        None => io::Error::new(io::ErrorKind::InvalidInput, "invalid arguments for confine"),
    }
}

impl Confinement {
    fn apply(self) -> io::Error {
        if let Err(error) = self.restrict() {
            return error;
        }
        Command::new(self.program).args(self.args).exec()
    }

    fn restrict(&self) -> io::Result<()> {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // A parent that died before the call above no longer sends the signal.
        if self.parent.is_some() && self.parent != getppid().map(Pid::as_raw_pid) {
            return Err(io::Error::other("the parent process has ended"));
        }
        limit(Resource::Core, 0)?;
        for (resource, value) in [(Resource::Fsize, self.max_file_size), (Resource::Cpu, self.max_cpu)] {
            value.map_or(Ok(()), |value| limit(resource, value))?;
        }
        set_no_new_privs(true)?;
        let Some(files) = &self.files else { return Ok(()) };
        OomPriority::Child.declare();
        limit(Resource::Data, MAX_DATA)?;
        limit(Resource::Nofile, MAX_FILES)?;
        let network = if self.relay.is_some() { Network::Own } else { Network::Shared };
        match (network, files.strictness) {
            (Network::Own, _) => {
                limit(Resource::Nproc, MAX_TASKS)?;
                refuse_root_capabilities()?;
            }
            (Network::Shared, Strictness::Whole) => limit(Resource::Nproc, MAX_TASKS_OF_UNIT)?,
            (Network::Shared, Strictness::Partial) => {}
        }
        landlock::restrict(files, network)?;
        syscalls::restrict(network)
    }
}

/// Makes a program that runs as root start without capabilities in its namespaces.
///
/// Programs of other accounts start without them anyway (capabilities(7)): entering the namespace empties the ambient set, and with
/// `no_new_privs` files grant none. Such an account has no `CAP_SETPCAP` and could not set these bits.
fn refuse_root_capabilities() -> io::Result<()> {
    if !getuid().is_root() && !geteuid().is_root() {
        return Ok(());
    }
    Ok(set_capabilities_secure_bits(CapabilitiesSecureBits::NO_ROOT | CapabilitiesSecureBits::NO_ROOT_LOCKED)?)
}

/// Sets a limit, but never raises a lower one.
fn limit(resource: Resource, value: u64) -> io::Result<()> {
    let value = Some(getrlimit(resource).maximum.map_or(value, |hard| value.min(hard)));
    Ok(setrlimit(resource, Rlimit { current: value, maximum: value })?)
}
