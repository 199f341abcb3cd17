//! Which processes the kernel kills first when memory runs out: first the children of downloads, then the worker, last the gateway.

use std::fs;

/// The priority of a process, as `oom_score_adj` (proc(5)); the kernel kills higher scores first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OomPriority {
    /// The worker, which is restarted and resumes its work.
    Worker,
    /// One download, which is retried.
    Child,
}

const FILE: &str = "/proc/self/oom_score_adj";

impl OomPriority {
    const fn score(self) -> i32 {
        match self {
            Self::Worker => 500,
            Self::Child => 900,
        }
    }

    /// Sets the score of this process and of what it starts from now on. Any account may raise its own score, and this never lowers it. On a system
    /// without that file, this does nothing.
    pub fn declare(self) {
        let current = fs::read_to_string(FILE).ok().and_then(|text| text.trim().parse::<i32>().ok());
        if current.is_some_and(|current| current < self.score()) {
            let _ = fs::write(FILE, self.score().to_string());
        }
    }
}
