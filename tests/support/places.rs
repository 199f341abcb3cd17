//! Where tests find what was built and what belongs to the project: in the checkout, or in the copy of it that `TEST_COPY` names.
//! `scripts/test` makes a copy for an ordinary user, who may not be able to enter the checkout.

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

/// A folder for what tests make once.
pub(crate) fn scratch() -> PathBuf {
    copy().map_or_else(|| env!("CARGO_TARGET_TMPDIR").into(), |copy| copy.join("tmp"))
}
