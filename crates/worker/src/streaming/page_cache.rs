//! Reads a range of a file into the page cache before it is sent, so that no thread that serves other requests waits for a disk.

use std::{
    fs::File,
    io::{self, IoSliceMut},
    iter::once,
    sync::Arc,
};

use rustix::io::{ReadWriteFlags, preadv2};
use tokio::task::spawn_blocking;

#[cfg(test)]
#[path = "../../../../tests/support/skips.rs"]
mod skips;

/// If one byte is in memory, the bytes up to the next step are assumed to be as well: the kernel reads ahead in larger windows.
const STEP: usize = 64 << 10;

/// Completes once the range is in memory; fails if it cannot be read.
pub(crate) async fn load(file: &Arc<File>, at: u64, bytes: u64) -> io::Result<()> {
    if is_there(file, at, bytes) {
        return Ok(());
    }
    let file = Arc::clone(file);
    spawn_blocking(move || read(&file, at, bytes)).await?
}

/// Checks without blocking. A file system that does not support this counts as having nothing in memory.
fn is_there(file: &File, at: u64, bytes: u64) -> bool {
    let end = at.saturating_add(bytes);
    (at..end).step_by(STEP).chain(once(end.saturating_sub(1))).all(|place| {
        let mut byte = [0];
        preadv2(file, &mut [IoSliceMut::new(&mut byte)], place, ReadWriteFlags::NOWAIT).is_ok_and(|read| read == 1)
    })
}

fn read(file: &File, at: u64, bytes: u64) -> io::Result<()> {
    let mut place = at;
    let end = at.saturating_add(bytes);
    let mut space = vec![0; STEP];
    while place < end {
        match rustix::io::pread(file, &mut space[..], place)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => place += read as u64,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use rustix::fs::{Advice, fadvise};

    use super::skips::skipped;
    use super::*;

    const LENGTH: u64 = 8 << 20;

    fn on_disk() -> Arc<File> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![7; 8 << 20]).unwrap();
        file.sync_all().unwrap();
        fadvise(&file, 0, None, Advice::DontNeed).unwrap();
        Arc::new(file)
    }

    #[tokio::test]
    async fn a_stretch_that_was_brought_is_readable_without_waiting() {
        let file = on_disk();
        rustix::io::pread(&file, &mut [0; 1][..], 0).unwrap();
        if !is_there(&file, 0, 1) {
            skipped("this file system cannot tell what is in memory");
            return;
        }
        load(&file, 0, LENGTH).await.unwrap();
        assert!(is_there(&file, 0, LENGTH));
    }

    #[tokio::test]
    async fn a_stretch_beyond_the_end_cannot_be_brought() {
        let file = on_disk();
        assert!(load(&file, LENGTH - 5, 5).await.is_ok());
        assert_eq!(load(&file, LENGTH - 5, 6).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
