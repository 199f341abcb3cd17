//! The media folder: `{id}/media.{ext}` for finished files and `.jobs/{id}/` for unfinished ones, of which only `work/` is writable by
//! the child.
//!
//! Every path here is built from a task's id and constants. The result of a job is checked in the job's folder and then moved into place
//! by a single rename, so a finished folder is either complete or absent, even after a crash.

mod accept;
mod container;
mod content;
pub(super) mod files;
mod folder;
mod job_folder;
mod library;
pub(super) mod read_leases;
pub(super) mod removal;
pub(super) mod sniff;

pub(crate) use self::{
    accept::AcceptError,
    folder::{FileId, MediaFolder},
    job_folder::JobFolder,
};
