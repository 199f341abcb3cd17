//! The sandbox of yt-dlp, ffmpeg and whatever these start: what they may read and write, how much they may take, and one way out.
//!
//! Three processes: this program as keeper, which enters namespaces of its own and passes connections on to the egress guard; this
//! program once more, which gives its rights up; and what that becomes. The restrictions are the kernel's, and hold for every
//! process that comes after.

mod choose;
mod confine;
mod keeper;
mod landlock;
mod namespace;
mod outside;
mod relay;
mod syscalls;

use std::{
    ffi::OsString,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::ExitStatus,
};

pub(crate) use choose::Source;
pub use confine::confine;

/// Where the guard is found from within a namespace.
const INSIDE_PORT: u16 = 8118;

/// What a keeper ends with that cannot vouch for it that nothing of its child is left; a panic ends with it as well.
const NOT_KEPT: i32 = 101;

/// True where a keeper ended as its child did, once nothing of this was left. A signal has hit the keeper itself: that of its child
/// would have become a code.
pub(crate) fn is_kept(status: ExitStatus) -> bool {
    status.signal().is_none() && status.code() != Some(NOT_KEPT)
}

/// What may be left of a child when its keeper has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leftovers {
    /// Nothing: the kernel has ended all processes of the namespace.
    None,
    /// A process that has hidden from the keeper, which is hard, but no law of nature.
    Possible,
}

/// How children reach the egress guard, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WayOut {
    /// By a relay in a network namespace that has no other way out, to the guard's socket.
    Namespace(PathBuf),
    /// By a port of loopback; that there is no other way is left to the unit's `IPAddressDeny=`.
    Loopback(u16),
}

/// How strictly the sandbox is held to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Strictness {
    /// What cannot be restricted does not run.
    #[default]
    Whole,
    /// What the kernel does not offer is left out.
    Partial,
}

/// What all children have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sandbox {
    pub(crate) way_out: WayOut,
    pub(crate) strictness: Strictness,
}

/// How much one child may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Allowance {
    /// In bytes, for each file that it writes.
    pub(crate) file: u64,
    /// In seconds of each process.
    pub(crate) cpu: u64,
}

impl Sandbox {
    /// The arguments for [`confine`], up to the program; `folder` is the one that the child may write to.
    pub(crate) fn arguments<'a>(
        &self,
        folder: &Path,
        readable: impl IntoIterator<Item = &'a PathBuf>,
        allowance: Allowance,
    ) -> Vec<OsString> {
        let mut args: Vec<OsString> = vec!["confine".into(), "--keep".into()];
        let mut add = |name: &str, value: OsString| args.extend([OsString::from(name), value]);
        match &self.way_out {
            WayOut::Namespace(socket) => {
                add("--relay", socket.into());
                add("--connect", INSIDE_PORT.to_string().into());
            }
            WayOut::Loopback(port) => add("--connect", port.to_string().into()),
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
        match self.way_out {
            WayOut::Namespace(_) => Leftovers::None,
            WayOut::Loopback(_) => Leftovers::Possible,
        }
    }

    /// The address of the guard as the child sees it, with the pass that `credential` is.
    pub(crate) fn proxy(&self, credential: &str) -> String {
        let port = match &self.way_out {
            WayOut::Namespace(_) => INSIDE_PORT,
            WayOut::Loopback(port) => *port,
        };
        format!("http://{credential}@127.0.0.1:{port}")
    }
}
