//! Rules about the source code as a whole: which part may use which other part, and what is done in one place only.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod imports;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use imports::Crate;

/// The crates with rooms. The program itself has one room only, `cli`, and what Cargo.toml allows it.
const CRATES: [&str; 3] = ["core", "gateway", "worker"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every source file below a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut folders = vec![folder.to_owned()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The rooms of a crate from top to bottom, as docs/architecture.md lists them: `` | `gateway` | `a` > `b` | ``.
fn order(of: &str) -> Vec<String> {
    let document = fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    let row = document.lines().find(|line| line.starts_with(&format!("| `crates/{of}` |")) && line.contains(" > "));
    let row = row.unwrap_or_else(|| panic!("docs/architecture.md has no order of the rooms of crates/{of}"));
    let rooms = row.split('|').nth(2).unwrap_or_default();
    rooms.split(" > ").map(|room| room.trim().trim_matches('`').to_owned()).collect()
}

/// A rename that is not synced can be lost in a power cut.
#[test]
fn files_are_renamed_in_one_place() {
    let all = ["src", "crates"].into_iter().flat_map(|folder| sources(&root().join(folder)));
    let renaming = all.filter(|path| fs::read_to_string(path).unwrap().contains("fs::rename("));
    let found: BTreeSet<_> = renaming.map(|path| path.strip_prefix(root()).unwrap().to_owned()).collect();
    // A rotated log that a power cut damages is still a log.
    let places = ["crates/core/src/files/durable.rs", "crates/gateway/src/observe/access_log/file.rs"];
    assert_eq!(found, places.map(PathBuf::from).into());
}

#[test]
fn a_room_uses_only_rooms_below_it() {
    for name in CRATES {
        let order = order(name);
        let of = Crate::read(&root().join("crates").join(name).join("src"));
        let place = |room: &str| order.iter().position(|other| other == room);
        let missing: Vec<_> = of.rooms().into_iter().filter(|room| place(room).is_none()).collect();
        assert!(missing.is_empty(), "docs/architecture.md does not place these rooms of crates/{name}: {missing:?}");
        let upward: Vec<_> = of
            .imports()
            .filter(|(from, to)| place(from.room()) > place(to.room()))
            .map(|(a, b)| format!("{a} uses {b}"))
            .collect();
        assert!(upward.is_empty(), "crates/{name}, against the order in docs/architecture.md: {upward:#?}");
    }
}

/// Files that need each other can only be read together. A folder's own file and the files in it are one thing and do not count.
#[test]
fn few_files_need_each_other() {
    let circles = CRATES.iter().flat_map(|name| Crate::read(&root().join("crates").join(name).join("src")).circles());
    let large: Vec<_> = circles.filter(|circle| circle.len() > 3).collect();
    assert!(large.is_empty(), "{large:#?}");
}

#[test]
fn only_the_http2_adapter_knows_pingora() {
    let all = ["src", "crates"].into_iter().flat_map(|folder| sources(&root().join(folder)));
    let using = all.filter(|path| fs::read_to_string(path).unwrap().contains("pingora::"));
    let elsewhere: Vec<_> =
        using.filter(|path| !path.to_str().unwrap().contains("/clients/http2_transport.rs")).collect();
    assert!(elsewhere.is_empty(), "{elsewhere:?}");
}

/// A path such as `policy/decide.rs` is the end of the path of a file.
#[test]
fn every_file_that_the_documents_name_exists() {
    let all: Vec<_> = ["src", "crates", "tests"].iter().flat_map(|folder| sources(&root().join(folder))).collect();
    let named = regex::Regex::new(r"`([a-z0-9_/]+\.rs)`").unwrap();
    for document in ["docs/architecture.md", "CONTRIBUTING.md"] {
        let text = fs::read_to_string(root().join(document)).unwrap();
        let missing: BTreeSet<_> = named
            .captures_iter(&text)
            .map(|found| found[1].to_owned())
            .filter(|name| !all.iter().any(|path| path.ends_with(name)))
            .collect();
        assert!(missing.is_empty(), "{document} names files that do not exist: {missing:?}");
    }
}
