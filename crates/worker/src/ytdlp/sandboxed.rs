//! Assembles a run of a program in the sandbox: what it runs, where, within which limits, and what it may read and reach.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    process::Stdio,
};

use tokio::process::Command;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{child::Group, limits::Limits, run::Run, tools::Tools};
use crate::{
    disk::Disks,
    sandbox::{Allowance, egress_tokens::EgressTokens},
};

/// The running program, even after an upgrade has replaced its file.
const OURSELVES: &str = "/proc/self/exe";

/// The proxy variables of yt-dlp and of the ffmpeg that it starts.
const PROXIES: [&str; 2] = ["http_proxy", "https_proxy"];

/// A run that has not started yet. By default it reads only its programs and reaches nothing.
pub(crate) struct SandboxedRun<'a> {
    tools: &'a Tools,
    program: &'a Path,
    args: Vec<OsString>,
    /// The working folder, home and folder for temporary files; the only one that the child can write to.
    folder: &'a Path,
    limits: Limits,
    /// What the child may read besides its programs.
    reads: Option<&'a Path>,
    /// The egress guard's URL, with an egress token.
    proxy: Option<String>,
}

impl<'a> SandboxedRun<'a> {
    pub(crate) fn new(
        tools: &'a Tools,
        program: &'a Path,
        args: Vec<OsString>,
        folder: &'a Path,
        limits: Limits,
    ) -> Self {
        Self { tools, program, args, folder, limits, reads: None, proxy: None }
    }

    pub(crate) fn yt_dlp(tools: &'a Tools, args: Vec<OsString>, folder: &'a Path, limits: Limits) -> Self {
        Self::new(tools, &tools.yt_dlp, args, folder, limits)
    }

    /// Lets the child read `path`, and everything in it if it is a folder.
    pub(crate) fn reading(self, path: &'a Path) -> Self {
        Self { reads: Some(path), ..self }
    }

    /// Lets the child transfer up to `bytes` through the egress guard, as `job`, for as long as it may run.
    pub(crate) fn online(self, tokens: &EgressTokens, job: Uuid, bytes: u64) -> Self {
        let proxy = tokens.proxy(&self.tools.sandbox, job, self.limits.time, bytes);
        Self { proxy: Some(proxy), ..self }
    }

    /// Starts the child. It runs until it exits, `stop` is cancelled, or it reaches one of its limits or the reserve of `disks`.
    pub(crate) fn start(self, disks: &Disks, stop: &CancellationToken) -> io::Result<Run> {
        let folder = self.folder;
        let limits = self.limits;
        Ok(Run::begin(self.spawn()?, folder, limits, disks, stop))
    }

    /// Starts the child without watching it.
    pub(super) fn spawn(self) -> io::Result<Group> {
        Group::spawn(self.command())
    }

    /// The command of the reaper, which runs the program in its confinement.
    fn command(self) -> Command {
        let Self { tools, program, args, folder, limits, reads, proxy } = self;
        let allowance = Allowance { file: limits.file, cpu: limits.cpu.as_secs() };
        let reads = reads.map(PathBuf::from);
        // The proxy goes into the environment, which other users of the machine cannot read, unlike arguments. The environment is
        // otherwise cleared, so no variable exempts a host from the proxy.
        let proxies = proxy.iter().flat_map(|url| PROXIES.map(|name| (name, url)));
        let mut command = Command::new(OURSELVES);
        command
            .args(tools.sandbox.arguments(folder, tools.readable.iter().chain(&reads), allowance))
            .arg(program)
            .args(args)
            .env_clear()
            .envs(proxies)
            .env("PATH", &tools.path)
            .env("HOME", folder)
            .env("TMPDIR", folder)
            .env("XDG_CONFIG_HOME", folder.join("none"))
            .env("LANG", "C.UTF-8")
            .current_dir(folder)
            // Held open and never written to: when it closes, the reaper knows that this process has ended.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        command
    }
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsStr, time::Duration};

    use super::*;
    use crate::{
        egress::EgressTokenKey,
        sandbox::{EgressPath, Sandbox, Strictness},
    };

    fn tools() -> Tools {
        Tools {
            yt_dlp: "/opt/yt-dlp".into(),
            ffmpeg: None,
            js_runtime: None,
            path: "/usr/bin".into(),
            companion: "".into(),
            readable: vec!["/opt".into()],
            sandbox: Sandbox { egress_path: EgressPath::Loopback(1), strictness: Strictness::Whole },
        }
    }

    /// The paths that the child may read.
    fn readable(command: &Command) -> Vec<&OsStr> {
        let args: Vec<_> = command.as_std().get_args().collect();
        args.windows(2).filter(|pair| pair[0] == "--read").map(|pair| pair[1]).collect()
    }

    fn proxy(command: &Command) -> Option<&OsStr> {
        command.as_std().get_envs().find(|(name, _)| *name == "https_proxy")?.1
    }

    #[test]
    fn a_run_is_offline_and_reads_only_its_programs_unless_told_otherwise() {
        let tools = tools();
        let limits = Limits { cpu: Duration::from_secs(7), ..Limits::scratch(Duration::from_secs(5)) };
        let run = || SandboxedRun::yt_dlp(&tools, vec!["--version".into()], Path::new("/job"), limits);
        let command = run().command();
        assert_eq!((readable(&command), proxy(&command)), (vec![OsStr::new("/opt")], None));
        let args: Vec<_> = command.as_std().get_args().collect();
        assert!(args.ends_with(&["--".as_ref(), "/opt/yt-dlp".as_ref(), "--version".as_ref()]), "{args:?}");
        for limit in [["--write", "/job"], ["--max-file-size", "67108864"], ["--max-cpu", "7"]] {
            assert!(args.windows(2).any(|pair| pair == limit), "{limit:?} in {args:?}");
        }
        let tokens = EgressTokens::new(EgressTokenKey::new(b"key"));
        let command = run().reading(Path::new("/video")).online(&tokens, Uuid::nil(), 1).command();
        assert_eq!(readable(&command), ["/opt", "/video"]);
        assert!(proxy(&command).is_some());
    }
}
