//! The media folder: `{id}/media.{ext}` for what is finished, `.jobs/{id}/` for what is not; of the latter, `work/` is the child's.
//!
//! Every path here is made of a task's id and constants. What a job made is judged in its own folder and then moved
//! into place by one rename, so a finished folder is whole or not there, whenever the machine stops.

use std::{
    ffi::OsStr,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use thiserror::Error;

use super::{
    disk::NoRoom,
    language::{Language, Languages},
    library,
    media_type::MediaType,
    parts::Parts,
    removal::remove,
    sandbox::Leftovers,
    sharing::Twin,
    sniff::HEAD,
    task::TaskId,
};
use crate::{config::LibraryAccess, durable};

/// A finished folder's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finished {
    pub(crate) media: MediaType,
    pub(crate) bytes: u64,
    pub(crate) has_thumbnail: bool,
    pub(crate) subtitles: Languages,
}

/// A file's place on disk, whatever its names are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

/// The folder of everything that is kept.
#[derive(Clone, Debug)]
pub(crate) struct MediaFolder {
    path: PathBuf,
    access: LibraryAccess,
}

/// The folder that one job works in; its child has a part of it.
#[derive(Clone, Debug)]
pub(crate) struct JobFolder(PathBuf);

/// Why a job's result is not kept.
#[derive(Debug, Error)]
pub(crate) enum AcceptError {
    #[error("the reported file is not a file of the job")]
    Outside,
    #[error("the reported file is empty")]
    Empty,
    #[error("the source sent a kind of file that is not kept")]
    UnknownType,
    #[error("the source sent a text or a playlist in place of media")]
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

/// So much is copied between two looks at whether to stop, in bytes.
const PIECE: u64 = 64 << 20;

impl MediaFolder {
    /// Makes the folder where it is missing; only its owner may look into it.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        make_private(&path.join(JOBS))?;
        Ok(Self { path: fs::canonicalize(path)?, access: LibraryAccess::Owner })
    }

    /// Lets those accounts read it that `access` means, and no others, also what is finished already.
    pub(crate) fn for_readers(self, access: LibraryAccess) -> io::Result<Self> {
        let folder = Self { access, ..self };
        library::open_top(access, &folder.path)?;
        for id in folder.tasks()? {
            folder.set_readers(id, &folder.folder(id));
        }
        Ok(folder)
    }

    /// A file that its readers cannot read is still a file for its owner.
    fn set_readers(&self, id: TaskId, folder: &Path) {
        if let Err(error) = library::open(self.access, &self.path, folder) {
            tracing::error!(
                task = %id,
                %error,
                "cannot set who may read a finished file: the worker's account must be in the group of media_dir, or the \
                 folder must have the setgid bit"
            );
        }
    }

    /// Where children may run that belong to no task.
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

    /// Where a prepared stream of the finished file lies.
    pub(crate) fn hls(&self, id: TaskId) -> PathBuf {
        self.folder(id).join(HLS)
    }

    /// Every task that something finished lies under.
    pub(crate) fn tasks(&self) -> io::Result<Vec<TaskId>> {
        let names = fs::read_dir(&self.path)?.flatten().map(|entry| entry.file_name());
        Ok(names.filter_map(|name| name.to_str()?.parse().ok()).collect())
    }

    /// What is finished under this id, if anything is.
    pub(crate) fn finished(&self, id: TaskId) -> io::Result<Option<Finished>> {
        content(&self.folder(id))
    }

    /// Moves what a job has ready into place, lastingly.
    pub(crate) fn publish(&self, id: TaskId) -> io::Result<()> {
        let ready = self.job(id).ready();
        real_folder(&ready)?;
        self.set_readers(id, &ready);
        for entry in fs::read_dir(&ready)? {
            durable::sync(&entry?.path())?;
        }
        durable::rename(&ready, &self.folder(id))
    }

    /// Has a finished file be another name for that of `twin`, which has the same content, and whole under its name all the while.
    pub(crate) fn replace_by_link(&self, id: TaskId, media: MediaType, twin: &Twin) -> io::Result<()> {
        // Among the jobs, where the next start removes what a kill has left.
        let link = self.jobs().join(format!("link-{id}"));
        fs::hard_link(self.file(twin.id, twin.media), &link)?;
        let replaced = durable::rename(&link, &self.file(id, media));
        if replaced.is_err() || link.exists() {
            remove(&link)?;
        }
        replaced
    }

    /// Where the content of a finished file lies on disk; tasks that share it have the same.
    pub(crate) fn place(&self, id: TaskId, media: MediaType) -> Option<Place> {
        let about = fs::symlink_metadata(self.file(id, media)).ok()?;
        Some(Place { device: about.dev(), inode: about.ino() })
    }

    /// Removes everything of this id.
    pub(crate) fn remove(&self, id: TaskId) -> io::Result<()> {
        // The one is removed whatever becomes of the other.
        let job = self.job(id).discard();
        remove(&self.folder(id)).and(job)
    }

    /// Removes the folders of everything that runs but these jobs. One that cannot be removed keeps none of the others.
    pub(crate) fn discard_jobs_except(&self, kept: &[TaskId]) -> io::Result<()> {
        for entry in fs::read_dir(self.jobs())? {
            let entry = entry?;
            let id = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if !id.is_some_and(|id| kept.contains(&id)) {
                let path = entry.path();
                if let Err(error) = remove(&path) {
                    tracing::error!(path = %path.display(), %error, "the folder of an earlier job could not be removed");
                }
            }
        }
        Ok(())
    }

    /// What lies in the folder and is of no task that `knows` knows.
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
    /// Makes the folder; what an interrupted run left in it stays.
    pub(crate) fn create(&self) -> io::Result<()> {
        if real_folder(&self.work()).is_err() {
            // Of a version by which the child could write to all of it.
            self.discard()?;
        }
        make_private(&self.out())?;
        make_private(&self.temporary())?;
        make_private(&self.ready())
    }

    /// What it has of a download that is not finished.
    pub(crate) fn parts(&self) -> Parts {
        Parts::new(&self.0, self.work())
    }

    /// All that a child may write to.
    pub(crate) fn work(&self) -> PathBuf {
        self.0.join("work")
    }

    /// Where yt-dlp puts what is whole.
    pub(crate) fn out(&self) -> PathBuf {
        self.work().join("out")
    }

    /// Where yt-dlp puts what is not.
    pub(crate) fn temporary(&self) -> PathBuf {
        self.work().join("tmp")
    }

    /// Puts the thumbnail that a child has made beside the accepted file.
    pub(crate) fn take_thumbnail(&self, made: &Path) -> io::Result<()> {
        sole(made)?;
        durable::rename(made, &self.ready().join(THUMBNAIL))
    }

    /// Makes an empty folder for a child that makes a thumbnail.
    pub(crate) fn begin_thumbnail(&self) -> io::Result<PathBuf> {
        self.begin("thumbnail")
    }

    /// Where the subtitles of one language are, beside the accepted file.
    pub(crate) fn subtitles(&self, language: &Language) -> PathBuf {
        self.ready().join(subtitles_name(language))
    }

    /// Removes subtitles that an earlier run, or a child, has put beside the accepted file.
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

    /// Makes an empty folder for a child that fetches subtitles.
    pub(crate) fn begin_subtitles(&self) -> io::Result<PathBuf> {
        self.begin("subtitles")
    }

    fn begin(&self, name: &str) -> io::Result<PathBuf> {
        let folder = self.0.join(name);
        remove(&folder)?;
        // Not where a child that runs in here could have put a link meanwhile.
        DirBuilder::new().mode(0o700).create(&folder)?;
        Ok(folder)
    }

    /// The path of an accepted file.
    pub(crate) fn file(&self, media: MediaType) -> PathBuf {
        self.ready().join(file_name(media))
    }

    /// What was accepted, in this run or in one that was interrupted after it.
    pub(crate) fn accepted(&self) -> io::Result<Option<Finished>> {
        content(&self.ready())
    }

    /// Judges the file that yt-dlp reported and takes it if it is one; what somebody may still write to is taken as a copy, which ends
    /// with the error where `go_on` has one.
    pub(crate) fn accept(
        &self,
        reported: &Path,
        leftovers: Leftovers,
        go_on: impl Fn() -> Result<(), AcceptError>,
    ) -> Result<MediaType, AcceptError> {
        // This was the child's to change.
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
            // Only now that a kill can't lose the copy.
            fs::remove_file(path)?;
        }
        Ok(media)
    }

    /// Makes a file of its own of what somebody may have open, out of every child's reach. It costs no room where the disk can share
    /// blocks; elsewhere there are two for a moment.
    fn copy(&self, from: &Path, go_on: impl Fn() -> Result<(), AcceptError>) -> Result<PathBuf, AcceptError> {
        let copy = self.0.join("copy");
        remove(&copy)?;
        let (from_file, about) = open_regular(from)?;
        let mut to = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&copy)?;
        // Not what somebody goes on to write.
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

    /// The folder that becomes the finished one, out of every child's reach.
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

/// Makes a folder, and those above it, where they are missing; only their owner may look into them.
pub(crate) fn make_private(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Opens a regular file, and no link to one.
pub(crate) fn open_regular(path: &Path) -> io::Result<(File, fs::Metadata)> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    let about = file.metadata()?;
    if about.is_file() { Ok((file, about)) } else { Err(io::Error::other("not a regular file")) }
}

/// A regular file that has one name: under another, the next child could still change it.
fn sole(path: &Path) -> io::Result<fs::Metadata> {
    let about = fs::symlink_metadata(path)?;
    if about.is_file() && about.nlink() == 1 { Ok(about) } else { Err(io::Error::other("not a file of one name")) }
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
    fn who_keeps_a_file_open_changes_nothing_of_what_was_accepted() {
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
        // What a copy that was stopped has left is in nobody's way.
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
    fn what_is_not_a_media_file_of_the_job_is_refused() {
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
