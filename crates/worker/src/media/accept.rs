//! Accepts the file that a job's child reports, or says why it is refused.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use sallyport_core::files::durable;
use thiserror::Error;

use super::{
    container,
    files::{open_regular, real_folder, sole},
    job_folder::JobFolder,
    removal::remove,
    sniff::HEAD,
};
use crate::{disk::NoRoom, sandbox::Leftovers, tasks::media_type::MediaType};

/// How much is copied between two checks for whether to stop, in bytes.
const PIECE: u64 = 64 << 20;

/// The reason why a job's result is refused.
#[derive(Debug, Error)]
pub(crate) enum AcceptError {
    #[error("the reported file is not in the job's output folder")]
    Outside,
    #[error("the reported file is empty")]
    Empty,
    #[error("the source sent an unsupported type of file")]
    UnknownType,
    #[error("the source sent text or a playlist instead of media")]
    NotMedia,
    #[error("stopped")]
    Stopped,
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl JobFolder {
    /// Checks the file that yt-dlp reported and moves it to the result. If a process may still be able to write to it, a copy is taken
    /// instead; copying stops with the error that `go_on` returns.
    pub(crate) fn accept(
        &self,
        reported: &Path,
        leftovers: Leftovers,
        go_on: impl Fn() -> Result<(), AcceptError>,
    ) -> Result<MediaType, AcceptError> {
        // The child could have replaced this folder.
        real_folder(&self.out()).map_err(|_| AcceptError::Outside)?;
        let path = fs::canonicalize(reported).map_err(|_| AcceptError::Outside)?;
        let direct_child = path.parent() == Some(fs::canonicalize(self.out())?.as_path());
        sole(reported).map_err(|_| AcceptError::Outside)?;
        if !direct_child {
            return Err(AcceptError::Outside);
        }
        let own = match leftovers {
            Leftovers::None => path.clone(),
            Leftovers::Possible => self.copied(&path, go_on)?,
        };
        if fs::symlink_metadata(&own)?.len() == 0 {
            return Err(AcceptError::Empty);
        }
        let media = container::of(reported, &head(&own)?)?;
        durable::rename(&own, &self.file(media))?;
        if own != path {
            // Removed only now, when a kill can no longer lose the copy.
            fs::remove_file(path)?;
        }
        Ok(media)
    }

    /// Copies a file that some process may still have open to a place that no child can reach. Takes no extra space where the file system
    /// can share blocks; elsewhere both exist for a moment.
    fn copied(&self, from: &Path, go_on: impl Fn() -> Result<(), AcceptError>) -> Result<PathBuf, AcceptError> {
        let copy = self.copy();
        remove(&copy)?;
        let (from_file, about) = open_regular(from)?;
        let mut to = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&copy)?;
        // Ignores anything that is appended during the copy.
        let mut left = about.len();
        while left > 0 {
            go_on()?;
            let copied = io::copy(&mut (&from_file).take(left.min(PIECE)), &mut to)?;
            if copied == 0 {
                break;
            }
            left = left.saturating_sub(copied);
        }
        Ok(copy)
    }
}

fn head(path: &Path) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(HEAD);
    open_regular(path)?.0.take(HEAD as u64).read_to_end(&mut head)?;
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    use crate::{media::MediaFolder, tasks::id::TaskId};

    const VIDEO: &[u8] = b"\0\0\0\x20ftypisom\0\0\x02\0";

    fn job() -> (tempfile::TempDir, MediaFolder, TaskId, JobFolder) {
        let dir = tempfile::tempdir().unwrap();
        let folder = MediaFolder::open(&dir.path().join("media")).unwrap();
        let id = TaskId::random();
        let job = folder.job(id);
        job.create().unwrap();
        (dir, folder, id, job)
    }

    fn accept(job: &JobFolder, reported: &Path) -> Result<MediaType, AcceptError> {
        job.accept(reported, Leftovers::None, || Ok(()))
    }

    #[test]
    fn a_process_that_keeps_a_file_open_cannot_change_what_was_accepted() {
        let (_dir, _folder, _id, job) = job();
        let path = job.out().join("media.mp4");
        let video = VIDEO.repeat(1_000);
        fs::write(&path, &video).unwrap();
        let open = OpenOptions::new().write(true).open(&path).unwrap();
        let stopped = || Err(AcceptError::Stopped);
        assert!(matches!(job.accept(&path, Leftovers::Possible, stopped), Err(AcceptError::Stopped)));
        let full = || Err(NoRoom::Full.into());
        assert!(matches!(job.accept(&path, Leftovers::Possible, full), Err(AcceptError::NoRoom(NoRoom::Full))));
        assert_eq!(job.accepted().unwrap(), None);
        // The remains of a copy that was stopped do not get in the way.
        let media = job.accept(&path, Leftovers::Possible, || Ok(())).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&open, b"changed", 1_000).unwrap();
        assert!(fs::read(job.file(media)).unwrap() == video);
        assert_eq!(fs::metadata(job.file(media)).unwrap().mode() & 0o777, 0o600);
        assert!(!path.exists() && !job.copy().exists());
    }

    #[test]
    fn a_file_is_accepted_and_published_under_its_id() {
        let (_dir, folder, id, job) = job();
        fs::write(job.out().join("media.mp4"), VIDEO).unwrap();
        let media = accept(&job, &job.out().join("media.mp4")).unwrap();
        assert_eq!(folder.finished(id).unwrap(), None, "not before it is published");
        folder.publish(id).unwrap();
        assert_eq!(fs::read(folder.file(id, media)).unwrap(), VIDEO);
        job.discard().unwrap();
        assert!(!job.work().exists());
        folder.remove(id).unwrap();
        assert_eq!(folder.finished(id).unwrap(), None);
    }

    #[test]
    fn anything_but_a_media_file_of_the_job_is_refused() {
        let (dir, _, _, job) = job();
        let outside = dir.path().join("other.mp4");
        fs::write(&outside, VIDEO).unwrap();
        let out = job.out();
        std::os::unix::fs::symlink(&outside, out.join("link.mp4")).unwrap();
        fs::create_dir(out.join("folder.mp4")).unwrap();
        fs::write(out.join("empty.mp4"), "").unwrap();
        fs::write(out.join("list.mp4"), "#EXTM3U\nfile:///x.mp4\n").unwrap();
        fs::write(out.join("run.desktop"), VIDEO).unwrap();
        fs::write(out.join("picture.mp4"), b"\x89PNG\r\n\x1a\n\0").unwrap();
        fs::write(out.join("noise.bin"), b"\0\0\0\0 something else").unwrap();
        for reported in [outside, "/etc/passwd".into(), out.join("../../x.mp4"), out.join("missing.mp4")] {
            assert!(accept(&job, &reported).is_err(), "{}", reported.display());
        }
        for reported in ["link.mp4", "folder.mp4", "empty.mp4", "list.mp4", "run.desktop", "picture.mp4", "noise.bin"] {
            assert!(accept(&job, &out.join(reported)).is_err(), "{reported}");
        }
        assert_eq!(job.accepted().unwrap(), None);
    }
}
