//! What is known of finished files.

use jiff::Timestamp;

use super::{id::TaskId, language::Languages, media_type::MediaType, owner::Owner, task::Status};

/// The content of a finished folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finished {
    pub(crate) media: MediaType,
    pub(crate) bytes: u64,
    pub(crate) has_thumbnail: bool,
    pub(crate) subtitles: Languages,
}

/// A finished file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FinishedFile {
    pub(crate) id: TaskId,
    pub(crate) owner: Owner,
    pub(crate) bytes: u64,
    /// When it was last played, or when it was finished if it was never played.
    pub(crate) last_used: Timestamp,
    pub(crate) media: MediaType,
}

/// A task that has, or had, a finished file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LibraryTask {
    pub(crate) id: TaskId,
    pub(crate) status: Status,
}

/// The file of another task, which was identical when it was finished.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Duplicate {
    pub(crate) id: TaskId,
    pub(crate) media: MediaType,
}
