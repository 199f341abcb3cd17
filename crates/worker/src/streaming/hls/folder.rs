//! Where a prepared stream is stored: beside its file, and while ffmpeg writes it, in its own folder among those of the jobs.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use sallyport_core::files::durable;
use uuid::Uuid;

use super::playlist::Playlist;
use crate::{
    media::{
        MediaFolder,
        files::{make_private, open_regular},
        removal,
    },
    tasks::id::TaskId,
};

/// The media file, and its index, from which the playlist is made.
pub(super) const STREAM: &str = "stream.mp4";
pub(super) const INDEX: &str = "index.m3u8";

/// The largest index, in bytes: some hundred for each segment of a video of many hours.
const MAX_INDEX: u64 = 4 << 20;

/// The shortest text of a segment in an index, in bytes: three lines, one of which is the name of the media file.
const LEAST_SEGMENT: usize = 50;

/// The folder of a prepared stream, which may not exist yet.
pub(super) struct Prepared(PathBuf);

/// The folder of a stream that is being prepared. It is removed on drop.
pub(super) struct StagingFolder(PathBuf);

impl Prepared {
    pub(super) fn of(media: &MediaFolder, id: TaskId) -> Self {
        Self(media.hls(id))
    }

    pub(super) fn stream(&self) -> PathBuf {
        self.0.join(STREAM)
    }

    /// Returns the size in bytes; 0 if there is no stream.
    pub(super) fn size(&self) -> u64 {
        fs::symlink_metadata(self.stream()).map_or(0, |about| about.len())
    }

    pub(super) fn is_there(&self) -> bool {
        fs::symlink_metadata(self.0.join(INDEX)).is_ok_and(|about| about.is_file())
    }

    /// Returns the playlist for a media file at `uri`, and records that the stream is in use.
    pub(super) fn playlist(&self, uri: &str) -> io::Result<String> {
        let index = self.0.join(INDEX);
        let playlist = read(&index, self.size())?;
        // Best effort: streams can be served from a read-only disk as well.
        drop(OpenOptions::new().write(true).open(index).and_then(|file| file.set_modified(SystemTime::now())));
        Ok(playlist.write(uri))
    }

    /// Returns an upper bound for the size of the playlist with `uri`, in bytes. It is the index with another URI for each segment.
    pub(super) fn playlist_size(&self, uri: &str) -> io::Result<usize> {
        let index = fs::symlink_metadata(self.0.join(INDEX))?.len().min(MAX_INDEX);
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        // The header of the playlist contains the URI as well.
        Ok(index.saturating_add(uri.len().saturating_mul(index / LEAST_SEGMENT + 1)))
    }

    /// Returns how long the stream has been unused; none if it does not exist, or if the clock was set back.
    pub(super) fn idle(&self) -> Option<Duration> {
        fs::symlink_metadata(self.0.join(INDEX)).ok()?.modified().ok()?.elapsed().ok()
    }

    /// Moves the folder away atomically, then deletes it.
    pub(super) fn remove(&self, media: &MediaFolder) -> io::Result<()> {
        let gone = media.jobs().join(format!("hls-{}", Uuid::new_v4()));
        durable::rename_for_now(&self.0, &gone)?;
        removal::remove(&gone)
    }
}

impl StagingFolder {
    pub(super) fn begin(media: &MediaFolder) -> io::Result<Self> {
        let staging = Self(media.jobs().join(format!("hls-{}", Uuid::new_v4())));
        make_private(&staging.folder())?;
        make_private(&staging.ready())?;
        Ok(staging)
    }

    /// The only part of this folder that ffmpeg can access.
    pub(super) fn folder(&self) -> PathBuf {
        self.0.join("made")
    }

    /// Validates ffmpeg's output and moves it into place durably.
    pub(super) fn publish(&self, to: &Prepared) -> io::Result<()> {
        let made = self.folder();
        let ready = self.ready();
        // An error here is ffmpeg's fault; a `NotFound` further down means that the download's folder is gone.
        let (_, about) = open_regular(&made.join(STREAM)).map_err(io::Error::other)?;
        let playlist = read(&made.join(INDEX), about.len()).map_err(io::Error::other)?;
        durable::rename(&made.join(STREAM), &ready.join(STREAM))?;
        let mut index = OpenOptions::new().write(true).create_new(true).mode(0o600).open(ready.join(INDEX))?;
        index.write_all(playlist.write(STREAM).as_bytes())?;
        index.sync_all()?;
        durable::rename(&ready, &to.0)
    }

    fn ready(&self) -> PathBuf {
        self.0.join("ready")
    }
}

impl Drop for StagingFolder {
    fn drop(&mut self) {
        let path = std::mem::take(&mut self.0);
        if let Err(error) = removal::remove(&path) {
            tracing::warn!(%error, "the folder of a stream in preparation could not be removed");
        }
    }
}

fn read(index: &Path, length: u64) -> io::Result<Playlist> {
    let (file, about) = open_regular(index)?;
    if about.len() > MAX_INDEX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut text = String::new();
    file.take(MAX_INDEX).read_to_string(&mut text)?;
    Playlist::read(&text, length).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A prepared stream with this many segments, each of one byte.
    fn prepared(segments: usize) -> (tempfile::TempDir, Prepared) {
        let dir = tempfile::tempdir().unwrap();
        let head = "#EXTM3U\n#EXT-X-MAP:URI=\"x\",BYTERANGE=\"1@0\"\n";
        let lines = |at: usize| format!("#EXTINF:0.5,\n#EXT-X-BYTERANGE:1@{at}\nx\n");
        let text: String = [head.to_owned()].into_iter().chain((1..=segments).map(lines)).collect();
        let length = u64::try_from(segments + 1).unwrap();
        fs::write(dir.path().join(STREAM), vec![0; segments + 1]).unwrap();
        fs::write(dir.path().join(INDEX), Playlist::read(&text, length).unwrap().write(STREAM)).unwrap();
        let prepared = Prepared(dir.path().to_owned());
        (dir, prepared)
    }

    #[test]
    fn the_size_of_a_playlist_is_bounded_before_it_is_written() {
        for segments in [1, 9, 2_000] {
            let (_dir, prepared) = prepared(segments);
            for uri in [STREAM.to_owned(), format!("{STREAM}?{}", "x".repeat(400))] {
                let most = prepared.playlist_size(&uri).unwrap();
                let text = prepared.playlist(&uri).unwrap();
                assert!(text.len() <= most && most < text.len() * 2 + 1_000, "{segments}: {} of {most}", text.len());
            }
        }
    }
}
