//! What the arguments of `confine` allow a program.

use std::{ffi::OsString, path::PathBuf};

use super::Strictness;

/// The parsed arguments of the helper.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Confinement {
    /// The process id that the parent must have; otherwise the helper exits.
    pub(super) parent: Option<i32>,
    pub(super) max_file_size: Option<u64>,
    pub(super) max_cpu: Option<u64>,
    /// The egress guard's socket, for the reaper's relay. If it is set, the reaper enters namespaces.
    pub(super) relay: Option<PathBuf>,
    pub(super) files: Option<Files>,
    pub(super) program: OsString,
    pub(super) args: Vec<OsString>,
}

/// The only files that the program may read and write, and the only port that it may connect to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Files {
    pub(super) read: Vec<PathBuf>,
    pub(super) write: PathBuf,
    pub(super) connect: Option<u16>,
    pub(super) strictness: Strictness,
}

/// The network namespace of the process. With its own network comes its own PID namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Network {
    /// Its own, in which nothing needs protection.
    Own,
    /// The host's, shared with the host's processes. Landlock can restrict ports there since Linux 6.7, and signals since 6.12.
    Shared,
}

impl Confinement {
    /// Parses `[OPTIONS] -- PROGRAM ARGS…`.
    pub(super) fn parse(args: Vec<OsString>) -> Option<Self> {
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
