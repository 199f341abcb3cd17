//! The folder of the configuration file, which relative paths start from.

use std::path::{Path, PathBuf};

/// The folder of the configuration file.
#[derive(Clone, Copy)]
pub(super) struct Base<'p>(pub(super) &'p Path);

impl Base<'_> {
    /// Returns the absolute path of a file or folder.
    pub(super) fn path(self, path: impl AsRef<Path>) -> PathBuf {
        self.0.join(path)
    }

    /// Returns the absolute paths of files or folders.
    pub(super) fn paths(self, paths: &[PathBuf]) -> Vec<PathBuf> {
        paths.iter().map(|path| self.path(path)).collect()
    }

    /// Returns the path of a program. A name is looked up on the PATH later; a path with a slash is relative to the folder.
    pub(super) fn program(self, text: &str) -> PathBuf {
        if text.contains('/') { self.path(text) } else { text.into() }
    }
}
