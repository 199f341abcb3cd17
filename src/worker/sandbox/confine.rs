//! Becomes another program that dies with its parent, gains no privileges, and has no more than was given to it.
//!
//! Run as a helper process between the worker and each child, because what has to be set between fork and exec
//! cannot be set there without unsafe code.

use std::{ffi::OsString, io, os::unix::process::CommandExt, path::PathBuf, process::Command};

use rustix::{
    process::{
        Pid, Resource, Rlimit, Signal, geteuid, getppid, getrlimit, getuid, set_parent_process_death_signal, setrlimit,
    },
    thread::{CapabilitiesSecureBits, set_capabilities_secure_bits, set_no_new_privs},
};

use super::{
    Strictness,
    keeper::keep,
    landlock::{self, Network},
    syscalls,
};
use crate::supervision::Worth;

/// In bytes of memory that a process may write to. V8 reserves far more addresses than that, which do not count.
const MAX_DATA: u64 = 4 << 30;
const MAX_FILES: u64 = 1_024;
/// In processes and threads, counted for the namespace.
const MAX_TASKS: u64 = 512;
/// The same, counted for the account, which is the worker's and has three quarters of what the unit may have (`TasksMax=`). An account
/// that is not a unit's has other things to do.
const MAX_TASKS_OF_UNIT: u64 = 768;

/// What the helper was asked to do.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Confinement {
    /// Dies unless this is its parent.
    parent: Option<i32>,
    max_file_size: Option<u64>,
    max_cpu: Option<u64>,
    /// The egress guard's socket, for the relay of the keeper; with it comes a namespace.
    pub(super) relay: Option<PathBuf>,
    files: Option<Files>,
    program: OsString,
    args: Vec<OsString>,
}

/// What may be read and written, and the one port that may be connected to; nothing else may.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Files {
    pub(super) read: Vec<PathBuf>,
    pub(super) write: PathBuf,
    pub(super) connect: Option<u16>,
    pub(super) strictness: Strictness,
}

/// Replaces this process by `PROGRAM` as in `[OPTIONS] -- PROGRAM ARGS…`.
///
/// With `--keep` before all that, this process stays, and ends the program's whole group when its standard input ends.
/// Returns only when that failed, with the reason.
#[must_use]
pub fn confine(mut args: Vec<OsString>) -> io::Error {
    let keeps = args.first().is_some_and(|first| first == "--keep");
    if keeps {
        args.remove(0);
    }
    match Confinement::parse(args.clone()) {
        Some(confinement) if keeps => keep(&confinement, args),
        Some(confinement) => confinement.apply(),
        None => io::Error::new(io::ErrorKind::InvalidInput, "wrong arguments for confine"),
    }
}

impl Confinement {
    fn parse(args: Vec<OsString>) -> Option<Self> {
        let mut confinement = Self::default();
        let mut files = Files::default();
        let mut args = args.into_iter();
        loop {
            match args.next()?.to_str()? {
                "--" => break,
                "--parent" => confinement.parent = Some(args.next()?.to_str()?.parse().ok()?),
                "--max-file-size" => confinement.max_file_size = Some(args.next()?.to_str()?.parse().ok()?),
                "--max-cpu" => confinement.max_cpu = Some(args.next()?.to_str()?.parse().ok()?),
                "--relay" => confinement.relay = Some(args.next()?.into()),
                "--read" => files.read.push(args.next()?.into()),
                "--write" => files.write = args.next()?.into(),
                "--connect" => files.connect = Some(args.next()?.to_str()?.parse().ok()?),
                "--partial" => files.strictness = Strictness::Partial,
                _ => return None,
            }
        }
        // A sandbox with nothing to write to is none that was asked for.
        confinement.files = (!files.write.as_os_str().is_empty()).then_some(files);
        confinement.program = args.next()?;
        confinement.args = args.collect();
        Some(confinement)
    }

    fn apply(self) -> io::Error {
        if let Err(error) = self.restrict() {
            return error;
        }
        Command::new(self.program).args(self.args).exec()
    }

    fn restrict(&self) -> io::Result<()> {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // A parent that died before the line above sends no signal any more.
        if self.parent.is_some() && self.parent != getppid().map(Pid::as_raw_pid) {
            return Err(io::Error::other("the parent is gone"));
        }
        limit(Resource::Core, 0)?;
        for (resource, value) in [(Resource::Fsize, self.max_file_size), (Resource::Cpu, self.max_cpu)] {
            value.map_or(Ok(()), |value| limit(resource, value))?;
        }
        set_no_new_privs(true)?;
        let Some(files) = &self.files else { return Ok(()) };
        Worth::Child.declare();
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

/// Has a program that runs as root start without capabilities in its namespaces.
///
/// Another account's program starts without them anyway (capabilities(7)): the namespace has emptied the ambient set, and with
/// `no_new_privs` a file gives none. Such an account holds no `CAP_SETPCAP`, and could not set these bits.
fn refuse_root_capabilities() -> io::Result<()> {
    if !getuid().is_root() && !geteuid().is_root() {
        return Ok(());
    }
    Ok(set_capabilities_secure_bits(CapabilitiesSecureBits::NO_ROOT | CapabilitiesSecureBits::NO_ROOT_LOCKED)?)
}

/// Never raises what is lower already.
fn limit(resource: Resource, value: u64) -> io::Result<()> {
    let value = Some(getrlimit(resource).maximum.map_or(value, |hard| value.min(hard)));
    Ok(setrlimit(resource, Rlimit { current: value, maximum: value })?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Option<Confinement> {
        Confinement::parse(args.iter().map(OsString::from).collect())
    }

    #[test]
    fn everything_after_the_dashes_belongs_to_the_program() {
        let expected = Confinement {
            max_file_size: Some(5),
            parent: Some(7),
            program: "yt-dlp".into(),
            args: vec!["--parent".into(), "--".into()],
            ..Confinement::default()
        };
        assert_eq!(parse(&["--max-file-size", "5", "--parent", "7", "--", "yt-dlp", "--parent", "--"]), Some(expected));
    }

    #[test]
    fn what_is_not_understood_runs_nothing() {
        for args in [
            &["--"][..],
            &[],
            &["sh"],
            &["--parent", "x", "--", "sh"],
            &["--max-file-size", "--", "sh"],
            &["--connect", "99999", "--", "sh"],
        ] {
            assert_eq!(parse(args), None, "{args:?}");
        }
    }
}
