//! Checks the first bytes that a download writes, so that a download of something other than media ends early.

use std::{
    collections::HashSet,
    ffi::CString,
    fs::File,
    io,
    os::unix::fs::{FileExt, MetadataExt},
};

use super::{
    failure::Failure,
    parts::{
        MAX_TRACKED, PartialFiles, WORKING,
        files::{is_fragment, names, regular},
    },
};
use crate::media::{
    AcceptError,
    sniff::{self, HEAD, Sniffed},
};

/// The suffix that yt-dlp gives to incomplete files.
const PART: &[u8] = b".part";

/// The files of a run whose first bytes were already judged, by inode.
pub(super) struct Beginnings {
    parts: PartialFiles,
    judged: HashSet<u64>,
}

impl Beginnings {
    pub(super) fn new(parts: PartialFiles) -> Self {
        Self { parts, judged: HashSet::new() }
    }

    /// Judges each partial file that has become long enough since the last call.
    pub(super) fn check(&mut self) -> Result<(), Failure> {
        let folder = self.parts.folder(WORKING)?;
        let names = names(&folder)?;
        let mut judged = HashSet::new();
        for name in names.iter().filter(|name| is_part(name)).take(MAX_TRACKED) {
            let Some((file, about)) = regular(&folder, name)? else { continue };
            if !self.judged.contains(&about.ino()) {
                let Some(head) = head(&file)? else { continue };
                judge(&head)?;
            }
            judged.insert(about.ino());
        }
        self.judged = judged;
        Ok(())
    }
}

fn judge(head: &[u8]) -> Result<(), AcceptError> {
    match sniff::sniff(head) {
        Sniffed::Text => Err(AcceptError::NotMedia),
        Sniffed::Unsupported => Err(AcceptError::UnknownType),
        Sniffed::Media(_) | Sniffed::Unknown => Ok(()),
    }
}

fn is_part(name: &CString) -> bool {
    name.to_bytes().ends_with(PART) && !is_fragment(name)
}

/// Returns the first [`HEAD`] bytes, or `None` while the file is shorter.
fn head(file: &File) -> io::Result<Option<[u8; HEAD]>> {
    let mut head = [0; HEAD];
    Ok((file.read_at(&mut head, 0)? == HEAD).then_some(head))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn look(files: &[(&str, &[u8])]) -> Result<(), Failure> {
        let dir = tempfile::tempdir().unwrap();
        let tmp = dir.path().join("tmp");
        fs::create_dir(&tmp).unwrap();
        for (name, bytes) in files {
            fs::write(tmp.join(name), bytes).unwrap();
        }
        Beginnings::new(PartialFiles::new(dir.path().to_owned(), dir.path().join("synced.json"))).check()
    }

    fn long(head: &[u8]) -> Vec<u8> {
        [head, &[1; HEAD]].concat()
    }

    #[test]
    fn a_part_is_judged_once_its_first_bytes_have_arrived() {
        let page = [b'x'; HEAD];
        let archive = long(b"PK\x03\x04");
        assert!(look(&[("media.mp4.part", &page[1..])]).is_ok(), "too short to judge");
        assert!(matches!(look(&[("media.mp4.part", &page)]), Err(Failure::Refused(AcceptError::NotMedia))));
        assert!(matches!(look(&[("media.mp4.part", &archive)]), Err(Failure::Refused(AcceptError::UnknownType))));
        assert!(look(&[("media.mp4.part", &long(b"\0\0\0\x20ftypisom")), ("media.json", &page)]).is_ok());
        assert!(look(&[("media.mp4.part-Frag1.part", &page)]).is_ok(), "a fragment is judged as part of its file");
    }
}
