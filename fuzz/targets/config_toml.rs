//! No configuration text makes a start panic, and the place of each error exists in the text.

use std::path::Path;

use sallyport_core::config::{self, Diagnostics, Located};

pub fn run(data: &[u8]) {
    let Ok(source) = std::str::from_utf8(data) else { return };
    match config::read(Path::new("/etc/config.toml"), source) {
        Ok(config) => assert!(!config.listen.is_empty()),
        Err(found) => judge(&found, source),
    }
}

/// Checks that errors have a place in the text and a message.
pub(super) fn judge(Diagnostics(found): &Diagnostics, source: &str) {
    assert!(!found.is_empty(), "the list of errors is empty");
    for fault in found {
        assert!(!fault.what.is_empty());
        let Located::File { line, column, .. } = fault.at else { continue };
        if (line, column) == (0, 0) {
            continue;
        }
        let text = source.split('\n').nth(line - 1).unwrap_or_else(|| panic!("there is no line {line}: {fault}"));
        assert!((1..=text.chars().count() + 1).contains(&column), "there is no column {column}: {fault}");
    }
}
