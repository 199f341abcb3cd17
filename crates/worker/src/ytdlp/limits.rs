//! Limits of one run.

use std::time::Duration;

/// Disk limits in bytes, for one file and in total, of a run that should keep almost nothing. A JavaScript runtime has a cache.
const SCRATCH_FILE: u64 = 64 << 20;
const SCRATCH: u64 = 4 * SCRATCH_FILE;

/// The longest line of a program whose output is only logged, in bytes.
const SHORT_LINE: usize = 4 << 10;

/// Limits of one run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The largest file that it may write, in bytes.
    pub(crate) file: u64,
    /// The maximum total size of the files in its folder, in bytes.
    pub(crate) folder: u64,
    /// The longest line, in bytes; a longer one ends the run.
    pub(crate) line: usize,
    pub(crate) time: Duration,
    /// The CPU time of each process.
    pub(crate) cpu: Duration,
}

impl Limits {
    /// Returns the limits of a run that takes at most `time` and should keep almost nothing.
    pub(crate) const fn scratch(time: Duration) -> Self {
        Self { file: SCRATCH_FILE, folder: SCRATCH, line: SHORT_LINE, time, cpu: time }
    }
}
