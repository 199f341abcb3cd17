//! Finds the files that a program needs: its own file, the interpreter named in its first line, and the libraries beside them.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

/// The maximum number of links and interpreters to follow.
const MAX_STEPS: usize = 8;
/// The longest first line that the kernel reads, in bytes.
const MAX_LINE: u64 = 256;

/// Returns the files and folders that `program` needs to read, as far as its location shows.
pub(super) fn of(program: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut next = Some(program.to_owned());
    for _ in 0..MAX_STEPS {
        let Some(file) = next else { break };
        found.extend(around(&file));
        next = match fs::read_link(&file) {
            Ok(target) => Some(file.parent().unwrap_or(Path::new("/")).join(target)),
            Err(_) => interpreter(&file),
        };
    }
    found
}

/// `PREFIX/bin/program` has its libraries in `PREFIX/lib`. A program elsewhere is assumed to be a single file, since its
/// folder could be somebody's home.
fn around(file: &Path) -> Vec<PathBuf> {
    let mut found = vec![file.to_owned()];
    if let Some(bin) = file.parent().filter(|folder| folder.file_name().is_some_and(|name| name == "bin")) {
        found.push(bin.to_owned());
        let prefix = bin.parent().unwrap_or(Path::new("/"));
        found.extend(["lib", "lib64", "pyvenv.cfg"].map(|part| prefix.join(part)));
    }
    found
}

/// Returns the interpreter that a `#!` line names.
fn interpreter(file: &Path) -> Option<PathBuf> {
    let mut line = String::new();
    BufReader::new(fs::File::open(file).ok()?.take(MAX_LINE)).read_line(&mut line).ok()?;
    let mut words = line.strip_prefix("#!")?.split_whitespace();
    let first = words.next()?;
    Some(if first.ends_with("/env") { on_path(words.next()?)? } else { first.into() })
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|program| program.is_file())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_and_interpreters_are_followed_and_homes_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for folder in ["bin", "venv/bin", "python/bin"] {
            fs::create_dir_all(path(folder)).unwrap();
        }
        fs::write(path("python/bin/python3.11"), b"\x7fELF").unwrap();
        symlink(path("python/bin/python3.11"), path("venv/bin/python")).unwrap();
        fs::write(path("venv/bin/yt-dlp"), format!("#!{}\n", path("venv/bin/python").display())).unwrap();
        symlink("../venv/bin/yt-dlp", path("bin/yt-dlp")).unwrap();
        let found = of(&path("bin/yt-dlp"));
        for needed in ["bin/../venv/lib", "venv/bin/python", "python/bin/python3.11", "python/lib"] {
            assert!(found.contains(&path(needed)), "{needed}: {found:?}");
        }
        fs::write(path("yt-dlp"), b"\x7fELF").unwrap();
        assert_eq!(of(&path("yt-dlp")), [path("yt-dlp")]);
    }
}
