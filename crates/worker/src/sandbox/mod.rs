//! The sandbox of yt-dlp, ffmpeg and every process that these start: which files they can access, how many resources they can use,
//! and their only way to the network.
//!
//! A child consists of this program as the reaper, which enters new namespaces and relays connections to the egress guard; of this
//! program again, which gives up its privileges; and of the program that the latter executes. The kernel enforces the restrictions,
//! on every descendant as well.

mod choose;
mod confine;
mod confinement;
pub(super) mod egress_tokens;
mod landlock;
mod namespace;
mod outside;
mod reaper;
mod relay;
mod syscalls;

use std::{
    ffi::OsString,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::ExitStatus,
};

pub(crate) use self::choose::Source;
pub use self::confine::confine;

/// The loopback port that leads to the guard within a namespace.
const INSIDE_PORT: u16 = 8118;

/// The exit code of a reaper that cannot guarantee that no process of its child is left. A panic exits with the same code.
const NOT_KEPT: i32 = 101;

/// Returns true if the reaper exited with its child's status and no process of the child is left. A signal means that the reaper itself
/// was killed: it reports a signal of its child as an exit code.
pub(crate) fn is_kept(status: ExitStatus) -> bool {
    status.signal().is_none() && status.code() != Some(NOT_KEPT)
}

/// Which processes of a child may be left after its reaper has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leftovers {
    /// None: the kernel has ended all processes of the namespace.
    None,
    /// A process that hid from the reaper, which is hard but not impossible.
    Possible,
}

/// How children reach the egress guard, and nothing but the guard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EgressPath {
    /// Through a relay to the guard's socket, in a network namespace that has no other way out.
    Namespace(PathBuf),
    /// Through a loopback port. The unit's `IPAddressDeny=` has to block every other way.
    Loopback(u16),
}

/// How strictly the sandbox is enforced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Strictness {
    /// A program that cannot be fully restricted does not run.
    #[default]
    Whole,
    /// Restrictions that the kernel does not support are left out.
    Partial,
}

/// The part of the sandbox that is the same for all children.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sandbox {
    pub(crate) egress_path: EgressPath,
    pub(crate) strictness: Strictness,
}

/// Resource limits of one child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Allowance {
    /// The largest file that it may write, in bytes.
    pub(crate) file: u64,
    /// CPU time of each process, in seconds.
    pub(crate) cpu: u64,
}

impl Sandbox {
    /// Returns the arguments for [`confine`], up to the program. The child may write only to `folder`.
    pub(crate) fn arguments<'a>(
        &self,
        folder: &Path,
        readable: impl IntoIterator<Item = &'a PathBuf>,
        allowance: Allowance,
    ) -> Vec<OsString> {
        let mut args: Vec<OsString> = vec!["confine".into(), "--keep".into()];
        let mut add = |name: &str, value: OsString| args.extend([OsString::from(name), value]);
        match &self.egress_path {
            EgressPath::Namespace(socket) => {
                add("--relay", socket.into());
                add("--connect", INSIDE_PORT.to_string().into());
            }
            EgressPath::Loopback(port) => add("--connect", port.to_string().into()),
        }
        add("--write", folder.into());
        for path in readable {
            add("--read", path.into());
        }
        add("--max-file-size", allowance.file.to_string().into());
        add("--max-cpu", allowance.cpu.to_string().into());
        if self.strictness == Strictness::Partial {
            args.push("--partial".into());
        }
        args.push("--".into());
        args
    }

    pub(crate) fn leftovers(&self) -> Leftovers {
        match self.egress_path {
            EgressPath::Namespace(_) => Leftovers::None,
            EgressPath::Loopback(_) => Leftovers::Possible,
        }
    }

    /// Returns the guard's URL as the child sees it, with the egress token in `credential`.
    pub(crate) fn proxy(&self, credential: &str) -> String {
        let port = match &self.egress_path {
            EgressPath::Namespace(_) => INSIDE_PORT,
            EgressPath::Loopback(port) => *port,
        };
        format!("http://{credential}@127.0.0.1:{port}")
    }
}
