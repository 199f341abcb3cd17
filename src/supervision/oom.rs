//! Which process the kernel kills first when memory runs out: what a download runs, then the worker, and the gateway last.

use std::fs;

/// What a process is worth to the others, as `oom_score_adj` (proc(5)); the higher, the sooner it is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worth {
    /// It is started again, and what it was at goes on.
    Worker,
    /// One download, which is tried again.
    Child,
}

const FILE: &str = "/proc/self/oom_score_adj";

impl Worth {
    const fn score(self) -> i32 {
        match self {
            Self::Worker => 500,
            Self::Child => 900,
        }
    }

    /// Puts this process, and what it starts from now on, at its place. Any account may raise its own score, and nothing here
    /// lowers one. A system without that file kills as it sees fit.
    pub fn declare(self) {
        let current = fs::read_to_string(FILE).ok().and_then(|text| text.trim().parse::<i32>().ok());
        if current.is_some_and(|current| current < self.score()) {
            let _ = fs::write(FILE, self.score().to_string());
        }
    }
}
