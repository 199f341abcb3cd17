//! Brings a stretch of a file into memory before it is sent, so that no thread that serves others waits for a disk.

use std::{
    fs::File,
    io::{self, IoSliceMut},
    iter::once,
    sync::Arc,
};

use rustix::io::{ReadWriteFlags, preadv2};
use tokio::task::spawn_blocking;

#[cfg(test)]
#[path = "../../tests/support/skips.rs"]
mod skips;

/// Where one byte is in memory, so much around it is taken to be: the system reads ahead in larger windows.
const STEP: usize = 64 << 10;

/// Ends once the stretch is in memory, or fails where it cannot be read.
pub(super) async fn bring(file: &Arc<File>, at: u64, bytes: u64) -> io::Result<()> {
    if is_there(file, at, bytes) {
        return Ok(());
    }
    let file = Arc::clone(file);
    spawn_blocking(move || read(&file, at, bytes)).await?
}

/// Asks without waiting; a filesystem that cannot be asked so has nothing there.
fn is_there(file: &File, at: u64, bytes: u64) -> bool {
    let end = at.saturating_add(bytes);
    (at..end).step_by(STEP).chain(once(end.saturating_sub(1))).all(|place| {
        let mut byte = [0];
        preadv2(file, &mut [IoSliceMut::new(&mut byte)], place, ReadWriteFlags::NOWAIT).is_ok_and(|read| read == 1)
    })
}

fn read(file: &File, at: u64, bytes: u64) -> io::Result<()> {
    let (mut place, end) = (at, at.saturating_add(bytes));
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

    use super::{skips::skipped, *};

    const LENGTH: u64 = 8 << 20;

    fn on_disk() -> Arc<File> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![7; 8 << 20]).unwrap();
        file.sync_all().unwrap();
        fadvise(&file, 0, None, Advice::DontNeed).unwrap();
        Arc::new(file)
    }

    #[tokio::test]
    async fn what_is_brought_can_be_had_without_waiting() {
        let file = on_disk();
        rustix::io::pread(&file, &mut [0; 1][..], 0).unwrap();
        if !is_there(&file, 0, 1) {
            skipped("this filesystem cannot be asked what is in memory");
            return;
        }
        bring(&file, 0, LENGTH).await.unwrap();
        assert!(is_there(&file, 0, LENGTH));
    }

    #[tokio::test]
    async fn what_lies_behind_the_end_cannot_be_brought() {
        let file = on_disk();
        assert!(bring(&file, LENGTH - 5, 5).await.is_ok());
        assert_eq!(bring(&file, LENGTH - 5, 6).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
