//! A word on each test that cannot run here. `scripts/test` shows them at its end, since a test that passes prints nothing.

use std::{env, fs::OpenOptions, io::Write, thread};

/// Says so, and notes it in the file that `TEST_SKIPPED` names.
pub(crate) fn skipped(why: &str) {
    let test = env::var("NEXTEST_TEST_NAME").ok().or_else(|| thread::current().name().map(str::to_owned));
    let line = format!("SKIPPED: {}: {why}\n", test.unwrap_or_default());
    print!("{line}");
    if let Some(file) = env::var_os("TEST_SKIPPED") {
        OpenOptions::new().create(true).append(true).open(file).unwrap().write_all(line.as_bytes()).unwrap();
    }
}
