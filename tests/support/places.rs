//! The locations of build results and project files: in the checkout, or in the copy of it that `TEST_COPY` names. `scripts/test`
//! creates a copy for an ordinary user, who may not be able to enter the checkout.

use std::{env, path::PathBuf};

fn copy() -> Option<PathBuf> {
    env::var_os("TEST_COPY").map(PathBuf::from)
}

/// The built program.
pub(crate) fn program() -> PathBuf {
    copy().map_or_else(|| env!("CARGO_BIN_EXE_sallyport").into(), |copy| copy.join("sallyport"))
}

/// The project's folder.
pub(crate) fn project() -> PathBuf {
    copy().unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into())
}

/// A folder for files that tests create only once.
pub(crate) fn scratch() -> PathBuf {
    copy().map_or_else(|| env!("CARGO_TARGET_TMPDIR").into(), |copy| copy.join("tmp"))
}
