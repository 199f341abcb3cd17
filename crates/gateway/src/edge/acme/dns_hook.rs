//! Runs a program that writes the record of a challenge: `PROGRAM ARGUMENTS… add|remove NAME VALUE`.

use std::{
    env, io,
    path::{Path, PathBuf},
    process::{ExitStatus, Output, Stdio},
    time::Duration,
};

use thiserror::Error;
use tokio::{process::Command, time::timeout};

use super::dns_record::{ChallengeRecord, Change};

const TIMEOUT: Duration = Duration::from_mins(2);
/// How much of its error output is reported, in characters.
const MAX_COMPLAINT: usize = 300;
/// The only environment variables that it gets, since others can hold secrets.
const PASSED_ON: [&str; 4] = ["PATH", "HOME", "LANG", "TZ"];

/// The program and its first arguments.
pub(super) struct Hook {
    program: PathBuf,
    arguments: Vec<String>,
}

/// The reasons why the program fails.
#[derive(Debug, Error)]
pub(super) enum HookError {
    /// It cannot be started.
    #[error("the hook {0}: {1}")]
    Start(PathBuf, io::Error),
    /// It exits with an error.
    #[error("the hook {0}: {1}: {2}")]
    Failed(PathBuf, ExitStatus, String),
    /// It did not exit in time, and was killed.
    #[error("the hook {0} took longer than {TIMEOUT:?}")]
    Timeout(PathBuf),
}

impl Hook {
    pub(super) fn new(program: &Path, arguments: &[String]) -> Self {
        Self { program: program.to_owned(), arguments: arguments.to_vec() }
    }

    pub(super) async fn run(&self, change: Change, record: &ChallengeRecord) -> Result<(), HookError> {
        let output = timeout(TIMEOUT, self.command(change, record).output()).await;
        let output = output.map_err(|_| HookError::Timeout(self.program.clone()))?;
        let output = output.map_err(|e| HookError::Start(self.program.clone(), e))?;
        if output.status.success() {
            return Ok(());
        }
        Err(HookError::Failed(self.program.clone(), output.status, complaint(&output)))
    }

    fn command(&self, change: Change, record: &ChallengeRecord) -> Command {
        let change = match change {
            Change::Add => "add",
            Change::Remove => "remove",
        };
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).args([change, record.name.trim_end_matches('.'), &record.value]);
        command.env_clear().envs(PASSED_ON.iter().filter_map(|name| Some((name, env::var_os(name)?))));
        command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
        command
    }
}

/// Returns the end of the program's error output.
fn complaint(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    let last: Vec<char> = said.trim().chars().rev().take(MAX_COMPLAINT).collect();
    last.into_iter().rev().collect()
}
