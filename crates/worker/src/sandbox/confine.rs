//! Executes another program that dies with its parent, gains no privileges, and can access only what the arguments allow.
//!
//! It runs as a helper process between the worker and each child, because these settings would otherwise have to be made between fork
//! and exec, which requires unsafe code.

use std::{ffi::OsString, io, os::unix::process::CommandExt, path::PathBuf, process::Command};

use rustix::{
    process::{
        Pid, Resource, Rlimit, Signal, geteuid, getppid, getrlimit, getuid, set_parent_process_death_signal, setrlimit,
    },
    thread::{CapabilitiesSecureBits, set_capabilities_secure_bits, set_no_new_privs},
};
use sallyport_core::supervision::Worth;

use super::{
    Strictness,
    landlock::{self, Network},
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

/// The parsed arguments of the helper.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Confinement {
    /// The process id that the parent must have; otherwise the helper exits.
    parent: Option<i32>,
    max_file_size: Option<u64>,
    max_cpu: Option<u64>,
    /// The egress guard's socket, for the reaper's relay. If it is set, the reaper enters namespaces.
    pub(super) relay: Option<PathBuf>,
    files: Option<Files>,
    program: OsString,
    args: Vec<OsString>,
}

/// The only files that the program may read and write, and the only port that it may connect to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Files {
    pub(super) read: Vec<PathBuf>,
    pub(super) write: PathBuf,
    pub(super) connect: Option<u16>,
    pub(super) strictness: Strictness,
}

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
        // Without a folder to write to, no sandbox is requested.
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
    fn invalid_arguments_run_nothing() {
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
