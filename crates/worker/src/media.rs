//! The media folder: `{id}/media.{ext}` for finished files and `.jobs/{id}/` for unfinished ones, of which only `work/` is writable by
//! the child.
//!
//! Every path here is built from a task's id and constants. The result of a job is checked in the job's folder and then moved into place
//! by a single rename, so a finished folder is either complete or absent, even after a crash.

pub(super) mod dedup;
pub(super) mod digest;
pub(super) mod file_name;
pub(super) mod library;
pub(super) mod media_type;
pub(super) mod read_leases;
pub(super) mod reconcile;
pub(super) mod removal;
pub(super) mod retention;
pub(super) mod sniff;

use std::{
    ffi::OsStr,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use sallyport_core::{config::LibraryAccess, files::durable};
use thiserror::Error;

use self::{dedup::Duplicate, media_type::MediaType, removal::remove, sniff::HEAD};
use super::{
    disk::NoRoom,
    jobs::parts::Parts,
    sandbox::Leftovers,
    tasks::{
        language::{Language, Languages},
        task::TaskId,
    },
};

/// The content of a finished folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finished {
    pub(crate) media: MediaType,
    pub(crate) bytes: u64,
    pub(crate) has_thumbnail: bool,
    pub(crate) subtitles: Languages,
}

/// The identity of a file on disk, independent of its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct FileId {
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

/// The folder that holds all media.
#[derive(Clone, Debug)]
pub(crate) struct MediaFolder {
    path: PathBuf,
    access: LibraryAccess,
}

/// The working folder of one job. Its child can write to a part of it.
#[derive(Clone, Debug)]
pub(crate) struct JobFolder(PathBuf);

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

const MEDIA_STEM: &str = "media";
const THUMBNAIL: &str = "thumbnail.jpg";
const JOBS: &str = ".jobs";
const HLS: &str = "hls";

/// How much is copied between two checks for whether to stop, in bytes.
const PIECE: u64 = 64 << 20;

impl MediaFolder {
    /// Opens the folder, creating it if necessary; a new folder is accessible to its owner only.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        make_private(&path.join(JOBS))?;
        Ok(Self { path: fs::canonicalize(path)?, access: LibraryAccess::Owner })
    }

    /// Sets who can read the folder and everything in it, including what is already finished.
    pub(crate) fn for_readers(self, access: LibraryAccess) -> io::Result<Self> {
        let folder = Self { access, ..self };
        library::open_top(access, &folder.path)?;
        for id in folder.tasks()? {
            folder.set_readers(id, &folder.folder(id));
        }
        Ok(folder)
    }

    /// Failures are only logged: the worker can still serve a file that other accounts cannot read.
    fn set_readers(&self, id: TaskId, folder: &Path) {
        if let Err(error) = library::open(self.access, &self.path, folder) {
            tracing::error!(
                task = %id,
                %error,
                "cannot set the permissions of a finished file: the worker's account must be in the group of media_dir, or the \
                 folder must have the setgid bit"
            );
        }
    }

    /// Returns the folder of all jobs, in which children without a task run too.
    pub(crate) fn jobs(&self) -> PathBuf {
        self.path.join(JOBS)
    }

    pub(crate) fn job(&self, id: TaskId) -> JobFolder {
        JobFolder(self.jobs().join(id.to_string()))
    }

    pub(crate) fn file(&self, id: TaskId, media: MediaType) -> PathBuf {
        self.folder(id).join(file_name(media))
    }

    pub(crate) fn thumbnail(&self, id: TaskId) -> PathBuf {
        self.folder(id).join(THUMBNAIL)
    }

    pub(crate) fn subtitles(&self, id: TaskId, language: &Language) -> PathBuf {
        self.folder(id).join(subtitles_name(language))
    }

    /// Returns the folder of the prepared HLS stream of a finished file.
    pub(crate) fn hls(&self, id: TaskId) -> PathBuf {
        self.folder(id).join(HLS)
    }

    /// Returns the ids of all finished folders.
    pub(crate) fn tasks(&self) -> io::Result<Vec<TaskId>> {
        let names = fs::read_dir(&self.path)?.flatten().map(|entry| entry.file_name());
        Ok(names.filter_map(|name| name.to_str()?.parse().ok()).collect())
    }

    /// Returns the content of the finished folder of this id, if there is one.
    pub(crate) fn finished(&self, id: TaskId) -> io::Result<Option<Finished>> {
        content(&self.folder(id))
    }

    /// Moves the result of a job into place and syncs it to disk.
    pub(crate) fn publish(&self, id: TaskId) -> io::Result<()> {
        let ready = self.job(id).ready();
        real_folder(&ready)?;
        self.set_readers(id, &ready);
        for entry in fs::read_dir(&ready)? {
            durable::sync(&entry?.path())?;
        }
        durable::rename(&ready, &self.folder(id))
    }

    /// Replaces a finished file atomically with a hard link to that of `duplicate`, which has the same content.
    pub(crate) fn replace_by_link(&self, id: TaskId, media: MediaType, duplicate: &Duplicate) -> io::Result<()> {
        // In the folder of jobs, where the next startup removes it if the worker is killed here.
        let link = self.jobs().join(format!("link-{id}"));
        fs::hard_link(self.file(duplicate.id, duplicate.media), &link)?;
        let replaced = durable::rename(&link, &self.file(id, media));
        if replaced.is_err() || link.exists() {
            remove(&link)?;
        }
        replaced
    }

    /// Returns the identity of a finished file on disk. Tasks that share the file return the same one.
    pub(crate) fn place(&self, id: TaskId, media: MediaType) -> Option<FileId> {
        let about = fs::symlink_metadata(self.file(id, media)).ok()?;
        Some(FileId { device: about.dev(), inode: about.ino() })
    }

    /// Removes the finished folder and the job folder of this id.
    pub(crate) fn remove(&self, id: TaskId) -> io::Result<()> {
        // Each is removed even if the other cannot be.
        let job = self.job(id).discard();
        remove(&self.folder(id)).and(job)
    }

    /// Removes all job folders except those of `kept`. If one cannot be removed, the others still are.
    pub(crate) fn discard_jobs_except(&self, kept: &[TaskId]) -> io::Result<()> {
        for entry in fs::read_dir(self.jobs())? {
            let entry = entry?;
            let id = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if !id.is_some_and(|id| kept.contains(&id)) {
                let path = entry.path();
                if let Err(error) = remove(&path) {
                    tracing::error!(path = %path.display(), %error, "cannot remove the folder of an earlier job");
                }
            }
        }
        Ok(())
    }

    /// Returns the entries of the media folder that belong to no task for which `knows` returns true.
    pub(crate) fn strangers(&self, knows: impl Fn(TaskId) -> bool) -> io::Result<Vec<PathBuf>> {
        let mut strangers = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let name = entry.file_name();
            let id = name.to_str().and_then(|name| name.parse().ok());
            if name != JOBS && !id.is_some_and(&knows) {
                strangers.push(entry.path());
            }
        }
        Ok(strangers)
    }

    fn folder(&self, id: TaskId) -> PathBuf {
        self.path.join(id.to_string())
    }
}

impl JobFolder {
    /// Creates the folder; what an interrupted run left in it is kept.
    pub(crate) fn create(&self) -> io::Result<()> {
        if real_folder(&self.work()).is_err() {
            // Created by an older version, in which the child could write to the whole folder.
            self.discard()?;
        }
        make_private(&self.out())?;
        make_private(&self.temporary())?;
        make_private(&self.ready())
    }

    /// Returns the partial files of the download.
    pub(crate) fn parts(&self) -> Parts {
        Parts::new(&self.0, self.work())
    }

    /// Returns the only folder that the child can write to.
    pub(crate) fn work(&self) -> PathBuf {
        self.0.join("work")
    }

    /// Returns the folder in which yt-dlp puts complete files.
    pub(crate) fn out(&self) -> PathBuf {
        self.work().join("out")
    }

    /// Returns the folder in which yt-dlp puts partial files.
    pub(crate) fn temporary(&self) -> PathBuf {
        self.work().join("tmp")
    }

    /// Moves the thumbnail that a child has made next to the accepted file.
    pub(crate) fn take_thumbnail(&self, made: &Path) -> io::Result<()> {
        sole(made)?;
        durable::rename(made, &self.ready().join(THUMBNAIL))
    }

    /// Creates an empty folder for a child that makes a thumbnail.
    pub(crate) fn begin_thumbnail(&self) -> io::Result<PathBuf> {
        self.begin("thumbnail")
    }

    /// Returns the path of the subtitles of one language, next to the accepted file.
    pub(crate) fn subtitles(&self, language: &Language) -> PathBuf {
        self.ready().join(subtitles_name(language))
    }

    /// Removes subtitles that an earlier run or a child has put next to the accepted file.
    pub(crate) fn forget_subtitles(&self) -> io::Result<()> {
        real_folder(&self.ready())?;
        for entry in fs::read_dir(self.ready())? {
            let entry = entry?;
            if language_of(&entry.file_name()).is_some() {
                remove(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Creates an empty folder for a child that fetches subtitles.
    pub(crate) fn begin_subtitles(&self) -> io::Result<PathBuf> {
        self.begin("subtitles")
    }

    fn begin(&self, name: &str) -> io::Result<PathBuf> {
        let folder = self.0.join(name);
        remove(&folder)?;
        // Not recursive: this fails if a child that still runs has put a link here in the meantime.
        DirBuilder::new().mode(0o700).create(&folder)?;
        Ok(folder)
    }

    /// Returns the path of an accepted file.
    pub(crate) fn file(&self, media: MediaType) -> PathBuf {
        self.ready().join(file_name(media))
    }

    /// Returns what was accepted in this run, or in one that was interrupted afterwards.
    pub(crate) fn accepted(&self) -> io::Result<Option<Finished>> {
        content(&self.ready())
    }

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
            Leftovers::Possible => self.copy(&path, go_on)?,
        };
        if fs::symlink_metadata(&own)?.len() == 0 {
            return Err(AcceptError::Empty);
        }
        let media = MediaType::of(reported, &head(&own)?)?;
        durable::rename(&own, &self.file(media))?;
        if own != path {
            // Removed only now, when a kill can no longer lose the copy.
            fs::remove_file(path)?;
        }
        Ok(media)
    }

    /// Copies a file that some process may still have open to a place that no child can reach. Takes no extra space where the file system
    /// can share blocks; elsewhere both exist for a moment.
    fn copy(&self, from: &Path, go_on: impl Fn() -> Result<(), AcceptError>) -> Result<PathBuf, AcceptError> {
        let copy = self.0.join("copy");
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

    /// Removes the folder and everything in it.
    pub(crate) fn discard(&self) -> io::Result<()> {
        remove(&self.0)
    }

    /// Returns the folder that becomes the finished one. No child can reach it.
    pub(crate) fn ready(&self) -> PathBuf {
        self.0.join("ready")
    }
}

fn content(folder: &Path) -> io::Result<Option<Finished>> {
    for media in MediaType::all() {
        match fs::symlink_metadata(folder.join(file_name(media))) {
            Ok(about) if about.is_file() => {
                let has_thumbnail = fs::symlink_metadata(folder.join(THUMBNAIL)).is_ok_and(|about| about.is_file());
                let subtitles = subtitles_in(folder)?;
                return Ok(Some(Finished { media, bytes: about.len(), has_thumbnail, subtitles }));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

fn subtitles_in(folder: &Path) -> io::Result<Languages> {
    let mut languages = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            languages.extend(language_of(&entry.file_name()));
        }
    }
    languages.sort_by(|one, other| one.as_str().cmp(other.as_str()));
    Ok(Languages::of(languages))
}

fn file_name(media: MediaType) -> String {
    format!("{MEDIA_STEM}.{}", media.extension())
}

fn subtitles_name(language: &Language) -> String {
    format!("subtitles.{language}.vtt")
}

fn language_of(name: &OsStr) -> Option<Language> {
    name.to_str()?.strip_prefix("subtitles.")?.strip_suffix(".vtt")?.parse().ok()
}

fn head(path: &Path) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(HEAD);
    open_regular(path)?.0.take(HEAD as u64).read_to_end(&mut head)?;
    Ok(head)
}

/// Creates a folder and its missing parents, accessible to their owner only.
pub(crate) fn make_private(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Opens a regular file without following a symbolic link.
pub(crate) fn open_regular(path: &Path) -> io::Result<(File, fs::Metadata)> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    let about = file.metadata()?;
    if about.is_file() { Ok((file, about)) } else { Err(io::Error::other("not a regular file")) }
}

/// Checks that `path` is a regular file with a single name. Through a second name, the next child could still change it.
fn sole(path: &Path) -> io::Result<fs::Metadata> {
    let about = fs::symlink_metadata(path)?;
    if about.is_file() && about.nlink() == 1 {
        Ok(about)
    } else {
        Err(io::Error::other("not a regular file with a single name"))
    }
}

fn real_folder(path: &Path) -> io::Result<()> {
    let real = fs::symlink_metadata(path)?.is_dir();
    if real { Ok(()) } else { Err(io::ErrorKind::NotADirectory.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let film = VIDEO.repeat(1_000);
        fs::write(&path, &film).unwrap();
        let open = OpenOptions::new().write(true).open(&path).unwrap();
        let stopped = || Err(AcceptError::Stopped);
        assert!(matches!(job.accept(&path, Leftovers::Possible, stopped), Err(AcceptError::Stopped)));
        let full = || Err(NoRoom::Full.into());
        assert!(matches!(job.accept(&path, Leftovers::Possible, full), Err(AcceptError::NoRoom(NoRoom::Full))));
        assert_eq!(job.accepted().unwrap(), None);
        // The remains of a copy that was stopped do not get in the way.
        let media = job.accept(&path, Leftovers::Possible, || Ok(())).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&open, b"changed", 1_000).unwrap();
        assert!(fs::read(job.file(media)).unwrap() == film);
        assert_eq!(fs::metadata(job.file(media)).unwrap().mode() & 0o777, 0o600);
        assert!(!path.exists() && !job.0.join("copy").exists());
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
