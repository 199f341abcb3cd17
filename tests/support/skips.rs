//! Reports tests that cannot run here. `scripts/test` lists them at its end, since a passing test prints nothing.

use std::{env, fs::OpenOptions, io::Write, thread};

/// Prints that the test is skipped, and records it in the file that `TEST_SKIPPED` names.
pub(crate) fn skipped(why: &str) {
    let test = env::var("NEXTEST_TEST_NAME").ok().or_else(|| thread::current().name().map(str::to_owned));
    let line = format!("SKIPPED: {}: {why}\n", test.unwrap_or_default());
    print!("{line}");
    if let Some(file) = env::var_os("TEST_SKIPPED") {
        OpenOptions::new().create(true).append(true).open(file).unwrap().write_all(line.as_bytes()).unwrap();
    }
}
