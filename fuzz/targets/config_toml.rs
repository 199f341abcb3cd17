//! No text of a configuration makes a start panic, and each fault is at a place that is there.

use std::path::Path;

use sallyport::config::{self, Diagnostics, Located};

pub fn run(data: &[u8]) {
    let Ok(source) = std::str::from_utf8(data) else { return };
    match config::read(Path::new("/etc/config.toml"), source) {
        Ok(config) => assert!(!config.listen.is_empty()),
        Err(found) => judge(&found, source),
    }
}

/// Faults have a place in the text, and say something.
pub(super) fn judge(Diagnostics(found): &Diagnostics, source: &str) {
    assert!(!found.is_empty(), "an error without a fault");
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
