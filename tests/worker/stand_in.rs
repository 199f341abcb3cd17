//! Programs in place of yt-dlp, which do what a page could have made the real one do.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// What the programs in `python/` share.
const SHARED: &str = include_str!("python/stand_in.py");

/// Creates a program that reports an accepted version, and otherwise runs `script`.
pub(crate) fn fake_yt_dlp(dir: &Path, script: &str) -> PathBuf {
    let path = dir.join("yt-dlp");
    let version = "case \"$*\" in *--version) echo 2026.07.04; exit;; esac";
    fs::write(&path, format!("#!/bin/sh\n{version}\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Creates the same with a Python program of `python/`. Also returns the configuration line that makes it readable.
pub(crate) fn python_yt_dlp(dir: &Path, program: &str) -> (PathBuf, String) {
    python_yt_dlp_with(dir, program, &[])
}

/// The same, with environment variables for the program.
pub(crate) fn python_yt_dlp_with(dir: &Path, program: &str, variables: &[(&str, &str)]) -> (PathBuf, String) {
    let path = dir.join("program.py");
    fs::write(&path, program).unwrap();
    fs::write(dir.join("stand_in.py"), SHARED).unwrap();
    let export = |(name, value): &(&str, &str)| format!("export {name}='{}'\n", value.replace('\'', "'\\''"));
    let exports: String = variables.iter().map(export).collect();
    let yt_dlp = fake_yt_dlp(dir, &format!("{exports}exec python3 {} \"$@\"", path.display()));
    (yt_dlp, format!("readable = [\"{}\"]", dir.display()))
}
