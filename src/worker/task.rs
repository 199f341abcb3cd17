//! A download task: its identity, its states and what is known of it.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use thiserror::Error;
use uuid::Uuid;

use super::{
    digest::Digest,
    file_name::public_name,
    language::Languages,
    media_type::MediaType,
    order::{Output, Priority, Quality},
    playlist::Part,
    subtitles::Wanted,
};
use crate::worker::owner::Owner;

/// A task's id: a random UUID in its canonical spelling, hard to guess and safe as a folder's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TaskId(Uuid);

impl From<TaskId> for Uuid {
    fn from(id: TaskId) -> Self {
        id.0
    }
}

/// A text that is no task's id.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("not a task id")]
pub(crate) struct InvalidTaskId;

/// Where a task is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// Waits for its turn, for the first time or again after an interruption.
    Pending,
    Downloading,
    /// Everything is here; it is merged, judged and moved into place.
    Processing,
    /// A list that was read: its films are under way.
    Expanded,
    Completed,
    Error,
    Cancelled,
    /// Hidden from every client; its files go, then the task itself.
    Removing,
}

/// A status that no version of the worker wrote.
#[derive(Debug, Error)]
#[error("unknown status {0:?}")]
pub(crate) struct UnknownStatus(String);

/// One download, from the order to the file.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) id: TaskId,
    pub(crate) owner: Owner,
    /// The source as it was judged when it was ordered; judged again before it is fetched.
    pub(crate) url: String,
    pub(crate) quality: Quality,
    pub(crate) output: Output,
    pub(crate) priority: Priority,
    /// The subtitles that it is to have.
    pub(crate) wanted: Wanted,
    pub(crate) part: Part,
    /// The largest file that its owner may have, in bytes; none for what the worker allows anybody.
    pub(crate) max_filesize: Option<u64>,
    /// Its source was announced at an earlier look, so the task waits while the source is live.
    pub(crate) announced: bool,
    pub(crate) status: Status,
    pub(crate) title: String,
    pub(crate) format_note: String,
    pub(crate) filesize: u64,
    pub(crate) media: Option<MediaType>,
    /// Of its finished file; one that is older than this has none.
    pub(crate) digest: Option<Digest>,
    pub(crate) has_thumbnail: bool,
    /// The subtitles that its finished file has.
    pub(crate) subtitles: Languages,
    pub(crate) error_message: String,
    pub(crate) created_at: Timestamp,
    pub(crate) completed_at: Option<Timestamp>,
}

impl TaskId {
    pub(crate) fn random() -> Self {
        Self(Uuid::new_v4())
    }
}

impl FromStr for TaskId {
    type Err = InvalidTaskId;

    fn from_str(text: &str) -> Result<Self, InvalidTaskId> {
        let id = Uuid::try_parse(text).map(Self).map_err(|_| InvalidTaskId)?;
        if id.to_string() == text { Ok(id) } else { Err(InvalidTaskId) }
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

impl Status {
    /// What clients see.
    pub(crate) const SHOWN: [Self; 6] =
        [Self::Pending, Self::Downloading, Self::Processing, Self::Completed, Self::Error, Self::Cancelled];

    /// As clients see it: to them, a list is downloading while its films are.
    pub(crate) fn shown(self) -> &'static str {
        match self {
            Self::Expanded => Self::Downloading.name(),
            other => other.name(),
        }
    }

    /// As it is stored.
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
    /// A task that nobody has begun.
    pub(crate) fn new(owner: Owner, url: String, quality: Quality, output: Output) -> Self {
        Self {
            id: TaskId::random(),
            owner,
            url,
            quality,
            output,
            priority: Priority::default(),
            wanted: Wanted::default(),
            part: Part::Alone,
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

    /// The type of its finished file; none before it is completed.
    pub(crate) fn finished(&self) -> Option<MediaType> {
        self.media.filter(|_| self.status == Status::Completed)
    }

    /// The public name of its finished file.
    pub(crate) fn file_name(&self) -> Option<String> {
        self.finished().map(|media| public_name(&self.title, self.id, media.extension()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_one_spelling() {
        let id = TaskId::random().to_string();
        assert!(id.parse::<TaskId>().is_ok());
        for other in [id.replace('-', ""), id.to_uppercase() + "A", format!("{{{id}}}"), format!("urn:uuid:{id}")] {
            assert_eq!(other.parse::<TaskId>(), Err(InvalidTaskId), "{other}");
        }
    }
}
