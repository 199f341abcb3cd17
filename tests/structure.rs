//! Rules about the source code as a whole.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Every source file of the program, relative to the project.
fn sources() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders: Vec<_> = ["src", "crates"].map(|folder| root.join(folder)).into();
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path.strip_prefix(root).unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

fn text(source: &Path) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(source)).unwrap()
}

/// A rename that is not synced can be lost in a power cut.
#[test]
fn files_are_renamed_in_one_place() {
    let renaming = sources().into_iter().filter(|source| text(source).contains("fs::rename("));
    // A rotated log that a power cut damages is still a log.
    let places = ["crates/core/src/files/durable.rs", "crates/gateway/src/observe/access_log/file.rs"];
    assert_eq!(renaming.collect::<Vec<_>>(), places.map(PathBuf::from));
}
