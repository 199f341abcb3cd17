//! A download task: its identity, its states and its metadata.

use std::str::FromStr;

use jiff::Timestamp;
use thiserror::Error;

use super::{
    digest::Digest,
    file_name::public_name,
    id::TaskId,
    language::Languages,
    media_type::MediaType,
    order::{Output, Priority, Quality},
    owner::Owner,
    playlist::PlaylistRole,
    subtitles::WantedSubtitles,
};

/// The state of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// Waits for its turn, for the first time or again after an interruption.
    Pending,
    Downloading,
    /// Everything is downloaded and is being merged, checked and moved into place.
    Processing,
    /// A playlist that has been read and whose videos are tasks of their own.
    Expanded,
    Completed,
    Error,
    Cancelled,
    /// Hidden from every client; its files are removed first, then the task itself.
    Removing,
}

/// The error for a stored status that no version of the worker has written.
#[derive(Debug, Error)]
#[error("unknown status {0:?}")]
pub(crate) struct UnknownStatus(String);

/// One download, from the request to the file.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) id: TaskId,
    pub(crate) owner: Owner,
    /// The source URL as it was validated at the request; it is validated again before it is fetched.
    pub(crate) url: String,
    pub(crate) quality: Quality,
    pub(crate) output: Output,
    pub(crate) priority: Priority,
    /// The requested subtitles.
    pub(crate) wanted: WantedSubtitles,
    pub(crate) playlist_role: PlaylistRole,
    /// The owner's own limit for the size of a file, in bytes; `None` if only the worker's limit applies.
    pub(crate) max_filesize: Option<u64>,
    /// The source was announced at an earlier check, so the task waits while the source is live.
    pub(crate) announced: bool,
    pub(crate) status: Status,
    pub(crate) title: String,
    pub(crate) format_note: String,
    pub(crate) filesize: u64,
    pub(crate) media: Option<MediaType>,
    /// The digest of its finished file; `None` for files from versions without digests.
    pub(crate) digest: Option<Digest>,
    pub(crate) has_thumbnail: bool,
    /// The subtitles that its finished file has.
    pub(crate) subtitles: Languages,
    pub(crate) error_message: String,
    pub(crate) created_at: Timestamp,
    pub(crate) completed_at: Option<Timestamp>,
}

impl Status {
    /// The states that clients see.
    pub(crate) const SHOWN: [Self; 6] =
        [Self::Pending, Self::Downloading, Self::Processing, Self::Completed, Self::Error, Self::Cancelled];

    /// Returns the name that clients see. To them, a playlist is downloading while its videos are.
    pub(crate) fn shown(self) -> &'static str {
        match self {
            Self::Expanded => Self::Downloading.name(),
            other => other.name(),
        }
    }

    /// Returns the name that is stored.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Downloading => "downloading",
            Self::Processing => "processing",
            Self::Expanded => "expanded",
            Self::Completed => "completed",
            Self::Error => "error",
            Self::Cancelled => "cancelled",
            Self::Removing => "removing",
        }
    }
}

impl FromStr for Status {
    type Err = UnknownStatus;

    fn from_str(text: &str) -> Result<Self, UnknownStatus> {
        let mut all = Self::SHOWN.into_iter().chain([Self::Expanded, Self::Removing]);
        all.find(|status| status.name() == text).ok_or_else(|| UnknownStatus(text.to_owned()))
    }
}

impl Task {
    /// Creates a pending task.
    pub(crate) fn new(owner: Owner, url: String, quality: Quality, output: Output) -> Self {
        Self {
            id: TaskId::random(),
            owner,
            url,
            quality,
            output,
            priority: Priority::default(),
            wanted: WantedSubtitles::default(),
            playlist_role: PlaylistRole::Single,
            max_filesize: None,
            announced: false,
            status: Status::Pending,
            title: String::new(),
            format_note: String::new(),
            filesize: 0,
            media: None,
            digest: None,
            has_thumbnail: false,
            subtitles: Languages::default(),
            error_message: String::new(),
            created_at: Timestamp::now(),
            completed_at: None,
        }
    }

    /// Returns the type of its finished file, or `None` unless it is completed.
    pub(crate) fn finished(&self) -> Option<MediaType> {
        self.media.filter(|_| self.status == Status::Completed)
    }

    /// Returns the public name of its finished file.
    pub(crate) fn file_name(&self) -> Option<String> {
        self.finished().map(|media| public_name(&self.title, self.id, media.extension()))
    }
}
