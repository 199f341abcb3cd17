//! Tasks: what users have requested, and what is known about it. Leaf types only, which every room above may use.

pub(super) mod caller;
pub(super) mod description;
pub(super) mod digest;
pub(super) mod file_name;
pub(super) mod finished;
pub(super) mod id;
pub(super) mod language;
pub(super) mod media_type;
pub(super) mod order;
pub(super) mod owner;
pub(super) mod playlist;
pub(super) mod premiere;
pub(super) mod progress;
pub(super) mod retries;
pub(super) mod source;
pub(super) mod subtitles;
pub(super) mod task;
