//! The working folder of one job, of which its child can write only to `work/`.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use sallyport_core::files::durable;

use super::{
    content::{THUMBNAIL, content, file_name, language_of, subtitles_name},
    files::{make_private, real_folder, sole},
    removal::remove,
};
use crate::tasks::{finished::Finished, language::Language, media_type::MediaType};

/// The working folder of one job. Its child can write to a part of it.
#[derive(Clone, Debug)]
pub(crate) struct JobFolder(PathBuf);

impl JobFolder {
    pub(super) fn new(path: PathBuf) -> Self {
        Self(path)
    }

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

    /// Returns the path of the note of what is safely on disk. No child can reach it.
    pub(crate) fn note(&self) -> PathBuf {
        self.0.join("synced.json")
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

    /// Returns the path of a copy of the reported file.
    pub(super) fn copy(&self) -> PathBuf {
        self.0.join("copy")
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

    /// Removes the folder and everything in it.
    pub(crate) fn discard(&self) -> io::Result<()> {
        remove(&self.0)
    }

    /// Returns the folder that becomes the finished one. No child can reach it.
    pub(crate) fn ready(&self) -> PathBuf {
        self.0.join("ready")
    }
}
