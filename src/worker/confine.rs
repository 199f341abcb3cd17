//! Becomes another program that dies with its parent, gains no privileges and writes no file beyond a size.
//!
//! Run as a helper process between the worker and each child, because what has to be set between fork and exec
//! cannot be set there without unsafe code.

use std::{ffi::OsString, io, os::unix::process::CommandExt, process::Command};

use rustix::{
    process::{Pid, Resource, Rlimit, Signal, getppid, getrlimit, set_parent_process_death_signal, setrlimit},
    thread::set_no_new_privs,
};

use super::keeper::keep;

/// What the helper was asked to do.
#[derive(Debug, Default, PartialEq, Eq)]
struct Confinement {
    max_file_size: Option<u64>,
    parent: Option<i32>,
    program: OsString,
    args: Vec<OsString>,
}

/// Replaces this process by `PROGRAM` as in `[--parent PID] [--max-file-size BYTES] -- PROGRAM ARGS…`.
///
/// With `--keep` before all that, this process stays, and ends the program's whole group when its standard input ends.
/// Returns only when that failed, with the reason.
#[must_use]
pub fn confine(mut args: Vec<OsString>) -> io::Error {
    if args.first().is_some_and(|first| first == "--keep") {
        args.remove(0);
        return keep(args);
    }
    match Confinement::parse(args) {
        Some(confinement) => confinement.apply(),
        None => io::Error::new(io::ErrorKind::InvalidInput, "wrong arguments for confine"),
    }
}

impl Confinement {
    fn parse(args: Vec<OsString>) -> Option<Self> {
        let mut confinement = Self::default();
        let mut args = args.into_iter();
        loop {
            match args.next()?.to_str()? {
                "--" => break,
                "--parent" => confinement.parent = Some(args.next()?.to_str()?.parse().ok()?),
                "--max-file-size" => confinement.max_file_size = Some(args.next()?.to_str()?.parse().ok()?),
                _ => return None,
            }
        }
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
        if let Some(bytes) = self.max_file_size {
            let hard = getrlimit(Resource::Fsize).maximum;
            let bytes = Some(hard.map_or(bytes, |hard| bytes.min(hard)));
            setrlimit(Resource::Fsize, Rlimit { current: bytes, maximum: bytes })?;
        }
        set_no_new_privs(true)?;
        setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
        Ok(())
    }
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
        };
        assert_eq!(parse(&["--max-file-size", "5", "--parent", "7", "--", "yt-dlp", "--parent", "--"]), Some(expected));
    }

    #[test]
    fn what_is_not_understood_runs_nothing() {
        for args in [&["--"][..], &[], &["sh"], &["--parent", "x", "--", "sh"], &["--max-file-size", "--", "sh"]] {
            assert_eq!(parse(args), None, "{args:?}");
        }
    }
}
